//! Logs, on stderr; and traces, where the program was built to send them.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::Failure;

/// What must live as long as the process logs.
pub(super) struct Logs {
    #[cfg(feature = "otlp")]
    _traces: Option<super::otlp::Traces>,
}

/// Sends what is at least as grave as `level` to stderr; `RUST_LOG` overrides it.
pub(super) fn start(level: &str, json: bool) -> Result<Logs, Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    // The span that a line was written in is named once; our spans do not nest.
    let lines = if json { lines.json().with_span_list(false).boxed() } else { lines.boxed() };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    // A second start in one process finds the first one in place, which is as good.
    #[cfg(feature = "otlp")]
    {
        let traced = super::otlp::layer()?;
        let (layer, _traces) = traced.map_or((None, None), |(layer, traces)| (Some(layer), Some(traces)));
        let of_requests = tracing_subscriber::filter::filter_fn(|meta| meta.target().starts_with("rescind::http"));
        let _ = registry.with(layer.map(|layer| layer.with_filter(of_requests))).try_init();
        Ok(Logs { _traces })
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = registry.try_init();
        Ok(Logs {})
    }
}
