//! Mints access tokens (RFC 9068).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    clock::{Random, random_bytes},
    keyring::{ActiveKey, Keyring, SignerError, Unconfirmed},
    model::{
        Audience, ClientId, Kid, Scope, SessionId, Subject, SubjectRef, Timestamp, TokenId,
        claims::{ACCESS_TOKEN_TYPE, Claims, CustomClaims},
    },
};

/// The longest token that a verifier reads, and so the longest that is minted.
pub use crate::verifier::MAX_TOKEN;

/// A signed access token. Shows nothing of itself; [`AccessToken::expose`] is the one way out.
pub struct AccessToken(String);

impl AccessToken {
    /// The token's text, for the one response that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessToken")
    }
}

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whom it speaks of.
    pub subject: Subject,
    /// The same, opaquely.
    pub subject_ref: SubjectRef,
    /// Which client gets it.
    pub client: ClientId,
    /// For whom.
    pub audience: Vec<Audience>,
    /// What it allows.
    pub scope: Scope,
    /// The session, if there is one.
    pub session: Option<SessionId>,
    /// When the subject authenticated.
    pub auth_time: Option<Timestamp>,
    /// How strongly.
    pub acr: Option<Box<str>>,
    /// By which methods.
    pub amr: Vec<Box<str>>,
    /// Everything else.
    pub custom: CustomClaims,
    /// The instant, as the store told it in the same step.
    pub at: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// Why a token was not minted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// It would be longer than any verifier reads.
    #[error("the access token would be longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// The keys may have changed.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    /// The key does not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// Signs in the name of one issuer.
pub struct Issuer {
    name: Box<str>,
    keyring: Arc<Keyring>,
    random: Arc<dyn Random>,
    // The encoded header of the key that signs; it changes when the key does.
    header: ArcSwapOption<(Kid, String)>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.name)
    }
}

impl Issuer {
    /// In this name, with these keys.
    #[must_use]
    pub fn new(name: &str, keyring: Arc<Keyring>, random: Arc<dyn Random>) -> Self {
        Self { name: name.into(), keyring, random, header: ArcSwapOption::empty() }
    }

    /// Its name: `iss`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Mints a token.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(&self, order: Order) -> Result<AccessToken, MintError> {
        self.keyring.confirmed()?;
        let key = self.keyring.signer();
        let token = TokenId::new(order.at, &random_bytes(&*self.random));
        let claims = Claims {
            issuer: self.name.clone(),
            subject: order.subject,
            subject_ref: order.subject_ref,
            audience: order.audience,
            expires: order.until,
            issued: order.at,
            not_before: order.at,
            token,
            client: order.client,
            session: order.session,
            scope: order.scope,
            auth_time: order.auth_time,
            acr: order.acr,
            amr: order.amr,
            custom: order.custom,
        };
        let mut text = self.header(&key);
        text.push('.');
        let json = serde_json::to_vec(&claims).expect("claims serialise");
        BASE64_URL_SAFE_NO_PAD.encode_string(json, &mut text);
        let signature = key.sign(text.as_bytes())?;
        text.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        if text.len() <= MAX_TOKEN { Ok(AccessToken(text)) } else { Err(MintError::TooLong) }
    }

    fn header(&self, key: &ActiveKey) -> String {
        if let Some(cached) = &*self.header.load()
            && cached.0 == *key.kid()
        {
            return cached.1.clone();
        }
        let json = serde_json::json!({"typ": ACCESS_TOKEN_TYPE, "alg": key.algorithm().name(), "kid": key.kid()});
        let encoded = BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        self.header.store(Some(Arc::new((key.kid().clone(), encoded.clone()))));
        encoded
    }
}
