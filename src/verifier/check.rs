//! What a token says of itself: its signature, its claims, its times. Nothing here asks about revocation.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::{
    Rejection, claims,
    jws::{self, Header, Jws, MAX_TOKEN},
    policy::Policy,
    replica::Clear,
    seen::{OfToken, Seen},
};
#[cfg(feature = "server")]
use crate::model::Timestamp;
#[cfg(feature = "follow")]
use crate::model::feed::KeysVersion;
use crate::model::{Jwk, JwkSet, Kid, PreparedKey, claims::Claims, denial::Bearer};

/// What a verifier has found good. Nothing else can make one, so whoever is handed one need not check again.
/// Cheap to clone.
pub struct Verified<T>(Arc<Good<T>>);

/// In the order in which a token that was seen before is asked about: what is asked lies side by side.
#[repr(C)]
struct Good<T> {
    /// The token itself, to recognise it by.
    token: Box<str>,
    /// Of the key set by which it was found good.
    generation: u64,
    clear: Clear,
    bearer: Bearer,
    value: T,
    key: Jwk,
}

impl OfToken for Good<Claims> {
    fn token(&self) -> &str {
        &self.token
    }
    fn expires(&self) -> u64 {
        self.value.expires.millis()
    }
}

impl<T> Verified<T> {
    /// The key that signed it.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.0.bearer.key
    }
    /// The facts that a denial is asked about.
    #[must_use]
    pub fn bearer(&self) -> &Bearer {
        &self.0.bearer
    }
    /// What is remembered of the answer.
    pub(super) fn clear(&self) -> &Clear {
        &self.0.clear
    }
    /// What was found good, now no longer known to be.
    #[must_use]
    pub fn into_inner(self) -> T
    where
        T: Clone,
    {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.value.clone(), |good| good.value)
    }
    /// The same token with its value read as something else.
    pub(super) fn try_map<U, E>(self, read: impl FnOnce(T) -> Result<U, E>) -> Result<Verified<U>, E>
    where
        T: Clone,
    {
        let (generation, key, bearer) = (self.0.generation, self.0.key.clone(), self.0.bearer.clone());
        // Nobody looks for this one: what is remembered is what was read from the token.
        let token = Box::default();
        Ok(Verified(Arc::new(Good {
            token,
            generation,
            clear: Clear::default(),
            bearer,
            value: read(self.into_inner())?,
            key,
        })))
    }
}

impl<T> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}
impl<T: fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("value", &self.0.value).field("kid", self.kid()).finish()
    }
}
impl<T: PartialEq> PartialEq for Verified<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value && self.kid() == other.kid()
    }
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) set: JwkSet,
    /// Another one for each set: what was found good by this very set need not be looked up in it.
    generation: u64,
    /// In the order of the set.
    prepared: Box<[PreparedKey]>,
    /// Which set it is, in the feed's words; none if it was handed over.
    #[cfg(feature = "follow")]
    pub(super) version: Option<KeysVersion>,
}

impl Keys {
    fn given(set: JwkSet) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            generation: NEXT.fetch_add(1, Ordering::Relaxed),
            prepared: set.keys.iter().map(|jwk| PreparedKey::new(jwk.key)).collect(),
            set,
            #[cfg(feature = "follow")]
            version: None,
        }
    }
}

/// Checks the tokens of one issuer.
pub(crate) struct Checker {
    pub(super) policy: Policy,
    /// Replaced as a whole. A reader never waits for a writer, nor sees half a set.
    pub(super) keys: ArcSwap<Keys>,
    /// That of `keys`, or of the set before it for as long as one replaces the other.
    generation: AtomicU64,
    /// Held by whoever replaces the keys.
    replacing: Mutex<()>,
    /// Tokens whose signatures have been checked, and what of the policy holds at any hour. All else is asked anew each
    /// time.
    seen: Seen<Good<Claims>>,
}

impl Checker {
    pub(super) fn new(policy: Policy, keys: JwkSet, seen: usize) -> Self {
        let keys = Keys::given(keys);
        let generation = AtomicU64::new(keys.generation);
        let (keys, seen) = (ArcSwap::from_pointee(keys), Seen::new(seen));
        Self { policy, keys, generation, replacing: Mutex::default(), seen }
    }

    /// Whether these keys are the issuer's already.
    #[cfg(feature = "server")]
    pub(crate) fn has_keys(&self, set: &JwkSet) -> bool {
        self.keys.load().set == *set
    }

    /// From now on these keys are the issuer's. Checks under way end with the keys they began with.
    pub(crate) fn set_keys(&self, set: JwkSet) {
        self.replace(Keys::given(set));
    }

    fn replace(&self, keys: Keys) {
        let _one_by_one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = keys.generation;
        self.keys.store(Arc::new(keys));
        self.generation.store(generation, Ordering::Release);
    }

    /// The same, when the feed has a name for them.
    #[cfg(feature = "follow")]
    pub(super) fn take_keys(&self, set: JwkSet, version: KeysVersion) {
        self.replace(Keys { version: Some(version), ..Keys::given(set) });
    }

    /// Everything about a token but whether it is revoked.
    #[cfg(feature = "server")]
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Result<Verified<Claims>, Rejection> {
        let verified = self.authentic(token)?;
        self.policy.check_now(&verified, now)?;
        Ok(verified)
    }

    /// As [`Checker::check`], for a token that may also become good later: one that is stamped ahead of our clock.
    #[cfg(feature = "server")]
    pub(crate) fn check_now_or_later(&self, token: &str, now: Timestamp) -> Result<Verified<Claims>, Rejection> {
        let verified = self.authentic(token)?;
        self.policy.check_now(&verified, now.max(verified.issued).max(verified.not_before))?;
        Ok(verified)
    }

    /// What the issuer has signed for us, whenever.
    pub(super) fn authentic(&self, token: &str) -> Result<Verified<Claims>, Rejection> {
        let mut seen = self.seen.get(token);
        if let Some(good) = seen.take_if(|good| good.generation == self.generation.load(Ordering::Acquire)) {
            return Ok(Verified(good));
        }
        let keys = self.keys.load();
        // A key that left the set verifies nothing any more, not even what it has verified before.
        if let Some(good) = seen
            && keys.set.keys.contains(&good.key)
        {
            return Ok(Verified(good));
        }
        let jws = Jws::parse(token, MAX_TOKEN)?;
        let header = Header::parse(&jws.header, jws::is_access_token)?;
        let (place, key) = header.key(&keys.set)?;
        if !keys.prepared[place].verifies(jws.signed, jws.signature()?) {
            return Err(Rejection::Signature);
        }
        let value = claims::parse(&jws.payload)?;
        self.policy.check_for_good(&value)?;
        let key = key.clone();
        let bearer = Bearer {
            token: value.token,
            session: value.session,
            subject: value.subject_ref,
            client: value.client.clone(),
            key: key.kid.clone(),
        };
        let clear = Clear::default();
        let good = Arc::new(Good { token: token.into(), generation: keys.generation, clear, bearer, value, key });
        self.seen.put(Arc::clone(&good));
        Ok(Verified(good))
    }
}
