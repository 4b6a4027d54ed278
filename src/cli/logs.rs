//! Logs, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sends what is at least as grave as `level` to stderr; `RUST_LOG` overrides it.
pub(super) fn start(level: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    // A second start in one process finds the first one in place, which is as good.
    let _ = if json { lines.json().try_init() } else { lines.try_init() };
}
