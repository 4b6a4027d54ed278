//! What must hold of any bytes that are presented as a refresh token.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::token::{PREFIX, Parsed};

/// One spelling, and nothing of it is believed.
pub(crate) fn refresh_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(parsed) = Parsed::read(text) else { return };
    assert_eq!(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(parsed.bytes())), text);
    assert!(parsed.family.as_bytes()[6] >> 4 == 7, "a family's name is a UUIDv7");
}
