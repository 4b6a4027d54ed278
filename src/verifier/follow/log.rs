//! The half of the task that follows the feed.

use std::{sync::Arc, time::Duration};

use super::{
    Driver, Reporter, StepError, Whereabouts, backoff,
    http::{FetchError, good},
};
use crate::{
    clock::{SystemRandom, random_bytes},
    model::feed::{Epoch, MAX_ANSWER, Nonce},
    verifier::{
        FeedError,
        follower::{Follower, Next, Question},
    },
};

/// The longest that a tail is asked to wait. The service allows no more.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest that an answer may take beyond that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest pause after failures.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// The longest wait of one who reports, while it fetches the keys.
const FOR_KEYS: Duration = Duration::from_secs(1);

/// How long things may take, so that one answer that fails is not yet an outage.
#[derive(Clone, Copy)]
struct Pace {
    wait: Duration,
    patience: Duration,
    backoff: Duration,
}

impl Pace {
    fn of(max_staleness: Duration) -> Self {
        let third = max_staleness / 3;
        Self { wait: third.min(LONGEST_WAIT), patience: third.min(PATIENCE), backoff: third.min(LONGEST_BACKOFF) }
    }
}

impl Driver {
    pub(super) async fn follow_log(&self, mut reporter: Option<Reporter>) {
        let max_staleness = self.core.max_staleness.unwrap_or(3 * LONGEST_WAIT);
        let pace = Pace::of(max_staleness);
        let mut follower = Follower::new(&self.core.checker.policy.issuer, Default::default(), max_staleness);
        let (mut failures, mut look_again, mut looked) = (0_u32, false, Duration::ZERO);
        loop {
            if self.is_to_look(looked) {
                look_again = true;
            }
            if look_again {
                looked = self.core.clock.boottime();
            }
            let stepped = match self.places_within(look_again, pace.patience).await {
                Ok(places) => self.step(&mut follower, &mut reporter, &places, pace).await,
                Err(error) => Err(error.into()),
            };
            let pause = match stepped {
                Ok(pause) => {
                    look_again = false;
                    // While history is not to be had, the tails in between are no success: with them alone, the service
                    // would be asked for both again and again and never less often.
                    if !follower.begins_again() {
                        failures = 0;
                    }
                    pause
                }
                Err(error) => {
                    // The feed may have another key or place by now. Asked at once if the signature is not of a key that
                    // we know, else after a while.
                    look_again = failures % 8 == 3 || (failures == 0 && is_unknown_key(&error));
                    failures = failures.saturating_add(1);
                    self.core.metrics.feed_failed();
                    self.failed(&error);
                    self.show_failure(&error).await;
                    Some(backoff(failures, pace.backoff))
                }
            };
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// As [`Driver::places`]. An issuer that is slow to say where things are must not make what is known of them stale.
    async fn places_within(&self, again: bool, patience: Duration) -> Result<Arc<Whereabouts>, FetchError> {
        if !again || self.places.load().is_none() {
            return self.places(again).await;
        }
        match tokio::time::timeout(patience, self.places(true)).await {
            Ok(places) => places,
            Err(_) => self.places(false).await,
        }
    }

    /// One question and its answer. Says for how long to pause.
    async fn step(
        &self,
        follower: &mut Follower,
        reporter: &mut Option<Reporter>,
        places: &Arc<Whereabouts>,
        pace: Pace,
    ) -> Result<Option<Duration>, StepError> {
        follower.set_keys(places.feed_keys.clone());
        match follower.next() {
            Next::Tail { wait } => self.ask_tail(follower, reporter, places, pace, wait).await,
            Next::Page { epoch, page, again } => {
                let past_caches = again.then(|| Nonce(random_bytes(&SystemRandom)));
                let asked = self.ask_page(follower, places, epoch, page, past_caches).await;
                if asked.is_err() {
                    follower.begin_again();
                }
                asked.map(|()| None)
            }
        }
    }

    async fn ask_tail(
        &self,
        follower: &mut Follower,
        reporter: &mut Option<Reporter>,
        places: &Whereabouts,
        pace: Pace,
        wait: bool,
    ) -> Result<Option<Duration>, StepError> {
        let (core, after) = (&self.core, follower.place());
        let question = Question { nonce: Nonce(random_bytes(&SystemRandom)), sent: core.clock.boottime() };
        // One who is in the dark, after a sleep say, wants to hear at once that there is no news. One who reports has news
        // itself once it has fetched the keys.
        let longest = if reporter.is_some() && self.is_behind() { pace.wait.min(FOR_KEYS) } else { pace.wait };
        let wait = if wait && core.replica.fresh_for(question.sent).is_some() { longest } else { Duration::ZERO };
        let mut url = places.feed.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("nonce", &question.nonce.to_string());
            query.append_pair("wait", &wait.as_millis().to_string());
            if let Some(keys) = *self.word.borrow() {
                query.append_pair("keys", &keys.to_string());
            }
            if let Some(place) = after {
                query.append_pair("epoch", &place.epoch.to_string());
                query.append_pair("position", &place.mark.position.to_string());
                query.append_pair("digest", &place.mark.digest.to_string());
            }
        }
        let answer = self.fetch(url, wait + pace.patience, reporter.as_mut()).await?;
        let heard = follower.hear_tail(&question, &answer, core.clock.boottime(), &core.replica)?;
        self.show_tail(&answer, &places.feed_keys, follower).await;
        core.metrics.feed_heard(heard.entries);
        self.hear_word(heard.keys);
        {
            let mut status = core.status();
            status.place = follower.place();
            status.last_error = None;
        }
        self.stirred();
        // However full the service is: who stays away for longer than that is no longer available.
        Ok(heard.pause.map(|pause| pause.min(pace.wait)))
    }

    async fn ask_page(
        &self,
        follower: &mut Follower,
        places: &Whereabouts,
        epoch: Epoch,
        page: u64,
        past_caches: Option<Nonce>,
    ) -> Result<(), StepError> {
        let mut url = places.feed.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(&epoch.to_string()).push(&page.to_string());
        }
        // A page that a cache has kept may name a next one that is gone by now. To a cache this is another page.
        if let Some(nonce) = past_caches {
            url.query_pairs_mut().append_pair("again", &nonce.to_string());
        }
        let answer = self.fetch(url, LONGEST_WAIT + PATIENCE, None).await?;
        let core = &self.core;
        follower.hear_page(&answer, core.clock.boottime(), &core.replica)?;
        self.show_page(&answer, &places.feed_keys, follower).await;
        core.status().place = follower.place();
        self.stirred();
        Ok(())
    }

    /// Asks, and reports beside it if there is a reporter.
    async fn fetch(
        &self,
        url: reqwest::Url,
        within: Duration,
        reporter: Option<&mut Reporter>,
    ) -> Result<String, FetchError> {
        let (core, now) = (&self.core, self.core.clock.boottime());
        let keys = core.checker.keys.load().version;
        let report = reporter.and_then(|reporter| Some((reporter.headers(keys, now)?, reporter)));
        let mut request = self.web.get(url.clone()).timeout(within);
        if let Some((headers, _)) = &report {
            request = request.headers(headers.clone());
        }
        let answer = request.send().await.map_err(|e| FetchError::http(&url, &e))?;
        if let Some((_, reporter)) = report
            && let Some(reported) = reporter.hear(answer.status().as_u16(), answer.headers(), core.clock.boottime())
        {
            core.status().reported = Some(reported);
        }
        let bytes = good(answer, MAX_ANSWER).await?;
        String::from_utf8(bytes).map_err(|_| FetchError::content(&url, "is not text"))
    }
}

fn is_unknown_key(error: &StepError) -> bool {
    use crate::verifier::Rejection::{KeyUnknown, Signature};
    matches!(error, StepError::Feed(FeedError::Signature(KeyUnknown | Signature)))
}
