//! Too much at once: what may wait is refused, so that what may not is answered.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::Class;
use crate::service::Error;

#[derive(Debug)]
pub(super) struct Shed {
    limit: usize,
    in_flight: Arc<AtomicUsize>,
}

impl Shed {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, in_flight: Arc::default() }
    }

    /// Room for a request, until it is dropped. Beyond the limit the classes are refused one after the other, each with
    /// a quarter more than the one before: nothing but revocations gets to the last.
    pub(super) fn enter(&self, class: Class) -> Result<Room, Error> {
        let quarters = match class {
            Class::Grant => Some(4),
            Class::Api => Some(5),
            Class::Discovery => Some(6),
            Class::Revocation => Some(8),
            // They wait, by the thousand: those have places of their own.
            Class::Feed => None,
        };
        let limit = quarters.map_or(usize::MAX, |quarters| self.limit.saturating_mul(quarters) / 4);
        let in_flight = quarters.map(|_| self.in_flight.clone()).unwrap_or_default();
        let room = Room(Arc::new(Inside { in_flight, limit, inside: AtomicBool::new(false) }));
        room.enter().map(|()| room)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// One of those that are being answered.
#[derive(Clone, Debug)]
pub(in crate::http) struct Room(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    in_flight: Arc<AtomicUsize>,
    limit: usize,
    inside: AtomicBool,
}

impl Room {
    /// Leaves for as long as the peer is waited for: whoever sends slowly holds a connection, and nothing else.
    pub(in crate::http) async fn outside<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Error> {
        self.0.leave();
        let done = waiting.await;
        self.enter().map(|()| done)
    }

    fn enter(&self) -> Result<(), Error> {
        let before = self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.inside.store(true, Ordering::Relaxed);
        if before < self.0.limit {
            return Ok(());
        }
        self.0.leave();
        let why = "too many requests are being answered; nothing was changed".into();
        Err(Error::Unavailable { code: "overloaded", why, retry_after: Duration::from_secs(1) })
    }
}

impl Inside {
    fn leave(&self) {
        if self.inside.swap(false, Ordering::Relaxed) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Given back also when the request is dropped.
impl Drop for Inside {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_are_refused_last_and_have_room_that_nothing_else_gets() {
        let shed = Shed::new(8);
        let mut rooms = Vec::new();
        let mut fill = |class| {
            let before = rooms.len();
            while let Ok(room) = shed.enter(class) {
                rooms.push(room);
            }
            rooms.len() - before
        };
        assert_eq!(fill(Class::Grant), 8);
        assert_eq!(fill(Class::Api), 2);
        assert_eq!(fill(Class::Discovery), 2);
        assert_eq!(fill(Class::Grant), 0);
        assert_eq!(fill(Class::Revocation), 4);
        assert!(shed.enter(Class::Feed).is_ok());
        rooms.clear();
        assert_eq!(shed.in_flight(), 0);
        let room = shed.enter(Class::Grant).unwrap();
        assert_eq!(shed.in_flight(), 1);
        drop((room.clone(), room));
        assert_eq!(shed.in_flight(), 0);
        assert!(Shed::new(usize::MAX).enter(Class::Grant).is_ok());
    }

    #[tokio::test]
    async fn whoever_is_waited_for_takes_no_room() {
        let shed = Shed::new(1);
        let slow = shed.enter(Class::Grant).unwrap();
        let seen = slow.outside(async { shed.enter(Class::Grant).is_ok() }).await;
        assert!(seen.unwrap());
        assert_eq!(shed.in_flight(), 1);
        // Coming back, it stands in line like the others.
        let mut other = None;
        let back = slow.outside(async { other = shed.enter(Class::Grant).ok() }).await;
        assert!(matches!(back, Err(Error::Unavailable { code: "overloaded", .. })));
        assert_eq!(shed.in_flight(), 1);
    }
}
