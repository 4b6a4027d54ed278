//! The first transaction of an opening: layout, lives of earlier configurations, and the witness's word.

use std::time::Duration;

use redb::{Database, ReadableTable};

use super::{
    Acceptance, OpenError, Options,
    clerk::{BROKEN, Clerk},
    import::UNDECLARED,
    tables::{Character, Happened, INSTALLATION, META, Progress, SCHEMA, Step, decode, encode, failed},
    witness::Witness,
};
use crate::{
    clock::{Clock, Random, random_bytes},
    model::{
        Installation, Timestamp,
        audit::{Draft, Event, Outcome},
        chain::Head,
        denial::{Ends, Retention, Target},
        family::{Moment, Standing},
    },
    store::{ASSERTION_LIFE, Denial, StoreError},
};

pub(super) struct Start {
    pub(super) character: Character,
    pub(super) progress: Progress,
    pub(super) standing: Standing,
}

/// The first transaction of an opening: creates or checks the layout, and hears the witness.
pub(super) fn prepare(
    db: &Database,
    options: &Options,
    clock: &dyn Clock,
    random: &dyn Random,
    accepted_by: &Draft,
    clerk: &mut Clerk,
) -> Result<Start, OpenError> {
    let damaged = |e: StoreError| OpenError::Damaged(e.to_string());
    let redb_damaged = |e: redb::Error| OpenError::Damaged(e.to_string());
    let txn = db.begin_write().map_err(|e| redb_damaged(e.into()))?;
    let (start, witness) = {
        let meta = txn.open_table(META).map_err(|e| redb_damaged(e.into()))?;
        let stored =
            |name: &str| meta.get(name).map(|v| v.map(|b| b.value().to_vec())).map_err(|e| redb_damaged(e.into()));
        let fresh = stored("character")?.is_none();
        let undeclared = stored(UNDECLARED)?.is_some();
        let made_by = stored(INSTALLATION)?.map(|b| decode(&b, "installation")).transpose().map_err(damaged)?;
        let taken_over = is_taken_over(made_by.map(Installation), options)?;
        let acceptance = if taken_over { Acceptance::EndSessions } else { options.acceptance };
        let (mut before_feed, mut before_chain) = (fresh, false);
        if let Some(schema) = stored("schema")? {
            let found = decode(&schema, "schema").map_err(damaged)?;
            if !(1..=SCHEMA).contains(&found) {
                return Err(OpenError::Schema { found });
            }
            (before_feed, before_chain) = (found < 2, found < 3);
        }
        let access_millis = u64::try_from(options.retention.access.as_millis()).unwrap_or(u64::MAX);
        let session_millis = u64::try_from(options.retention.session.as_millis()).unwrap_or(u64::MAX);
        let mut character = match stored("character")? {
            Some(bytes) => decode(&bytes, "character").map_err(damaged)?,
            None => Character {
                schema: SCHEMA,
                id: u128::from_be_bytes(random_bytes(random)),
                epoch: u128::from_be_bytes(random_bytes(random)),
                incarnation: 0,
                restored: 0,
                access_millis,
                older_until: Timestamp::default(),
                session_millis,
                older_sessions_until: Timestamp::default(),
                witnessed: false,
            },
        };
        let progress: Progress =
            stored("progress")?.map_or(Ok(Progress::default()), |b| decode(&b, "progress")).map_err(damaged)?;
        drop(meta);
        // Tokens minted under a longer life than today's must be deniable until the last of them has expired.
        let now = clock.now();
        let older_life = Duration::from_millis(character.access_millis);
        if older_life > options.retention.access {
            character.older_until = character.older_until.max(now.plus(older_life));
        }
        // The same for sessions: a cut-off must be kept as long as a session that it ended could be refreshed.
        let older_session = Duration::from_millis(character.session_millis);
        if older_session > options.retention.session {
            character.older_sessions_until = character.older_sessions_until.max(now.plus(older_session));
        }
        (character.access_millis, character.session_millis) = (access_millis, session_millis);
        character.schema = SCHEMA;
        let durable = progress.commits;
        let witness = options.witness.clone().map(Witness::new);
        let examine = |w: &Witness| w.examine(character.id, progress.commits, fresh, character.witnessed);
        let file = |source| OpenError::File { path: options.witness.clone().unwrap_or_default(), source };
        let mut standing = witness.as_ref().map_or(Ok(Standing::Whole), examine).map_err(file)?;
        if undeclared {
            standing = Standing::NotWhole;
        }
        let in_doubt = standing != Standing::Whole || options.declared || taken_over;
        let accept = in_doubt && acceptance != Acceptance::Wait;
        if accept {
            // Another store from here on: the one that was lost, if it should turn up, is not taken for this one.
            character.id = u128::from_be_bytes(random_bytes(random));
            character.incarnation += 1;
            character.restored = character.incarnation;
            character.epoch = u128::from_be_bytes(random_bytes(random));
            standing = Standing::Whole;
        }
        let moment =
            Moment { now, served: progress.served, incarnation: character.incarnation, restored: character.restored };
        if standing != Standing::Whole {
            // Nothing is written to a store that is not ours to continue, not even the fact that it was opened: its
            // count of commits would catch up with the witness's.
            return Ok(Start { character, progress, standing });
        }
        let testified = witness.as_ref().map_or(Ok(None), Witness::audit).map_err(file)?;
        // With an operator's word the log that is there is the one that counts from here on.
        clerk.testified = testified.filter(|_| !accept);
        if let Some(witness) = witness.as_ref().filter(|_| !character.witnessed) {
            // From this commit on a missing witness is a contradiction, so there must be one before it. What it says is
            // true already.
            witness.write(character.id, durable, None).map_err(file)?;
            character.witnessed = true;
        }
        let mut step = Step::begin(&txn, character, moment, clerk).map_err(damaged)?;
        if before_feed {
            step.lay_feed().map_err(damaged)?;
        }
        if before_chain {
            step.chain_older_records().map_err(damaged)?;
            step.lay_open().map_err(damaged)?;
        }
        step.examine_chain().map_err(damaged)?;
        if accept {
            // A client that gives it to a running service is named by the record itself.
            let whose = options.accepted_by.as_deref().filter(|_| accepted_by.actor.is_none());
            let word = Word { acceptance, taken_over, whose, testified };
            accept_loss(&mut step, &word, options.retention, accepted_by).map_err(damaged)?;
        }
        if let Some(Installation(keys)) = options.installation {
            step.meta.insert(INSTALLATION, &encode(&keys)[..]).map_err(|e| redb_damaged(e.into()))?;
        }
        step.make_up_for_the_clock(now).map_err(damaged)?;
        step.meta.insert("schema", &encode(&SCHEMA)[..]).map_err(|e| redb_damaged(e.into()))?;
        step.meta.insert("character", &encode(&character)[..]).map_err(|e| redb_damaged(e.into()))?;
        let progress = step.finish().map_err(damaged)?;
        (Start { character, progress, standing }, witness)
    };
    txn.commit().map_err(|e| redb_damaged(e.into()))?;
    // Durable: from here on the witness may say so.
    if let Some(witness) = witness {
        let file = |source| OpenError::File { path: options.witness.clone().unwrap_or_default(), source };
        let audit = clerk.to_testify();
        witness.write(start.character.id, start.progress.commits, audit).map_err(file)?;
        clerk.testified = audit;
    }
    Ok(start)
}

