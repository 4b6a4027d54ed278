//! W3C Trace Context: which trace a request belongs to, so that its log lines can be found by it.
//!
//! `traceparent` is taken over as it comes; a caller can choose it, so nothing is decided by it. It is not echoed: the
//! caller knows it. With the feature `otlp` the request becomes a span of that trace.

use axum::http::HeaderMap;
use tracing::{Span, field::Empty};

/// A valid `traceparent` (Trace Context §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceParent<'h> {
    pub(super) trace_id: &'h str,
    pub(super) parent_id: &'h str,
    pub(super) flags: u8,
}

impl<'h> TraceParent<'h> {
    /// What the header says; one that is repeated or malformed is as none (§3.2.2.3).
    pub(super) fn of(headers: &'h HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Self::read(value.to_str().ok()?)
    }

    fn read(text: &'h str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, len| {
            part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let whole = hex(version, 2) && hex(trace_id, 32) && hex(parent_id, 16) && hex(flags, 2);
        // Later versions may say more; this one may not.
        let ends = version != "00" || parts.next().is_none();
        let said = trace_id.bytes().any(|b| b != b'0') && parent_id.bytes().any(|b| b != b'0');
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (whole && ends && said && version != "ff").then_some(Self { trace_id, parent_id, flags })
    }
}

/// The span around a request. What is logged within it bears its members.
pub(super) fn span(headers: &HeaderMap, request_id: &str, method: &str, route: &str) -> Span {
    let parent = TraceParent::of(headers);
    let span = tracing::info_span!(
        "http",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        request_id,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        trace_id = parent.map(|p| p.trace_id),
    );
    #[cfg(feature = "otlp")]
    if let Some(parent) = parent {
        adopt(&span, parent);
    }
    span
}

/// Makes the span a child of the caller's.
#[cfg(feature = "otlp")]
fn adopt(span: &Span, parent: TraceParent<'_>) {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let (Ok(trace), Ok(id)) = (TraceId::from_hex(parent.trace_id), SpanId::from_hex(parent.parent_id)) else { return };
    let caller = SpanContext::new(trace, id, TraceFlags::new(parent.flags), true, TraceState::default());
    // Fails where no exporter runs: then nobody asks for it.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(caller));
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_the_specification_shows() {
        let read = TraceParent::read(GOOD).unwrap();
        assert_eq!((read.trace_id, read.parent_id, read.flags), (&GOOD[3..35], &GOOD[36..52], 1));
        assert!(TraceParent::read(&GOOD.replace("00-4b", "cc-4b").replace("-01", "-01-what-comes")).is_some());
    }

    #[test]
    fn what_is_malformed_is_as_none() {
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD}-00"),
            &GOOD.replace("00-4b", "ff-4b"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            &GOOD.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(TraceParent::read(bad), None, "{bad}");
        }
    }
}
