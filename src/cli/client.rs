//! The HTTP client of the command line. It follows no redirects: an answer from elsewhere is not the issuer's.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::{Client, Response, Url, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
const CONNECT_TIME: Duration = Duration::from_secs(5);
const WHOLE_TIME: Duration = Duration::from_secs(15);

/// A client for an issuer: TLS with the certificates that the machine trusts, or plain HTTP on loopback.
pub(super) fn client_for(issuer: &Url) -> Result<Client> {
    let plain = check_transport(issuer)?;
    let client = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIME).timeout(WHOLE_TIME);
    // A proxy is for the way out; what is asked of loopback is meant for loopback.
    let client = if plain {
        client.no_proxy().tls_backend_preconfigured(no_tls()?)
    } else {
        client.https_only(true).tls_backend_preconfigured(platform_tls()?)
    };
    client.build().context("cannot set up the HTTP client")
}

/// Whether it is plain HTTP. Refused unless it stays on this machine.
pub(super) fn check_transport(url: &Url) -> Result<bool> {
    let Some(host) = url.host_str() else { bail!("{url}: not an http or https URL") };
    match url.scheme() {
        "https" => Ok(false),
        "http" if is_loopback(host) => Ok(true),
        "http" => {
            bail!("{url}: plain HTTP is for loopback only, anyone on the way could change the keys; use https")
        }
        _ => bail!("{url}: not an http or https URL"),
    }
}

/// Literally: what a name server says is not asked. `localhost` never leaves the machine (RFC 6761 §6.3).
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The body of an answer, up to 64 KiB.
pub(super) async fn body(mut answer: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            bail!("{} answered with more than 64 KiB", answer.url());
        }
    }
    Ok(body)
}

/// The provider is named here and handed over: a default of the whole process would be somebody else's to set.
fn tls() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?)
}

fn platform_tls() -> Result<ClientConfig> {
    let verified = tls()?.with_platform_verifier().context("cannot read the certificates that this machine trusts")?;
    Ok(verified.with_no_client_auth())
}

/// Trusts nobody, and asks for no certificates to be installed where none are needed.
fn no_tls() -> Result<ClientConfig> {
    Ok(tls()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (url, plain) in [
            ("https://auth.example", Some(false)),
            ("http://127.0.0.1:8080", Some(true)),
            ("http://127.8.9.10", Some(true)),
            ("http://[::1]:80/", Some(true)),
            ("http://LOCALHOST", Some(true)),
            ("http://0x7f.1", Some(true)),
            ("http://localhost.example", None),
            ("http://127.0.0.1.example", None),
            ("http://127.0.0.1@example.com", None),
            ("http://0.0.0.0", None),
            ("http://[::ffff:7f00:1]", None),
            ("ftp://127.0.0.1", None),
            ("data:,", None),
        ] {
            assert_eq!(check_transport(&url.parse().unwrap()).ok(), plain, "{url}");
        }
    }
}
