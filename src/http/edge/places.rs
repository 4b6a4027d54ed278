//! Places that are held for a while, of which no address may take too many.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::rates::limited;

/// So many in all, and so many for one address. What is held is counted, so this needs no more room than what it counts.
#[derive(Debug)]
pub(in crate::http) struct Places {
    all: usize,
    share: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

impl Places {
    pub(in crate::http) fn new(all: usize, share: usize) -> Arc<Self> {
        Arc::new(Self { all, share, held: Mutex::default() })
    }

    /// A place, unless all are taken or this address has its share. Trusted proxies stand for many and have no share.
    pub(in crate::http) fn take(self: &Arc<Self>, address: IpAddr, trusted: bool) -> Option<Place> {
        let holder = limited(address).filter(|_| !trusted);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.all >= self.all {
            return None;
        }
        if let Some(holder) = holder {
            let mine = held.by.entry(holder).or_default();
            if *mine >= self.share {
                return None;
            }
            *mine += 1;
        }
        held.all += 1;
        Some(Place { places: self.clone(), holder })
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(in crate::http) struct Place {
    places: Arc<Places>,
    holder: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        let Some(holder) = self.holder else { return };
        if let Some(mine) = held.by.get_mut(&holder) {
            *mine -= 1;
            if *mine == 0 {
                held.by.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_address_takes_more_than_its_share_and_all_no_more_than_there_are() {
        let places = Places::new(5, 2);
        let mut held: Vec<_> = (0..3).filter_map(|_| places.take(ip("192.0.2.1"), false)).collect();
        assert_eq!(held.len(), 2);
        held.extend((0..3).filter_map(|n| places.take(ip(&format!("2001:db8::{n}")), false)));
        assert_eq!(held.len(), 4, "a /64 is one address");
        held.extend((0..3).filter_map(|_| places.take(ip("198.51.100.1"), true)));
        assert_eq!(held.len(), 5, "a proxy has no share, but there are no more");
        held.clear();
        assert!(places.held.lock().unwrap().by.is_empty());
        assert!(places.take(ip("192.0.2.1"), false).is_some());
    }
}
