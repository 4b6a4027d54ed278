//! The HTTP client of whoever asks an issuer. It follows no redirects: an answer from elsewhere is not the issuer's.

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::byte_serialize;
use reqwest::{Client, Response, Url, header::HeaderValue, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_platform_verifier::BuilderVerifierExt;
use zeroize::Zeroizing;

const CONNECT_TIME: Duration = Duration::from_secs(5);
const WHOLE_TIME: Duration = Duration::from_secs(15);

/// How layers of the HTTP client begin that have nothing to say of the cause beneath them.
const WRAPPERS: [&str; 3] = ["error sending request", "client error (", "tcp connect error"];

/// Why an issuer could not be asked, in words for people.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}: not an http or https URL")]
    NotHttp(Box<str>),
    #[error("{0}: plain HTTP is for loopback only, anyone on the way could change the keys; use https")]
    PlainHttp(Box<str>),
    #[error("TLS cannot be set up: {0}")]
    Tls(Box<str>),
    #[error("{url}: {why}{}", .mend.map(|mend| format!("; {mend}")).unwrap_or_default())]
    Http { url: Box<str>, why: Box<str>, mend: Option<&'static str> },
    #[error("{url} answered {status}")]
    Status { url: Box<str>, status: u16 },
    #[error("{url} answered with more than {limit} bytes")]
    TooLong { url: Box<str>, limit: usize },
    #[error("{url}: {why}")]
    Content { url: Box<str>, why: Box<str> },
}

impl FetchError {
    pub(crate) fn http(url: &Url, error: &reqwest::Error) -> Self {
        let mut why = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // The URL is said once, and without its query.
            let text = text.split(" for url (").next().unwrap_or_default();
            next = error.source();
            // The outer ones say no more than that sending failed.
            let says_nothing = next.is_some() && WRAPPERS.iter().any(|wrapper| text.starts_with(wrapper));
            if !says_nothing && !why.contains(text) {
                why = if why.is_empty() { text.to_owned() } else { format!("{why}: {text}") };
            }
        }
        let mend = mend(url, &why, error);
        Self::Http { url: bare(url), why: why.into(), mend }
    }
    /// How it is usually mended, if that is known, and the rest of what there is to say.
    #[cfg(feature = "server")]
    pub(crate) fn apart(self) -> (String, Option<&'static str>) {
        match self {
            Self::Http { url, why, mend } => (format!("{url}: {why}"), mend),
            other => (other.to_string(), None),
        }
    }
    pub(crate) fn content(url: &Url, why: impl std::fmt::Display) -> Self {
        Self::Content { url: bare(url), why: why.to_string().into() }
    }
}

/// What usually is the matter when no answer comes. TLS tells its troubles in words alone.
fn mend(url: &Url, why: &str, error: &reqwest::Error) -> Option<&'static str> {
    let says = |word: &str| why.contains(word);
    Some(match url.scheme() {
        "https" if says("not valid for name") => {
            "its certificate is for another name: ask by that name, or mend the certificate"
        }
        "https" if says("certificate expired") || says("certificate not valid yet") => {
            "renew its certificate, or set this machine's clock"
        }
        "https" if says("certificate") => {
            "its certificate is not trusted here: name the authority's file in SSL_CERT_FILE, or mend the certificate"
        }
        "https" if says("corrupt message") => {
            "nobody speaks TLS there: is the port right, or is it http:// on this machine?"
        }
        "http" if says("invalid HTTP version") => "that port speaks TLS: write https://",
        _ if says("dns error") => "is the host's name right?",
        _ if error.is_timeout() => "is the address right, and does anything on the way hold it up?",
        _ if error.is_connect() => "does the service run, and is the port right?",
        _ => return None,
    })
}

/// Without its query.
fn bare(url: &Url) -> Box<str> {
    let mut url = url.clone();
    url.set_query(None);
    url.as_str().into()
}

/// A client for an issuer: TLS with the certificates that the machine trusts, or plain HTTP on loopback. Requests have a
/// time limit of 15 s unless they say otherwise.
pub(crate) fn client_for(issuer: &Url) -> Result<Client, FetchError> {
    let plain = check_transport(issuer)?;
    let client = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIME).timeout(WHOLE_TIME);
    // A proxy is for the way out; what is asked of loopback is meant for loopback.
    let client = if plain {
        client.no_proxy().tls_backend_preconfigured(no_tls()?)
    } else {
        client.https_only(true).tls_backend_preconfigured(platform_tls()?)
    };
    client.build().map_err(|e| FetchError::Tls(e.to_string().into()))
}

/// Whether it is plain HTTP. Refused unless it stays on this machine.
pub(crate) fn check_transport(url: &Url) -> Result<bool, FetchError> {
    let Some(host) = url.host_str() else { return Err(FetchError::NotHttp(bare(url))) };
    match url.scheme() {
        "https" => Ok(false),
        "http" if is_loopback(host) => Ok(true),
        "http" => Err(FetchError::PlainHttp(bare(url))),
        _ => Err(FetchError::NotHttp(bare(url))),
    }
}

/// Literally: what a name server says is not asked. `localhost` never leaves the machine (RFC 6761 §6.3).
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// HTTP Basic (RFC 7617); id and secret are form-encoded first (RFC 6749 §2.3.1). Whoever prints it prints no secret.
pub(crate) fn basic(id: &str, secret: &str) -> HeaderValue {
    let mut pair = Zeroizing::new(String::new());
    pair.extend(byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(byte_serialize(secret.as_bytes()));
    let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*pair)));
    let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

/// The body of an answer, up to a limit.
pub(crate) async fn body(mut answer: Response, limit: usize) -> Result<Vec<u8>, FetchError> {
    let url = answer.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| FetchError::http(&url, &e))? {
        if body.len() + chunk.len() > limit {
            return Err(FetchError::TooLong { url: bare(&url), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The body of a good answer, up to a limit.
pub(crate) async fn good(answer: Response, limit: usize) -> Result<Vec<u8>, FetchError> {
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status { url: bare(answer.url()), status });
    }
    body(answer, limit).await
}

/// The provider is named here and handed over: a default of the whole process would be somebody else's to set.
fn tls() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, FetchError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().map_err(|e| FetchError::Tls(e.to_string().into()))
}

fn platform_tls() -> Result<ClientConfig, FetchError> {
    let verified = tls()?.with_platform_verifier().map_err(|e| FetchError::Tls(e.to_string().into()))?;
    Ok(verified.with_no_client_auth())
}

/// Trusts nobody, and asks for no certificates to be installed where none are needed.
fn no_tls() -> Result<ClientConfig, FetchError> {
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
