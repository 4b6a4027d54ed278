//! Client secrets: made here, kept only as a hash by those who check them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::clock::{Random, random_bytes};

/// What client secrets begin with, so that secret scanners recognise a leaked one.
const PREFIX: &str = "rescind_cs_";

/// A client secret of 256 bits.
pub(super) fn generate(random: &dyn Random) -> Zeroizing<String> {
    let bytes = Zeroizing::new(random_bytes::<32>(random));
    Zeroizing::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(*bytes)))
}
