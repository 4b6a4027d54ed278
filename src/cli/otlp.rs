//! Traces to an OpenTelemetry collector, over HTTP, if OTEL_EXPORTER_OTLP_ENDPOINT names one.

use std::{env, fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use reqwest::{Client, Url};
use tokio::runtime::Handle;
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{Failure, client};
use crate::verifier::follow::http::body;

/// The variable that names the collector, as OpenTelemetry has it. Paths are added to it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Time for one batch.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The longest answer of a collector that is read.
const MAX_ANSWER: usize = 64 << 10;

/// Sends what is left when it is dropped.
pub(super) struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        // A collector that is away must not hold up the end of the process for long; there is nobody left to tell.
        let _ = self.0.shutdown_with_timeout(Duration::from_secs(3));
    }
}

/// A layer that turns spans into traces; none if no collector is named. The address must be https, or loopback.
pub(super) fn layer<S>() -> Result<Option<(impl Layer<S>, Traces)>, Failure>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let Some(endpoint) = env::var(ENDPOINT).ok().filter(|e| !e.is_empty()) else { return Ok(None) };
    let bad = |why: &dyn fmt::Display| Failure::usage(format!("{ENDPOINT}: {why}"));
    let base = Url::parse(&endpoint).map_err(|e| bad(&e))?;
    let client = client::client_for(&base).map_err(|e| bad(&e))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Sender { client, runtime: Handle::current() })
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(ATTEMPT)
        .build()
        .map_err(|e| bad(&e))?;
    let name = env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "rescind".into());
    let resource = Resource::builder().with_service_name(name).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("rescind"));
    Ok(Some((layer, Traces(provider))))
}

/// Our own HTTP client: its TLS, no redirects. The exporter's thread has no runtime, so it is lent this one.
struct Sender {
    client: Client,
    runtime: Handle,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            let bytes = body(answer, MAX_ANSWER).await?;
            Ok::<_, HttpError>((status, Bytes::from(bytes)))
        });
        let (status, bytes) = sent.await??;
        Ok(Response::builder().status(status).body(bytes)?)
    }
}