/// Whether keys that did not make the store take it over; refused unless somebody said that it is meant.
fn is_taken_over(made_by: Option<Installation>, options: &Options) -> Result<bool, OpenError> {
    match (made_by, options.installation) {
        (Some(store), Some(keys)) if store != keys && !options.other_keys => Err(OpenError::OtherKeys { store, keys }),
        (Some(store), Some(keys)) => Ok(store != keys),
        _ => Ok(false),
    }
}

/// An operator has accepted that acknowledged writes are gone. What they denied must not come alive.
fn accept_loss(step: &mut Step<'_>, word: &Word<'_>, retention: Retention, by: &Draft) -> Result<(), StoreError> {
    if word.taken_over {
        step.forget_book()?;
        step.disown_chain()?;
    }
    let cause = word.cause(&step.lost_records(word.testified)?);
    step.raise_alarm()?;
    step.meta.remove(UNDECLARED).map_err(failed)?;
    step.meta.remove(BROKEN).map_err(failed)?;
    let keep = word.acceptance == Acceptance::DangerouslyKeepSessions;
    let denial = Denial {
        target: Target::All,
        ends: if keep { Ends::Tokens } else { Ends::Sessions },
        before: None,
        expires: None,
        reason: Some(word.reason().into()),
        audit: by.clone(),
    };
    step.deny(denial, retention)?;
    // Nor is it known any more which assertions have been used.
    step.forget_assertions_by(step.moment.now.plus(ASSERTION_LIFE))?;
    step.note(
        by.clone(),
        Happened {
            event: Event::StoreAccepted,
            outcome: Outcome::Done,
            session: None,
            generation: None,
            cause: Some(cause.into()),
        },
    )
}

/// What somebody has said of a store that came back.
struct Word<'o> {
    acceptance: Acceptance,
    taken_over: bool,
    whose: Option<&'o str>,
    /// How far the witness remembers the audit log.
    testified: Option<Head>,
}

impl Word<'_> {
    fn reason(&self) -> &'static str {
        if self.taken_over {
            "the store was taken over by other keys"
        } else {
            "the store came back without acknowledged writes"
        }
    }

    fn cause(&self, lost: &str) -> String {
        let sessions = match self.acceptance {
            Acceptance::DangerouslyKeepSessions => "sessions kept",
            _ => "sessions ended",
        };
        let keys = if self.taken_over { ", taken over by other keys" } else { "" };
        let whose = self.whose.map(|who| format!(", by {who} on the machine that serves")).unwrap_or_default();
        format!("{sessions}{keys}{whose}{lost}")
    }
}
