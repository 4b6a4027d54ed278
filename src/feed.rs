//! The feed as followers get it: parts of the log, signed for whoever asks, as soon as there is something new.
//!
//! Nobody proves who they are to follow it, so nothing in it names a person, and nobody can keep others from it: what
//! is capped is how many may wait, never how many may ask.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    keyring::Keyring,
    model::feed::{self, Epoch, KeysVersion, Mark, Nonce, PAGE, PAGE_TYPE, TAIL_TYPE, Tail},
    store::{DenyStore, LogTail, StoreError},
};

/// The longest that a request may ask to wait for news.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long followers are asked to stay away when no more may wait.
const PAUSE: Duration = Duration::from_secs(2);
/// How often news is spread at most. The first after a quiet time goes out at once; in a storm this bounds what each
/// follower costs.
const RHYTHM: Duration = Duration::from_millis(20);

/// What a follower asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// To be echoed.
    pub nonce: Nonce,
    /// Where it stands.
    pub at: Option<(Epoch, Mark)>,
    /// The key set that it has heard of: another one is news.
    pub keys: Option<KeysVersion>,
    /// How long it will wait for news, if it stands at the end.
    pub wait: Duration,
}

/// A follower that has asked and is not answered yet, and the log as it was found then.
#[derive(Debug)]
pub struct Arrival {
    ask: Ask,
    came: Duration,
    bell: watch::Receiver<Bell>,
    heard: Bell,
    tail: LogTail,
}

impl Arrival {
    /// Which life of the log it says that it follows.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.ask.at.map(|(epoch, _)| epoch)
    }

    /// Up to where it says to have read, if that is a place of this log: it knows the digest of all before it.
    pub(crate) fn position(&self) -> Option<u64> {
        let here = |&(epoch, mark): &(Epoch, Mark)| epoch == self.tail.epoch && mark == self.tail.from;
        self.ask.at.filter(here).map(|(_, mark)| mark.position)
    }
}

/// An answer, signed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// A compact JWS.
    pub jws: String,
    /// How many entries it holds.
    pub entries: usize,
    /// Whether it would have waited, had there been room.
    pub full: bool,
}

/// What wakes those who wait.
#[derive(Clone, Copy, Debug)]
struct Bell {
    head: u64,
    keys: KeysVersion,
}

/// The feed of one issuer.
pub struct Feed<S> {
    issuer: Box<str>,
    store: Arc<S>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    bell: watch::Sender<Bell>,
    waiting: AtomicUsize,
}

impl<S> std::fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({}, {:?})", self.issuer, self.keyring.feed_key())
    }
}

impl<S: DenyStore> Feed<S> {
    /// Of this store, signed with that keyring's key for it.
    pub fn new(issuer: &str, store: Arc<S>, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        let bell = watch::Sender::new(Bell { head: 0, keys: keyring.jwks().version });
        Self { issuer: issuer.into(), store, keyring, clock, bell, waiting: AtomicUsize::new(0) }
    }

    /// The end of the log. A follower that stands there waits for news, for its time or until `stop`, if fewer than
    /// `cap` do so already.
    ///
    /// # Errors
    /// [`StoreError`]: "complete up to here, now" is said only with a store that is whole and can be read.
    pub async fn tail(&self, ask: Ask, cap: usize, stop: impl Future<Output = ()>) -> Result<Answer, StoreError> {
        let arrival = self.receive(ask).await?;
        self.answer(arrival, cap, stop).await
    }

    /// The first half of [`Feed::tail`]: who asks has come, and nothing has been waited for.
    ///
    /// # Errors
    /// As [`Feed::tail`].
    pub async fn receive(&self, ask: Ask) -> Result<Arrival, StoreError> {
        let came = self.clock.monotonic();
        // Listened to from before the store is asked: what is appended after that look rings.
        let bell = self.bell.subscribe();
        let heard = *bell.borrow();
        let tail = self.store.tail(ask.at, PAGE).await?;
        Ok(Arrival { ask, came, bell, heard, tail })
    }

