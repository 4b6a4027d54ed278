//! Reads signed answers of the feed. What leaves here is from the issuer's feed key and well formed; whether it answers
//! our question, and what it joins to, is the follower's business.

use serde::de::DeserializeOwned;

use super::{
    Rejection,
    jws::{Header, Jws},
};
use crate::model::{
    JwkSet,
    feed::{Item, MAX_ANSWER, Mark, PAGE, PAGE_TYPE, Page, TAIL_TYPE, Tail},
};

/// Why an answer of the feed is refused. Nothing of it was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Not a JWS of the right kind, or signed by somebody else.
    #[error("the feed's answer is no good: {0}")]
    Signature(Rejection),
    /// Signed, and of no shape that we know.
    #[error("the feed's answer cannot be read")]
    Shape,
    /// Of another issuer.
    #[error("the feed's answer is another issuer's")]
    Issuer,
    /// To another question: an old answer, played back.
    #[error("the feed's answer is to another question")]
    Nonce,
    /// Entries out of order, or outside what it says it covers.
    #[error("the feed's entries are out of order")]
    Order,
    /// A page that does not join to the one before it, or to the end of the log.
    #[error("the feed's pages do not belong to one log")]
    Discontinuous,
    /// More is denied than may be held.
    #[error("more is denied than this verifier may hold")]
    Full,
}

pub(super) fn tail(token: &str, issuer: &str, keys: &JwkSet) -> Result<Tail, FeedError> {
    let tail: Tail = open(token, TAIL_TYPE, keys)?;
    if *tail.issuer != *issuer {
        return Err(FeedError::Issuer);
    }
    in_order(tail.from, tail.to, &tail.entries)?;
    if tail.head < tail.to.position { Err(FeedError::Order) } else { Ok(tail) }
}

pub(super) fn page(token: &str, issuer: &str, keys: &JwkSet) -> Result<Page, FeedError> {
    let page: Page = open(token, PAGE_TYPE, keys)?;
    if *page.issuer != *issuer {
        return Err(FeedError::Issuer);
    }
    in_order(page.from, page.to, &page.entries)?;
    let whole = |mark: Mark| mark.position.is_multiple_of(PAGE);
    let grows = page.from.position < page.to.position;
    if whole(page.from) && whole(page.to) && grows { Ok(page) } else { Err(FeedError::Order) }
}

pub(crate) fn open<T: DeserializeOwned>(token: &str, kind: &'static str, keys: &JwkSet) -> Result<T, FeedError> {
    let jws = Jws::parse(token, MAX_ANSWER).map_err(FeedError::Signature)?;
    let header = Header::parse(&jws.header, |typ| typ == kind).map_err(FeedError::Signature)?;
    let (_, jwk) = header.key(keys).map_err(FeedError::Signature)?;
    if !jwk.key.verifies(jws.signed, jws.signature().map_err(FeedError::Signature)?) {
        return Err(FeedError::Signature(Rejection::Signature));
    }
    serde_json::from_slice(&jws.payload).map_err(|_| FeedError::Shape)
}

pub(super) fn in_order(from: Mark, to: Mark, entries: &[Item]) -> Result<(), FeedError> {
    if entries.len() as u64 > PAGE || from.position > to.position {
        return Err(FeedError::Order);
    }
    let mut last = from.position;
    for entry in entries {
        if entry.position <= last {
            return Err(FeedError::Order);
        }
        last = entry.position;
    }
    if last > to.position { Err(FeedError::Order) } else { Ok(()) }
}
