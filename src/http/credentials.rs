//! What a request says about who sends it: exactly one way of authentication, nowhere two (RFC 6749 §2.3).

use axum::http::{HeaderMap, header, request::Parts};
use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{edge::PeerCertificate, form::Form};
use crate::service::{CertificateHash, Credentials, Error};

/// `client_assertion_type` of a JWT (RFC 7523 §2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Where a request to `/v1`, which has no form, carries a client assertion.
const CLIENT_ASSERTION: &str = "client-assertion";

/// At an OAuth endpoint: HTTP Basic, or in the form a secret, an assertion, or a name alone, which the peer's certificate
/// may prove. Beside another proof a certificate says nothing: it belongs to the connection, not to the request.
pub(super) fn of_form(parts: &Parts, form: &mut Form) -> Result<Credentials, Error> {
    let headers = &parts.headers;
    let secret = form.take("client_secret");
    let assertion = assertion(form)?;
    let named = form.get("client_id").map(ToOwned::to_owned);
    match (basic(headers)?, secret, assertion) {
        (Some(credentials), None, None) => {
            if let (Credentials::Secret(id, _), Some(named)) = (&credentials, named)
                && *id != named
            {
                return Err(Error::request("client_id", "names another client than the Authorization header"));
            }
            Ok(credentials)
        }
        (None, Some(secret), None) => Ok(Credentials::Secret(named.ok_or(Error::Client)?, secret)),
        (None, None, Some(assertion)) => Ok(Credentials::Assertion { assertion, named }),
        (None, None, None) => {
            let named = named.ok_or(Error::Client)?;
            Ok(match certificate(parts) {
                Some(certificate) => Credentials::Certificate { certificate, named: Some(named) },
                None => Credentials::Named(named),
            })
        }
        (_, Some(_), _) => Err(Error::request("client_secret", "two ways of authentication in one request")),
        (_, _, Some(_)) => Err(Error::request("client_assertion", "two ways of authentication in one request")),
    }
}

/// What the listener has seen of the peer.
fn certificate(parts: &Parts) -> Option<CertificateHash> {
    parts.extensions.get().map(|PeerCertificate(hash)| CertificateHash(*hash))
}

/// At `/v1`: HTTP Basic, or an assertion in a header of its own, or the peer's certificate.
pub(super) fn of_headers(parts: &Parts) -> Result<Credentials, Error> {
    let headers = &parts.headers;
    let mut values = headers.get_all(CLIENT_ASSERTION).iter();
    let assertion = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Error::request("Client-Assertion", "is repeated")),
        (Some(one), None) => Some(one.to_str().map_err(|_| Error::Client)?),
    };
    match (basic(headers)?, assertion) {
        (Some(credentials), None) => Ok(credentials),
        (None, Some(text)) => Ok(Credentials::Assertion { assertion: Zeroizing::new(text.to_owned()), named: None }),
        (Some(_), Some(_)) => Err(Error::request("Client-Assertion", "two ways of authentication in one request")),
        (None, None) => {
            let certificate = certificate(parts).ok_or(Error::Client)?;
            Ok(Credentials::Certificate { certificate, named: None })
        }
    }
}

/// The two members belong together (RFC 7521 §4.2).
fn assertion(form: &mut Form) -> Result<Option<Zeroizing<String>>, Error> {
    let kind = form.take("client_assertion_type");
    match (form.take("client_assertion"), kind) {
        (None, None) => Ok(None),
        (Some(assertion), Some(kind)) if *kind == JWT_BEARER => Ok(Some(assertion)),
        (Some(_), _) => Err(Error::request("client_assertion_type", format!("must be {JWT_BEARER}"))),
        (None, Some(_)) => Err(Error::request("client_assertion", "is missing")),
    }
}

/// HTTP Basic (RFC 7617); id and secret are form-encoded first (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<Credentials>, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::request("Authorization", "is repeated"));
    }
    read_basic(value.as_bytes()).map(Some).ok_or(Error::Client)
}

fn read_basic(value: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim_ascii()).ok()?);
    let colon = pair.iter().position(|b| *b == b':')?;
    let id = form_decode(&pair[..colon])?;
    let secret = Zeroizing::new(form_decode(&pair[colon + 1..])?);
    Some(Credentials::Secret(id, secret))
}

fn form_decode(bytes: &[u8]) -> Option<String> {
    // A `name` without `=`: `&` and `=` in it would have been encoded.
    if bytes.iter().any(|b| matches!(b, b'&' | b'=')) {
        return std::str::from_utf8(bytes).ok().map(ToOwned::to_owned);
    }
    let (name, _) = form_urlencoded::parse(bytes).next()?;
    (!name.contains('\u{fffd}')).then(|| name.into_owned())
}
