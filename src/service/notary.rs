//! The service as notary of its audit log: it signs the log's head, and knows the pseudonyms of subjects.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    clock::Clock,
    keyring::Keyring,
    model::{
        JwkSet, Subject, SubjectRef,
        chain::{HEAD_TYPE, Head, Statement},
    },
    store::Notary,
    verifier,
};

pub(super) struct ServiceNotary {
    pub(super) issuer: Box<str>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Notary for ServiceNotary {
    fn refer(&self, subject: &Subject) -> SubjectRef {
        self.keyring.subject_refs().refer(subject)
    }

    fn attest(&self, head: &Head) -> String {
        let key = self.keyring.audit_key();
        let header = serde_json::json!({"alg": "EdDSA", "typ": HEAD_TYPE, "kid": key.kid()});
        let iat = self.clock.now().seconds();
        let statement = Statement { issuer: self.issuer.clone(), iat, head: *head };
        let payload = serde_json::to_vec(&statement).expect("a statement serialises");
        let mut text = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        text.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = key.sign(text.as_bytes());
        text.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        text
    }

    /// The issuer's name may have changed since; the key says whose it is.
    fn attested(&self, statement: &str) -> Option<Head> {
        read_statement(statement, &self.keyring.audit_jwks()).map(|s| s.head)
    }
}

/// What the signed head of an audit log says, if one of these keys signed it.
#[must_use]
pub fn read_statement(statement: &str, keys: &JwkSet) -> Option<Statement> {
    verifier::signed(statement, HEAD_TYPE, keys).ok()
}
