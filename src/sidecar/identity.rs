//! Who a token speaks of, as headers.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{model::claims::Claims, verifier::Verified};

/// What there is none of.
const NONE: &str = "-";

/// All of them, always.
pub(super) fn headers(verified: &Verified<Claims>) -> HeaderMap {
    let session = verified.session.map(|session| session.to_string());
    let words: Vec<String> = verified.scope.words().map(encode).collect();
    // `-` alone can only be a scope of that one word.
    let scope = if words.is_empty() { NONE.to_owned() } else { words.join(" ") };
    let values = [
        ("x-auth-issuer", encode(&verified.issuer)),
        ("x-auth-subject", encode(verified.subject.as_str())),
        ("x-auth-client", encode(verified.client.as_str())),
        ("x-auth-session", session.unwrap_or_else(|| NONE.to_owned())),
        ("x-auth-scope", scope),
    ];
    let value = |text: String| HeaderValue::try_from(text).expect("visible ASCII and spaces");
    values.map(|(name, text)| (HeaderName::from_static(name), value(text))).into_iter().collect()
}

/// Visible ASCII without `%` stays; what is a lone `-` must not be taken for [`NONE`].
fn encode(text: &str) -> String {
    if text == NONE {
        return "%2D".to_owned();
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn an_encoded_text_is_visible_ascii_and_its_own() {
        for (text, encoded) in [
            ("alice", "alice"),
            ("Ann Lee", "Ann%20Lee"),
            ("100%", "100%25"),
            ("%41", "%2541"),
            ("é", "%C3%A9"),
            ("\u{202e}x", "%E2%80%AEx"),
            ("-", "%2D"),
            ("--", "--"),
            ("a,b;c=\"d\"", "a,b;c=\"d\""),
        ] {
            assert_eq!(encode(text), encoded);
        }
    }
}
