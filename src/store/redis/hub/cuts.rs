//! What the hub cuts off: of a client, and of everyone. Every refresh asks twice, so one look answers all who wait when it
//! begins; whoever comes while it is under way waits for the next. What was seen of late is good for who asks again before
//! anyone is answered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::Value;
use tokio::{
    sync::{mpsc::Receiver, oneshot},
    time::timeout,
};

use super::{Hub, gone};
use crate::{
    model::{
        ClientId, Timestamp,
        denial::{Ends, Target},
    },
    store::{
        StoreError,
        embedded::{Hold, decode, index_key},
        redis::{
            Core,
            commit::{UNREADABLE, maybe, number},
            life::Began,
            step::is_of,
        },
    },
};

/// Questions that wait at most.
pub(super) const QUEUE: usize = 4096;
/// Questions that one look answers at most.
const TOGETHER: usize = 256;

/// Before which instants the hub's cut-offs, of a client and of everyone, cover.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store::redis) struct HubCuts {
    pub(in crate::store::redis) sessions: Timestamp,
    pub(in crate::store::redis) tokens: Timestamp,
    /// The time of the hub's server when it was looked at.
    pub(in crate::store::redis) at: Timestamp,
}

impl HubCuts {
    fn and(self, other: Self) -> Self {
        Self { sessions: self.sessions.max(other.sessions), tokens: self.tokens.max(other.tokens), ..self }
    }
}

/// How long what was seen is of late.
const LATE: Duration = Duration::from_millis(50);
/// Of how many clients it is remembered.
const CLIENTS: usize = 4096;

/// Under what a look was taken, when it was asked for, and what it saw.
type Seen = (Began, Duration, HubCuts);

/// What was seen last, for each client.
#[derive(Default)]
pub(super) struct Latest(Mutex<HashMap<ClientId, Seen>>);

impl Latest {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, client: &ClientId, seen: Seen) {
        let mut latest = self.lock();
        if let Some(known) = latest.get_mut(client) {
            *known = seen;
            return;
        }
        if latest.len() >= CLIENTS {
            latest.clear();
        }
        latest.insert(client.clone(), seen);
    }
}

impl Hub {
    /// What cuts this client off, as it was seen of late in the life that this began under.
    pub(in crate::store::redis) fn cuts_of_late(
        &self,
        began: &Began,
        client: &ClientId,
        now: Duration,
    ) -> Option<HubCuts> {
        let (under, asked, cuts) = *self.latest.lock().get(client)?;
        (under.mark() == began.mark() && now.saturating_sub(asked) < LATE).then_some(cuts)
    }
}

/// A question, and where the answer goes.
pub(in crate::store::redis) struct Asked {
    began: Began,
    client: ClientId,
    answer: oneshot::Sender<Result<HubCuts, StoreError>>,
}

impl Core {
    /// What the hub cuts off, at an instant after this was asked. A hub that is not of this store tells nothing.
    pub(in crate::store::redis) async fn hub_cuts(
        &self,
        began: Began,
        client: &ClientId,
    ) -> Result<HubCuts, StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { began, client: client.clone(), answer };
        self.hub.cuts.try_send(asked).map_err(|_| StoreError::Busy)?;
        let within = timeout(self.options.deadline, answered).await;
        within.map_err(|_| StoreError::Failed("the hub did not answer in time".into()))?.map_err(|_| gone())?
    }

    /// What cuts each of these clients off.
    async fn look_at_hub_cuts(&self, asked: &[Asked]) -> Result<(Option<Vec<u8>>, Vec<HubCuts>), StoreError> {
        let denied = self.layout.hub("denied");
        let mut places = BTreeMap::new();
        let mut targets = vec![Target::All];
        let of_each: Vec<usize> = asked
            .iter()
            .map(|asked| {
                *places.entry(&asked.client).or_insert_with(|| {
                    targets.push(Target::Client(asked.client.clone()));
                    targets.len() - 1
                })
            })
            .collect();
        let fields = targets.iter().flat_map(|target| [Ends::Sessions, Ends::Tokens].map(|e| index_key(target, e)));
        // Plain commands cost the server less than a script. The marker is read after them: a hub that was emptied in
        // between has none.
        let (mut rows, mut life) = (redis::cmd("HMGET"), redis::cmd("HGET"));
        rows.arg(&denied);
        for field in fields {
            rows.arg(field);
        }
        life.arg(self.layout.hub("meta")).arg("life");
        let answers = self.link.commands(&denied, vec![redis::cmd("TIME"), rows, life]).await?;
        let [Value::Array(time), Value::Array(rows), life] = &answers[..] else { return Err(UNREADABLE) };
        let [seconds, micros] = &time[..] else { return Err(UNREADABLE) };
        let at = Timestamp::from_seconds(number(seconds)?).plus(Duration::from_micros(number(micros)?));
        let before = |part| {
            let hold = maybe(part)?.map(|row| decode::<Hold>(row, "denial")).transpose()?;
            Ok::<_, StoreError>(hold.map_or(Timestamp::default(), |hold| hold.before))
        };
        let (pairs, _) = rows.as_chunks::<2>();
        let cuts: Vec<HubCuts> = pairs
            .iter()
            .map(|[sessions, tokens]| Ok(HubCuts { sessions: before(sessions)?, tokens: before(tokens)?, at }))
            .collect::<Result<_, StoreError>>()?;
        let all = cuts.first().copied().ok_or(UNREADABLE)?;
        let of = |place: usize| cuts.get(place).map(|ours| ours.and(all)).ok_or(UNREADABLE);
        Ok((maybe(life)?.map(<[u8]>::to_vec), of_each.into_iter().map(of).collect::<Result<_, _>>()?))
    }
}

/// Answers until the store is closed.
pub(in crate::store::redis) async fn look_out(core: Weak<Core>, mut questions: Receiver<Asked>) {
    let mut asked = Vec::new();
    while questions.recv_many(&mut asked, TOGETHER).await > 0 {
        // Whoever is about to ask, too, does so first.
        tokio::task::yield_now().await;
        while asked.len() < TOGETHER
            && let Ok(question) = questions.try_recv()
        {
            asked.push(question);
        }
        let Some(core) = core.upgrade() else { return };
        answer(&core, std::mem::take(&mut asked)).await;
    }
}

async fn answer(core: &Arc<Core>, mut all: Vec<Asked>) {
    // Whoever has gone away meanwhile need not be answered.
    all.retain(|asked| !asked.answer.is_closed());
    if all.is_empty() {
        return;
    }
    let now = core.clock.monotonic();
    let (life, cuts) = match core.look_at_hub_cuts(&all).await {
        Ok((life, cuts)) => (life, cuts.into_iter().map(Ok).collect()),
        Err(error) => (None, vec![Err(error); all.len()]),
    };
    let mut learnt: Option<ClientId> = None;
    for (Asked { began, client, answer }, cuts) in all.into_iter().zip(cuts) {
        let told = cuts.and_then(|cuts| is_of(life.as_deref(), &began).map(|()| cuts));
        if let Ok(cuts) = told
            && learnt.as_ref() != Some(&client)
        {
            core.hub.latest.learn(&client, (began, now, cuts));
            learnt = Some(client);
        }
        let _ = answer.send(told);
    }
}
