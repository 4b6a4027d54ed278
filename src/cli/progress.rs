//! How far a long work has come, for a person who watches: a line on stderr that is written over, and nothing at all
//! where stderr is no terminal.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use crate::clock::{Clock, SystemClock};

const SHOWN_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Progress {
    clock: SystemClock,
    watched: bool,
    shown: Duration,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { clock: SystemClock::default(), watched: stderr().is_terminal(), shown: Duration::ZERO }
    }

    /// Shown once a second: what is done sooner needs no line.
    pub(super) fn tell(&mut self, so_far: impl Display) {
        if self.watched && self.clock.monotonic() >= self.shown + SHOWN_EVERY {
            self.shown = self.clock.monotonic();
            let _ = write!(stderr(), "\r{so_far} so far");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown > Duration::ZERO {
            let _ = writeln!(stderr());
        }
    }
}
