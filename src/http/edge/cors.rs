//! Scripts of other sites (the Fetch standard's CORS protocol), by an allow-list and never with cookies: a public client
//! that runs in a browser fetches tokens, hands them back, and finds metadata and keys.

use std::str::FromStr;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
};

/// An origin as a browser sends it: scheme, host, and the port if it is not the scheme's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("`{text}` is not an origin: {why}; write it as https://app.example"));
        let Ok(url) = reqwest::Url::parse(text) else { return bad("not a URL") };
        if text.contains('*') || !matches!(url.scheme(), "https" | "http") {
            return bad("each site is named, by https");
        }
        // What a browser will send, to the letter: anything else would never match, and nobody would know why.
        if url.origin().ascii_serialization() != text {
            return bad("no path, no trailing slash, lower case, no default port");
        }
        if url.scheme() == "http" && crate::verifier::follow::http::check_transport(&url).is_err() {
            return bad("plain http only on this machine");
        }
        HeaderValue::from_str(text).map(Self).or_else(|_| bad("visible ASCII only"))
    }
}

/// Which sites' scripts may ask.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Their origins.
    pub origins: Vec<Origin>,
}

/// What scripts have a use for, and by which method.
fn method_for(path: &str) -> Option<&'static str> {
    match path {
        "/oauth2/token" | "/oauth2/revoke" => Some("POST"),
        "/.well-known/jwks.json" | "/.well-known/oauth-authorization-server" => Some("GET"),
        p if p.starts_with("/.well-known/oauth-authorization-server/") => Some("GET"),
        _ => None,
    }
}

/// A request that a script could have a use for, of whichever site. Its answer says whose scripts may read it, whatever layer
/// it comes from.
pub(in crate::http) struct Script {
    method: &'static str,
    /// Of the site, if it is allowed.
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl Script {
    /// None: no script is meant to read the answer.
    pub(in crate::http) fn of(cors: &Cors, request: &Request) -> Option<Self> {
        let headers = request.headers();
        let method = method_for(request.uri().path()).filter(|_| !cors.origins.is_empty())?;
        let origin = headers.get(header::ORIGIN).filter(|o| cors.origins.iter().any(|a| a.0 == *o)).cloned();
        let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Some(Self { method, origin, preflight: request.method() == Method::OPTIONS && asks })
    }

    /// Whether the browser only asks if it may.
    pub(in crate::http) fn only_asks(&self) -> bool {
        self.preflight
    }

    pub(in crate::http) fn allow(self, headers: &mut HeaderMap) {
        // Also to those who are not allowed, or did not ask: a cache must not give one's answer to the other.
        headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
        if let Some(origin) = self.origin {
            allow(headers, origin, self.preflight.then_some(self.method));
        }
    }
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue, preflight: Option<&'static str>) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = HeaderValue::from_static("retry-after, x-request-id, www-authenticate");
    let Some(method) = preflight else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        return;
    };
    headers.append(header::VARY, HeaderValue::from_name(header::ACCESS_CONTROL_REQUEST_METHOD));
    headers.append(header::VARY, HeaderValue::from_name(header::ACCESS_CONTROL_REQUEST_HEADERS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(method));
    // No Authorization: a secret in a browser is none, and public clients have none.
    let allowed = HeaderValue::from_str(&format!("content-type, {REQUEST_ID}")).expect("names of headers");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for good in
            ["https://app.example", "https://app.example:8443", "http://localhost:3000", "http://127.0.0.1:80800"]
        {
            assert_eq!(good.parse::<Origin>().is_ok(), !good.ends_with("80800"), "{good}");
        }
        for bad in [
            "*",
            "null",
            "https://*",
            "https://app.example/",
            "https://App.example",
            "https://app.example:443",
            "http://app.example",
            "ftp://app.example",
            "app.example",
            "https://user@app.example",
        ] {
            let error = bad.parse::<Origin>().unwrap_err();
            assert!(error.contains("write it as"), "{error}");
        }
    }
}
