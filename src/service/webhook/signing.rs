//! Signatures of the Standard Webhooks scheme: `v1,` and HMAC-SHA256 over `id.timestamp.body`, base64.

use std::{fmt, fmt::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What every secret begins with, so that scanners know one.
const PREFIX: &str = "whsec_";

/// One secret, or two while receivers change over: both sign.
pub struct WebhookSecret(Vec<Hmac<Sha256>>);

/// Why a text is no webhook secret. Never says what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "write `whsec_` and 24 to 64 bytes in base64, as `echo whsec_$(openssl rand -base64 32)` makes it; two of them, \
         apart by a space, while receivers change over"
)]
pub struct WebhookSecretError;

impl WebhookSecret {
    /// Reads one or two secrets.
    ///
    /// # Errors
    /// [`WebhookSecretError`].
    pub fn read(text: &str) -> Result<Self, WebhookSecretError> {
        let keys: Vec<_> = text.split_whitespace().map(key).collect::<Result<_, _>>()?;
        if (1..=2).contains(&keys.len()) { Ok(Self(keys)) } else { Err(WebhookSecretError) }
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        let mut header = String::new();
        for key in &self.0 {
            let mut mac = key.clone();
            mac.update(format!("{id}.{seconds}.{body}").as_bytes());
            let space = if header.is_empty() { "" } else { " " };
            let _ = write!(header, "{space}v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        }
        header
    }
}

fn key(text: &str) -> Result<Hmac<Sha256>, WebhookSecretError> {
    let encoded = text.strip_prefix(PREFIX).ok_or(WebhookSecretError)?;
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| WebhookSecretError)?);
    if !(24..=64).contains(&bytes.len()) {
        return Err(WebhookSecretError);
    }
    Hmac::new_from_slice(&bytes).map_err(|_| WebhookSecretError)
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_scheme_has_it() {
        // The example of the Standard Webhooks libraries' own tests.
        let secret = WebhookSecret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_quoted() {
        for bad in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        ] {
            let refused = WebhookSecret::read(bad).unwrap_err().to_string();
            assert!(!refused.contains("MfKQ"), "{refused}");
        }
        let one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert!(WebhookSecret::read(&format!("{one}\n{one}\n")).is_ok());
        assert!(WebhookSecret::read(&format!("{one} {one} {one}")).is_err());
        assert_eq!(format!("{:?}", WebhookSecret::read(one)), "Ok(WebhookSecret)");
    }
}
