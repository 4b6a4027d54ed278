//! The name of a key, as an argument.

/// How long the thumbprint of a key is (RFC 7638, SHA-256 in base64url).
const LENGTH: usize = 43;

/// One in 64 names begins with a hyphen, so these arguments must allow it; what is no name is an option misspelt.
pub(super) fn kid(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if text.len() == LENGTH && plain {
        return Ok(text.to_owned());
    }
    Err(format!("expected the name of a key, {LENGTH} characters, as `rescind keys list` shows it"))
}

#[cfg(test)]
mod tests {
    use super::kid;

    #[test]
    fn a_name_may_begin_with_a_hyphen_and_an_option_is_none() {
        assert!(kid("-bLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs0").is_ok());
        for other in ["", "--yse", "NzbLsXh8uDCcd", "NzbLsXh8uDCcd-6MNwXF4W/7noWXFZAfHkxZsRGC9Xs"] {
            assert!(kid(other).is_err(), "{other}");
        }
    }
}