    /// The second half of [`Feed::tail`].
    ///
    /// # Errors
    /// As [`Feed::tail`].
    pub async fn answer(
        &self,
        arrival: Arrival,
        cap: usize,
        stop: impl Future<Output = ()>,
    ) -> Result<Answer, StoreError> {
        let Arrival { ask, came, mut bell, heard, mut tail } = arrival;
        let keys = ask.keys.unwrap_or(heard.keys);
        let (mut waited, mut pause) = (Duration::ZERO, None);
        if !ask.wait.is_zero() && stands_at_the_end(&ask, &tail) {
            match self.take_a_place(cap) {
                // Refusing here would let whoever takes the places cut off the verifiers: they are answered as well,
                // with what they need, and asked to come less often.
                None => pause = Some(PAUSE),
                Some(_place) => {
                    let news = bell.wait_for(|now| now.head > tail.head || now.head < heard.head || now.keys != keys);
                    tokio::select! {
                        _ = news => {}
                        () = tokio::time::sleep(ask.wait) => {}
                        () = stop => {}
                    }
                    // Before the store is asked, not after: what is written while it answers may be missing.
                    waited = self.clock.monotonic().saturating_sub(came);
                    tail = self.store.tail(ask.at, PAGE).await?;
                }
            }
        }
        self.keyring.confirmed()?;
        Ok(self.sign_tail(ask.nonce, tail, waited, pause))
    }

    fn sign_tail(&self, nonce: Nonce, tail: LogTail, waited: Duration, pause: Option<Duration>) -> Answer {
        let LogTail { epoch, from, to, head, first_page, now, entries } = tail;
        let (number, millis) = (entries.len(), |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let tail = Tail {
            issuer: self.issuer.clone(),
            nonce,
            epoch,
            from,
            to,
            head,
            first_page,
            now,
            waited: millis(waited),
            pause: pause.map(millis),
            keys: self.keyring.jwks().version,
            entries,
        };
        Answer { jws: self.sign(TAIL_TYPE, &tail), entries: number, full: pause.is_some() }
    }

    /// A page of history; `None` if there is no such page, or no longer.
    ///
    /// # Errors
    /// As [`Feed::tail`].
    pub async fn page(&self, epoch: Epoch, number: u64) -> Result<Option<Answer>, StoreError> {
        let Some(page) = self.store.page(number).await?.filter(|page| page.epoch == epoch) else { return Ok(None) };
        self.keyring.confirmed()?;
        let (issuer, number) = (self.issuer.clone(), page.entries.len());
        let page = feed::Page { issuer, epoch, from: page.from, to: page.to, entries: page.entries };
        Ok(Some(Answer { jws: self.sign(PAGE_TYPE, &page), entries: number, full: false }))
    }

    /// A compact JWS (RFC 7515 §3.1) by the feed's key.
    fn sign(&self, kind: &str, payload: &impl Serialize) -> String {
        let key = self.keyring.feed_key();
        let header = serde_json::json!({"typ": kind, "alg": key.algorithm().name(), "kid": key.kid()});
        let payload = serde_json::to_vec(payload).expect("numbers and strings serialise");
        let mut jws = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        jws.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut jws);
        let signature = key.sign(jws.as_bytes());
        jws.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
        jws
    }

    /// Rings whenever the log has grown, for as long as it is polled. One is enough for all who wait.
    pub async fn herald(&self) {
        let mut head = self.bell.borrow().head;
        loop {
            head = self.store.appended(head).await;
            self.bell.send_modify(|bell| bell.head = head);
            tokio::time::sleep(RHYTHM).await;
        }
    }

    /// The keys may have changed: rings if the published set is another.
    pub fn keys_changed(&self) {
        let keys = self.keyring.jwks().version;
        self.bell.send_if_modified(|bell| std::mem::replace(&mut bell.keys, keys) != keys);
    }

    /// How many wait.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn take_a_place(&self, cap: usize) -> Option<Place<'_>> {
        let place = Place(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < cap).then_some(place)
    }
}

fn stands_at_the_end(ask: &Ask, tail: &LogTail) -> bool {
    ask.at == Some((tail.epoch, tail.to)) && tail.to.position == tail.head
}

/// One of those who wait; given back also when the request is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
