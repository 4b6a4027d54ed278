//! Whatever comes from outside, as one function each that any bytes may be given to. `fuzz/` drives them with coverage,
//! and here every kept input is tried again.

/// Its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// What is fuzzed, by the name of its corpus.
pub const TARGETS: [Target; 8] = [
    ("token", crate::verifier::fuzz::token),
    ("header", crate::verifier::fuzz::header),
    ("claims", crate::verifier::fuzz::claims),
    ("jwks", crate::verifier::fuzz::jwks),
    ("feed_page", crate::verifier::fuzz::feed_page),
    ("refresh_token", crate::families::fuzz::refresh_token),
    ("form", crate::http::fuzz::form),
    ("configuration", crate::cli::fuzz_configuration),
];

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn kept_inputs_are_read_or_refused_as_they_must_be() {
        let corpora = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let mut tried = 0;
            for input in std::fs::read_dir(corpora.join(name)).unwrap() {
                let path = input.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let outcome = std::panic::catch_unwind(|| target(&bytes));
                assert!(outcome.is_ok(), "{}", path.display());
                tried += 1;
            }
            assert!(tried > 0, "{name} has a corpus");
        }
    }
}
