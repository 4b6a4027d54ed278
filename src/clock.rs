//! The only door to the machine's clocks and random numbers. Everything else takes them as arguments.

#[cfg(feature = "follow")]
use std::fmt;
#[cfg(feature = "server")]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Timestamp;

/// Tells the time. Two readings, because they answer different questions: `now` is what goes into a token,
/// `monotonic` measures how long something took and is never set back.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time (UTC).
    fn now(&self) -> Timestamp;
    /// Wall-clock time, up to ten milliseconds late where that is cheaper: for what is told in whole seconds.
    fn lately(&self) -> Timestamp {
        self.now()
    }
    /// Time since an arbitrary start, never set back, standing still while the machine is suspended.
    fn monotonic(&self) -> Duration;
    /// Time since an arbitrary start, never set back, running on while the machine is suspended: how old something is.
    fn boottime(&self) -> Duration {
        self.monotonic()
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 reads as zero: every token is then "not yet valid", which is the safe side.
        Timestamp::from_millis(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
    #[cfg(all(feature = "follow", target_os = "linux"))]
    fn lately(&self) -> Timestamp {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
        Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    // Elsewhere than on Linux the monotonic clock has to do; whether it stands still in suspension is the system's affair.
    #[cfg(all(feature = "follow", target_os = "linux"))]
    fn boottime(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

/// A clock that moves only when it is told to. For tests of programs that embed Rescind.
#[cfg(feature = "server")]
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicU64,
    mono: AtomicU64,
    suspended: AtomicU64,
}

#[cfg(feature = "server")]
impl ManualClock {
    /// Starts at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { wall: AtomicU64::new(now.millis()), mono: AtomicU64::new(0), suspended: AtomicU64::new(0) }
    }
    /// Time passes: both clocks move.
    pub fn advance(&self, by: Duration) {
        self.jump(by);
        self.mono.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
    /// The machine sleeps: the monotonic clock alone stands still.
    pub fn suspend(&self, by: Duration) {
        self.jump(by);
        self.suspended.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
    /// The wall clock alone is put forward, as by a correction.
    pub fn jump(&self, by: Duration) {
        self.wall.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
    /// The wall clock alone is put back.
    pub fn jump_back(&self, by: Duration) {
        self.wall.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
    }
}

#[cfg(feature = "server")]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.mono.load(Ordering::SeqCst))
    }
    fn boottime(&self) -> Duration {
        self.monotonic() + Duration::from_millis(self.suspended.load(Ordering::SeqCst))
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
    fn lately(&self) -> Timestamp {
        (**self).lately()
    }
    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
    fn boottime(&self) -> Duration {
        (**self).boottime()
    }
}

/// Source of unpredictable bytes.
#[cfg(feature = "follow")]
pub trait Random: Send + Sync + 'static {
    /// Fills `out`. Never returns predictable bytes: a source that fails ends the process.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's random numbers.
#[cfg(feature = "follow")]
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

#[cfg(feature = "follow")]
impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system has random numbers; without them nothing here is safe");
    }
}

/// `N` bytes from `random`.
#[cfg(feature = "follow")]
pub fn random_bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut out = [0; N];
    random.fill(&mut out);
    out
}

#[cfg(feature = "follow")]
impl fmt::Debug for dyn Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
