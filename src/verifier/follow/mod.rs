//! Keeps a verifier current: one task that finds the issuer, follows its feed and fetches its keys.

mod discovery;
pub(crate) mod http;
mod keys;
mod log;
mod observe;
mod report;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use reqwest::{Client, Url};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use self::{
    discovery::{Whereabouts, discover},
    http::{FetchError, check_transport, client_for},
};
use super::{FeedError, Misuse, core::Core};
use crate::{
    clock::{SystemRandom, random_bytes},
    model::feed::KeysVersion,
};

#[cfg(feature = "server")]
pub(crate) use self::observe::{Observed, Then};
pub(crate) use self::{
    observe::Observer,
    report::{ReportAs, Reporter},
};

/// How often the issuer is asked anew which keys sign its feed.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// How often, while it does not answer.
const LOOK_PAUSE: Duration = Duration::from_secs(30);
/// For how long they are trusted if it cannot be asked: a key that was given up is believed no longer than that.
const LOOK_WITHIN: Duration = Duration::from_secs(900);

/// The background task of a verifier. Dropping it ends it.
pub(crate) struct Task {
    handle: AbortHandle,
    stirred: watch::Receiver<()>,
}

impl Task {
    /// Starts following the issuer that the core's policy names.
    pub(super) fn start(
        core: Arc<Core>,
        max_key_age: Duration,
        observer: Option<Observer>,
        reporter: Option<Reporter>,
    ) -> Result<Self, Misuse> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Misuse::NoRuntime)?;
        let issuer = Url::parse(&core.checker.policy.issuer).map_err(|_| Misuse::IssuerUrl)?;
        check_transport(&issuer).map_err(|_| Misuse::IssuerUrl)?;
        let web = client_for(&issuer).map_err(|_| Misuse::Tls)?;
        let unknown_key = Arc::new(Notify::new());
        let tell = unknown_key.clone();
        core.keys_state.on_unknown(move || tell.notify_one());
        let (stir, stirred) = watch::channel(());
        let places = ArcSwapOption::empty();
        let word = watch::Sender::new(None);
        let driver = Driver { core, web, issuer, places, word, unknown_key, stir, max_key_age, observer };
        let handle = runtime.spawn(async move { driver.run(reporter).await }).abort_handle();
        Ok(Self { handle, stirred })
    }
    /// Waits for something that only the task can bring about.
    pub(super) async fn wait_until(&self, is_so: impl Fn() -> bool) {
        let mut stirred = self.stirred.clone();
        loop {
            stirred.mark_unchanged();
            if is_so() {
                return;
            }
            if stirred.changed().await.is_err() {
                // The runtime is going down: nobody will be told any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// What the two halves of the task share.
struct Driver {
    core: Arc<Core>,
    web: Client,
    issuer: Url,
    places: ArcSwapOption<Whereabouts>,
    /// The key set that is current, in the feed's words.
    word: watch::Sender<Option<KeysVersion>>,
    unknown_key: Arc<Notify>,
    stir: watch::Sender<()>,
    max_key_age: Duration,
    observer: Option<Observer>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("{0}")]
    Keys(Box<str>),
}

impl Driver {
    async fn run(self, reporter: Option<Reporter>) {
        // Both never end: dropping the task ends them.
        tokio::join!(self.follow_log(reporter), self.follow_keys());
    }

    /// Where the issuer is to be asked; asks for that first, or again if what is known has not worked lately, or is old.
    async fn places(&self, again: bool) -> Result<Arc<Whereabouts>, FetchError> {
        let (known, now) = (self.places.load_full(), self.core.clock.boottime());
        let known = known.filter(|known| now.saturating_sub(known.found) < LOOK_WITHIN);
        if let Some(known) = known.clone().filter(|_| !again) {
            return Ok(known);
        }
        let asked = discover(&self.web, &self.core.checker.policy.issuer, &self.issuer, again, now);
        match (asked.await, known) {
            (Ok(found), _) => {
                let found = Arc::new(found);
                self.places.store(Some(found.clone()));
                Ok(found)
            }
            (Err(_), Some(known)) => Ok(known),
            (Err(error), None) => Err(error),
        }
    }
    /// Whether it is time to ask anew where things are.
    fn is_to_look(&self, last: Duration) -> bool {
        let now = self.core.clock.boottime();
        let old = |places: &Arc<Whereabouts>| now.saturating_sub(places.found) >= LOOK_EVERY;
        // Not with each question if it does not answer: the feed is not to wait for it.
        self.places.load().as_ref().is_some_and(old) && now.saturating_sub(last) >= LOOK_PAUSE
    }

    fn stirred(&self) {
        self.stir.send_replace(());
    }
    fn failed(&self, error: &StepError) {
        self.core.status().last_error = Some(error.to_string().into());
        self.stirred();
    }
}

/// How long to wait after so many failures in a row: doubling up to `most`, and never the same for two followers.
fn backoff(failures: u32, most: Duration) -> Duration {
    let least = Duration::from_millis(100);
    let full = (least * 2_u32.saturating_pow(failures.min(16))).min(most.max(least));
    let [random] = random_bytes::<1>(&SystemRandom);
    full.mul_f64(0.5 + f64::from(random) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_are_scattered() {
        let most = Duration::from_secs(2);
        for (failures, full) in [(1, 200), (2, 400), (3, 800), (4, 1600), (5, 2000), (u32::MAX, 2000)] {
            let full = Duration::from_millis(full);
            let pauses: std::collections::HashSet<_> = (0..64).map(|_| backoff(failures, most)).collect();
            assert!(pauses.iter().all(|pause| (full / 2..full).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.len() > 16, "{failures}: many who failed together must not come back together");
        }
    }
}
