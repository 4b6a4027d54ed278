//! The half of the task that keeps the keys current.
//!
//! The feed says which key set is the issuer's, so an answer that is not that one, however well formed, changes nothing:
//! not an older one out of a cache, not an empty one, not somebody else's.

use std::time::Duration;

use reqwest::{StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Driver, StepError, backoff,
    http::{FetchError, good},
};
use crate::{
    clock::{SystemRandom, random_bytes},
    model::{
        JwkSet,
        feed::{KeysVersion, Nonce},
    },
    verifier::MAX_SET,
};

/// At most one fetch in this time for keys that nobody has heard of.
const UNKNOWN_EVERY: Duration = Duration::from_secs(30);
/// Bounds of the `max-age` that we heed.
const LEAST_AGE: Duration = Duration::from_secs(60);
const GREATEST_AGE: Duration = Duration::from_secs(1800);
/// The longest pause after failures.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// What is remembered between fetches.
struct Fetches {
    etag: Option<header::HeaderValue>,
    failures: u32,
    next: Instant,
    last_unknown: Option<Instant>,
}

impl Driver {
    pub(super) async fn follow_keys(&self) {
        let mut word = self.word.subscribe();
        let mut fetches = Fetches { etag: None, failures: 0, next: tokio_now(), last_unknown: None };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(fetches.next) => {}
                // The sender is ours, and lives as long as we do.
                _ = word.changed() => if !self.is_behind() { continue },
                () = self.unknown_key.notified() => {
                    let now = tokio_now();
                    if fetches.last_unknown.is_some_and(|last| now.duration_since(last) < UNKNOWN_EVERY) {
                        continue;
                    }
                    fetches.last_unknown = Some(now);
                }
            }
            let fetched = self.fetch_keys(&mut fetches).await;
            self.core.metrics.keys_fetched(fetched.is_ok());
            match fetched {
                Ok(max_age) => (fetches.failures, fetches.next) = (0, tokio_now() + max_age),
                Err(error) => {
                    fetches.failures = fetches.failures.saturating_add(1);
                    fetches.next = tokio_now() + backoff(fetches.failures, LONGEST_BACKOFF);
                    self.failed(&error);
                }
            }
            self.stirred();
        }
    }

    /// The feed has said which key set is current.
    pub(super) fn hear_word(&self, version: KeysVersion) {
        self.word.send_if_modified(|word| word.replace(version) != Some(version));
        let behind = self.is_behind();
        self.core.keys_state.set_behind(behind);
        if !behind {
            self.confirm();
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        let word = *self.word.borrow();
        word.is_some() && self.core.checker.keys.load().version != word
    }

    fn confirm(&self) {
        self.core.keys_state.confirm_until(self.core.clock.boottime() + self.max_key_age);
    }

    /// Fetches the key set, and says for how long it is good.
    async fn fetch_keys(&self, fetches: &mut Fetches) -> Result<Duration, StepError> {
        let mut url = self.places(false).await?.jwks.clone();
        // Caches of content networks heed no `no-cache` of a request. To them this is another document.
        if self.is_behind() && fetches.failures > 0 {
            url.query_pairs_mut().append_pair("again", &Nonce(random_bytes(&SystemRandom)).to_string());
        }
        let mut request = self.web.get(url.clone());
        // A cache on the way may hold an older set; it has to ask.
        if self.is_behind() {
            request = request.header(header::CACHE_CONTROL, "no-cache");
        }
        if let Some(etag) = &fetches.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let answer = request.send().await.map_err(|e| FetchError::http(&url, &e))?;
        let max_age = max_age(answer.headers());
        if answer.status() == StatusCode::NOT_MODIFIED && fetches.etag.is_some() {
            return self.unchanged(max_age);
        }
        let etag = answer.headers().get(header::ETAG).cloned();
        let json = good(answer, MAX_SET).await?;
        let version = KeysVersion(Sha256::digest(&json).into());
        if self.word.borrow().is_some_and(|word| word != version) {
            return Err(StepError::Keys(format!("{url} has another key set than the feed says: not taken").into()));
        }
        let set = JwkSet::parse(&json).map_err(|e| FetchError::content(&url, e))?;
        self.core.checker.take_keys(set, version);
        fetches.etag = etag;
        self.core.keys_state.set_behind(self.is_behind());
        self.confirm();
        Ok(max_age)
    }

    /// Not modified since we fetched it: good, unless the feed says otherwise.
    fn unchanged(&self, max_age: Duration) -> Result<Duration, StepError> {
        if self.is_behind() {
            return Err(StepError::Keys("the key set is said to be unchanged, the feed says it is another".into()));
        }
        self.confirm();
        Ok(max_age)
    }
}

/// The runtime's own clock, which its timers run by.
fn tokio_now() -> Instant {
    Instant::now()
}

/// `Cache-Control: max-age` (RFC 9111 §5.2.2.1) within our bounds.
fn max_age(headers: &header::HeaderMap) -> Duration {
    let lists = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok());
    let seconds = lists.flat_map(|list| list.split(',')).find_map(|d| d.trim().strip_prefix("max-age=")?.parse().ok());
    seconds.map_or(LEAST_AGE, Duration::from_secs).clamp(LEAST_AGE, GREATEST_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_heeded_within_bounds() {
        for (value, seconds) in [
            ("max-age=300", 300),
            ("public, max-age=300", 300),
            ("max-age=0", 60),
            ("max-age=31536000", 1800),
            ("max-age=99999999999999999999", 60),
            ("no-store", 60),
        ] {
            let mut headers = header::HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, value.parse().expect("a header"));
            assert_eq!(max_age(&headers), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(max_age(&header::HeaderMap::new()), LEAST_AGE);
    }
}
