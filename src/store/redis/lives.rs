//! How long tokens and sessions have lived under earlier configurations, and under those of other nodes: what is denied
//! must be known until the last of them has ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Core,
    commit::{Commit, Outcome},
    step::TRIES,
};
use crate::{
    model::Timestamp,
    store::{StoreError, embedded::Older},
};

/// A life that nobody has spoken for in this time is over: a node that makes anything is not silent for so long.
const SILENT: Duration = Duration::from_secs(600);

/// The longest life that anybody speaks for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Longest {
    millis: u64,
    said_at: Timestamp,
    /// By then what was made under a longer one has ended.
    older_until: Timestamp,
}

impl Longest {
    /// As a node has it that makes what lives so long.
    fn said(self, now: Timestamp, mine: Duration) -> Self {
        let millis = u64::try_from(mine.as_millis()).unwrap_or(u64::MAX);
        let is_over = now >= self.said_at.plus(SILENT);
        match () {
            // Not written each minute by each node, only so often that nobody takes it for over.
            () if millis == self.millis && now < self.said_at.plus(SILENT / 2) => self,
            () if millis >= self.millis => Self { millis, said_at: now, ..self },
            () if is_over => Self { millis, said_at: now, older_until: self.until(mine) },
            () => self,
        }
    }

    /// By when everything has ended that lives longer than this.
    fn until(self, mine: Duration) -> Timestamp {
        let longest = Duration::from_millis(self.millis);
        let last = if longest > mine { self.said_at.plus(SILENT).plus(longest) } else { Timestamp::default() };
        self.older_until.max(last)
    }
}

/// What the hub holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Lives {
    access: Longest,
    session: Longest,
}

/// Of a store that comes from elsewhere: the longest life of tokens and of sessions there, in milliseconds, each with the
/// instant by which everything has ended that was made under a longer one.
pub(super) fn carried(now: Timestamp, [access, session]: [(u64, Timestamp); 2]) -> Vec<u8> {
    let longest = |(millis, older_until)| Longest { millis, said_at: now, older_until };
    let lives = Lives { access: longest(access), session: longest(session) };
    postcard::to_stdvec(&lives).expect("numbers serialise")
}

impl Core {
    /// Says how long what this node makes lives, and learns by when what others made has ended.
    pub(super) async fn say_lives(&self) -> Result<(), StoreError> {
        let (key, retention) = (self.layout.hub("lives"), self.options.retention);
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let row = self.seen(began, self.look_in_hub().get(key.clone())).await?.value()?;
            let known: Option<Lives> = row.as_deref().map(postcard::from_bytes).transpose().map_err(damaged)?;
            let (now, known) = (began.moment().now, known.unwrap_or_default());
            let access = known.access.said(now, retention.access);
            let lives = Lives { access, session: known.session.said(now, retention.session) };
            if lives != known {
                let commit = Commit::new(now)
                    .life(self.layout.hub("meta"), began.mark())
                    .value_is(key.clone(), row.as_deref())
                    .set(key.clone(), &postcard::to_stdvec(&lives).expect("numbers serialise"));
                let Outcome::Done(_) = commit.make(&self.link).await? else { continue };
            }
            let tokens_until = lives.access.until(retention.access);
            self.node.learn_older(Older { tokens_until, sessions_until: lives.session.until(retention.session) });
            return Ok(());
        }
        Err(StoreError::Busy)
    }
}

fn damaged(_: postcard::Error) -> StoreError {
    StoreError::Damaged("lives")
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_795_374_805);
    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn nodes_that_agree_have_nothing_older() {
        let mut lives = Longest::default();
        for minute in 0..100 {
            lives = lives.said(START.plus(minutes(minute)), minutes(5));
            assert_eq!(lives.until(minutes(5)), Timestamp::default());
        }
    }

    #[test]
    fn what_a_node_makes_that_lives_longer_is_known_until_it_has_ended() {
        let mut lives = Longest::default().said(START, minutes(60));
        // One restarts with shorter lives; the other goes on for an hour.
        for minute in 0..60 {
            let now = START.plus(minutes(minute));
            lives = lives.said(now, minutes(60)).said(now, minutes(5));
            assert!(lives.until(minutes(5)) >= now.plus(minutes(60)), "{minute}");
            assert_eq!(
                lives.until(minutes(60)),
                Timestamp::default(),
                "there is nothing that lives longer than an hour"
            );
        }
        // It stops; nobody speaks for the longer life any more.
        let settled = lives.until(minutes(5));
        for minute in 60..600 {
            lives = lives.said(START.plus(minutes(minute)), minutes(5));
            assert_eq!(lives.until(minutes(5)), settled);
        }
        assert_eq!(lives.millis, 300_000);
    }
}
