//! A stream as it grows. It is waited for at the server, so that takes a connection of its own.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Link,
    answers::{list, text},
    wire::{Lost, Value, Wire, told},
};
use crate::store::{
    StoreError,
    redis::{commit::UNREADABLE, url::Place},
};

/// The longest that one waits at the server.
const LONGEST: Duration = Duration::from_secs(5);

/// What lies at one place of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its name.
    pub id: String,
    /// Names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a stream.
pub struct Reader {
    link: Link,
    key: Vec<u8>,
    wire: Option<(Place, Wire)>,
}

impl Reader {
    pub(super) fn new(link: Link, key: &[u8]) -> Self {
        Self { link, key: key.into(), wire: None }
    }

    /// What lies after `after` (an id), `most` of it at most; if there is nothing, it is waited for, up to `patience` and
    /// never longer than five seconds. Nothing comes if nothing was added by then.
    ///
    /// # Errors
    /// [`StoreError::Failed`]; the next call connects anew, to whoever is the master then.
    pub async fn read(&mut self, after: &str, most: usize, patience: Duration) -> Result<Vec<Item>, StoreError> {
        let patience = patience.clamp(Duration::from_millis(1), LONGEST);
        let read = self.attempt(after, most, patience).await;
        match read {
            Ok(Value::Nil) => Ok(Vec::new()),
            Ok(answer) => items(&answer).ok_or(UNREADABLE),
            Err(why) => {
                self.wire = None;
                self.link.shared().topology.doubt.notify_one();
                Err(StoreError::Failed(why.0))
            }
        }
    }

    async fn attempt(&mut self, after: &str, most: usize, patience: Duration) -> Result<Value, Lost> {
        let shared = self.link.shared();
        let until = Instant::now() + shared.deadline;
        let server = shared.topology.master(&self.key)?;
        server.fit(until).await?;
        if self.wire.as_ref().is_none_or(|(place, wire)| *place != server.place || !wire.alive()) {
            let opened = timeout_at(until, Wire::open(&server.place, &shared.manner)).await;
            let wire = opened.map_err(|_| Lost(format!("{} does not answer", server.place)))??;
            self.wire = Some((server.place.clone(), wire));
        }
        let Some((_, wire)) = &self.wire else { return Err(Lost("there is no connection".into())) };
        let mut pipe = redis::pipe();
        let command = pipe.cmd("XREAD").arg("COUNT").arg(most).arg("BLOCK").arg(patience.as_millis().to_string());
        command.arg("STREAMS").arg(&self.key).arg(after);
        let asked = timeout(patience + shared.deadline, wire.ask_surely(pipe)).await;
        let mut answers = asked.map_err(|_| Lost(format!("{} did not answer in time", server.place)))??;
        match answers.pop() {
            Some(Value::ServerError(error)) => Err(Lost(told(&error))),
            Some(answer) => Ok(answer),
            None => Err(Lost("the answer is missing".into())),
        }
    }
}

/// `[[key, [[id, [field, value, …]], …]]]`.
fn items(answer: &Value) -> Option<Vec<Item>> {
    let [stream] = list(answer)? else { return None };
    let [_, entries] = list(stream)? else { return None };
    list(entries)?.iter().map(item).collect()
}

fn item(entry: &Value) -> Option<Item> {
    let [id, fields] = list(entry)? else { return None };
    let field = |pair: &[Value]| match pair {
        [Value::BulkString(name), Value::BulkString(value)] => Some((name.clone(), value.clone())),
        _ => None,
    };
    Some(Item { id: text(id)?.into(), fields: list(fields)?.chunks(2).map(field).collect::<Option<_>>()? })
}
