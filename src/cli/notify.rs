//! What the process that started this one is told, where it asked to be told: sd_notify(3) of systemd, and of those who
//! speak as it does.
//!
//! A message that cannot be delivered changes nothing: whoever waits for it draws its own conclusions by its time-outs.

use std::{env, future::Future, os::unix::net::UnixDatagram, path::Path, sync::Arc, time::Duration};

/// Where to send it; to nobody, if nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Notify(Option<Arc<UnixDatagram>>);

impl Notify {
    /// Whom the environment names.
    pub(super) fn from_env() -> Self {
        let Some(at) = env::var_os("NOTIFY_SOCKET").filter(|at| !at.is_empty()) else { return Self::default() };
        match connect(Path::new(&at)) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached; it will not hear that this service is ready");
                Self::default()
            }
        }
    }

    /// Requests are answered from now on; `status` is for people.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", one_line(status)));
    }

    /// The configuration is being read again, until [`Self::reloaded`].
    pub(super) fn reloading(&self) {
        // By the clock of systemd, which tells this reload from an earlier one.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It has been read; requests were answered all the while.
    pub(super) fn reloaded(&self, outcome: &str) {
        self.ready(&format!("serving; reload of the configuration: {outcome}"));
    }

    /// No new work is begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what has begun");
    }

    /// Shows sign of life for as long as `sign` keeps coming true, often enough for the watchdog that the environment
    /// names; for nothing, if it names none. What it does not return from in time ends the process: it hangs.
    pub(super) async fn watch<F: Future<Output = ()>>(self, sign: impl Fn() -> F) {
        let Some(limit) = watchdog().filter(|_| self.0.is_some()) else { return };
        let mut tick = tokio::time::interval(limit / 2);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            sign().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "NOTIFY_SOCKET did not take a message");
        }
    }
}

fn connect(at: &Path) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // One that does not read must not stop us.
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = at.as_os_str().as_encoded_bytes().strip_prefix(b"@") {
        use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
        socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        return Ok(socket);
    }
    socket.connect(at)?;
    Ok(socket)
}

/// How long it may hear nothing, if that was said to this process and not to one that started it.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let micros = number("WATCHDOG_USEC").filter(|n| *n > 0)?;
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    // An interval of nothing would panic.
    for_us.then(|| Duration::from_micros(micros).max(Duration::from_millis(2)))
}

/// Lines are what separates assignments: a status with one inside would say something else, too.
fn one_line(status: &str) -> String {
    let line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("STATUS={line}")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_status_assigns_nothing_else() {
        assert_eq!(one_line("waits\nMAINPID=1"), "STATUS=waits MAINPID=1");
    }
}
