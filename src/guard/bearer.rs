//! The token of a request (RFC 6750 §2.1), from the one place where it may be.

use http::{HeaderMap, header::AUTHORIZATION};

/// What `Authorization` holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials<'a> {
    /// Nothing, or something for somebody else.
    None,
    /// Spelled as a token is; nothing about it is known.
    Token(&'a str),
    /// Not to be understood, or to be understood in two ways.
    Malformed,
}

pub(super) fn credentials(headers: &HeaderMap) -> Credentials<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Credentials::None,
        (Some(one), None) => read(one.as_bytes()),
        // Whoever stands before us may have looked at the other one.
        (Some(_), Some(_)) => Credentials::Malformed,
    }
}

/// `auth-scheme 1*SP token68` (RFC 9110 §11.4).
fn read(value: &[u8]) -> Credentials<'_> {
    let end = value.iter().position(|b| !is_tchar(*b)).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if scheme.is_empty() {
        return Credentials::Malformed;
    }
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Credentials::None;
    }
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    let token = &rest[spaces..];
    match std::str::from_utf8(token) {
        Ok(token) if spaces > 0 && is_token68(token) => Credentials::Token(token),
        _ => Credentials::Malformed,
    }
}

/// RFC 9110 §5.6.2.
fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// RFC 9110 §11.2; RFC 6750 calls it b64token.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{Credentials::*, *};

    #[test]
    fn one_spelling_of_credentials_is_a_token() {
        for (value, expected) in [
            ("Bearer a.b.c", Token("a.b.c")),
            ("bearer a.b.c", Token("a.b.c")),
            ("BEARER    a", Token("a")),
            ("Bearer a-._~+/==", Token("a-._~+/==")),
            ("Basic YTpi", None),
            ("Bearertoken", None),
            ("Bearer-token abc", None),
            ("Basic", None),
            ("Bearer", Malformed),
            ("Bearer ", Malformed),
            ("Bearer\ta", Malformed),
            ("Bearer \ta", Malformed),
            ("Bearer a b", Malformed),
            ("Bearer a ", Malformed),
            ("Bearer a,b", Malformed),
            ("Bearer a, Bearer b", Malformed),
            ("Bearer \"a\"", Malformed),
            ("Bearer =", Malformed),
            ("Bearer a=b", Malformed),
            ("Bearer token=\"a\"", Malformed),
            ("Bearer=a", Malformed),
            ("Bearer:a", Malformed),
            ("Bearer, a", Malformed),
            ("Bearer é", Malformed),
            (" Bearer a", Malformed),
            (",Bearer a", Malformed),
            ("\"Bearer\" a", Malformed),
            ("", Malformed),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(credentials(&headers), expected, "{value:?}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        for second in ["Bearer a", "Basic YTpi", ""] {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
            headers.append(AUTHORIZATION, HeaderValue::from_str(second).unwrap());
            assert_eq!(credentials(&headers), Malformed, "{second:?}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }
}
