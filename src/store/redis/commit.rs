//! One look at one slot, one change of one slot: the arguments of `look.lua`, `commit.lua` and `rotate.lua`, written down as
//! they are said.

use redis::Value;

use super::link::{Link, Script};
use crate::{model::Timestamp, store::StoreError};

/// Keys are named once and referred to by their place.
#[derive(Default)]
struct Said {
    keys: Vec<Vec<u8>>,
    ops: Ops,
}

/// Operations, one behind the other.
#[derive(Default)]
struct Ops {
    args: Vec<Vec<u8>>,
    /// The latest one, if it takes any number of words.
    latest: Option<Latest>,
}

/// An operation, its key, where it says how many words follow, and how many those are.
struct Latest {
    op: &'static str,
    key: Vec<u8>,
    at: usize,
    words: usize,
}

/// Words of one operation: Lua hands no more than 8000 to a function.
const WORDS: usize = 1024;

impl Ops {
    fn say(&mut self, op: &'static str, key: Vec<u8>, words: &[&[u8]]) {
        self.latest = None;
        self.args.extend([op.as_bytes().to_vec(), key]);
        self.args.extend(words.iter().map(|word| word.to_vec()));
    }

    /// What is done to one key several times is one operation.
    fn also(&mut self, op: &'static str, key: Vec<u8>, words: &[&[u8]]) {
        match &mut self.latest {
            Some(latest) if latest.op == op && latest.key == key && latest.words < WORDS => {
                latest.words += words.len();
                self.args[latest.at] = latest.words.to_string().into_bytes();
            }
            _ => {
                self.say(op, key.clone(), &[words.len().to_string().as_bytes()]);
                self.latest = Some(Latest { op, key, at: self.args.len() - 1, words: words.len() });
            }
        }
        self.args.extend(words.iter().map(|word| word.to_vec()));
    }
}

impl Said {
    fn key(&mut self, key: Vec<u8>) -> Vec<u8> {
        let place = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        (place + 1).to_string().into_bytes()
    }

    fn op(&mut self, op: &'static str, key: Vec<u8>, rest: &[&[u8]]) {
        let place = self.key(key);
        self.ops.say(op, place, rest);
    }
}

/// What is to be looked at, all of it in one slot and at one instant.
#[derive(Default)]
pub(super) struct Look(Said);

impl Look {
    pub(super) fn hget(mut self, key: Vec<u8>, field: &[u8]) -> Self {
        self.0.op("hget", key, &[field]);
        self
    }
    pub(super) fn hall(mut self, key: Vec<u8>) -> Self {
        self.0.op("hall", key, &[]);
        self
    }
    pub(super) fn hkeys(mut self, key: Vec<u8>) -> Self {
        self.0.op("hkeys", key, &[]);
        self
    }
    /// 1 if it is there, 0 if it is not.
    pub(super) fn exists(mut self, key: Vec<u8>) -> Self {
        self.0.op("exists", key, &[]);
        self
    }
    pub(super) fn get(mut self, key: Vec<u8>) -> Self {
        self.0.op("get", key, &[]);
        self
    }
    pub(super) fn range(mut self, key: Vec<u8>, first: i64, last: i64) -> Self {
        self.0.op("range", key, &[first.to_string().as_bytes(), last.to_string().as_bytes()]);
        self
    }
    /// The members of a set in the order of their bytes: from after `after`, so many at most.
    pub(super) fn members(mut self, key: Vec<u8>, after: Option<&[u8]>, limit: usize) -> Self {
        let first = after.map_or_else(|| b"-".to_vec(), |after| [b"(", after].concat());
        self.0.op("zlex", key, &[&first, limit.to_string().as_bytes()]);
        self
    }
    /// The number that a member has, if it is there.
    pub(super) fn score(mut self, key: Vec<u8>, member: &[u8]) -> Self {
        self.0.op("zscore", key, &[member]);
        self
    }
    /// How many members a set has.
    pub(super) fn size(mut self, key: Vec<u8>) -> Self {
        self.0.op("zcard", key, &[]);
        self
    }
    /// The members whose numbers are up to this one, each with its number, so many at most.
    pub(super) fn due(mut self, key: Vec<u8>, upto: u64, limit: usize) -> Self {
        self.0.op("zdue", key, &[upto.to_string().as_bytes(), limit.to_string().as_bytes()]);
        self
    }
    /// Goes on through records from a cursor; gives the next one, and which must be looked at by this second.
    pub(super) fn records_due(mut self, key: Vec<u8>, cursor: &[u8], by: u32) -> Self {
        self.0.op("due", key, &[cursor, by.to_string().as_bytes()]);
        self
    }
    /// A stream from after a position, so many entries at most.
    pub(super) fn since(mut self, key: Vec<u8>, after: u64, limit: usize) -> Self {
        self.0.op("xrange", key, &[format!("({after}-0").as_bytes(), limit.to_string().as_bytes()]);
        self
    }
    /// The last of them, if there is one.
    pub(super) fn last_member(mut self, key: Vec<u8>) -> Self {
        self.0.op("zlast", key, &[]);
        self
    }
    /// A family, and what cuts its subject off: three parts in one answer.
    pub(super) fn family(mut self, families: Vec<u8>, id: &[u8], cuts: Vec<u8>) -> Self {
        let cuts = self.0.key(cuts);
        self.0.op("family", families, &[id, &cuts]);
        self
    }

    pub(super) async fn ask(self, link: &Link) -> Result<Seen, StoreError> {
        let mut answer = link.run(Script::Look, &self.0.keys, &self.0.ops.args).await?;
        let rest = answer.split_off(1);
        let now = number(&answer[0])?;
        Ok(Seen { now: Timestamp::from_millis(now), parts: rest })
    }
}

/// What was seen.
pub(super) struct Seen {
    /// The server's time.
    pub(super) now: Timestamp,
    /// An answer for each thing that was looked at.
    pub(super) parts: Vec<Value>,
}

/// What became of a change.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done; the numbers under which what it owes is known.
    Done(Vec<u64>),
    /// Something that it was decided by is not so any more: look again. Nothing was written.
    Moved,
    /// The slot is not of the store that it was decided for. Nothing was written.
    NotTheSame,
}

/// A change of one slot.
#[derive(Default)]
pub(super) struct Commit {
    said: Said,
    /// What is written, said after all that it depends on, in whichever order both were told.
    changes: Ops,
    asked: Timestamp,
}

impl Commit {
    /// `asked`: the time that it was decided by.
    pub(super) fn new(asked: Timestamp) -> Self {
        Self { asked, ..Self::default() }
    }

    fn change(&mut self, op: &'static str, key: Vec<u8>, rest: &[&[u8]]) {
        let place = self.said.key(key);
        self.changes.say(op, place, rest);
    }

    fn change_also(&mut self, op: &'static str, key: Vec<u8>, words: &[&[u8]]) {
        let place = self.said.key(key);
        self.changes.also(op, place, words);
    }

    // ---- guards: all of them before any change
    pub(super) fn life(mut self, meta: Vec<u8>, life: &[u8]) -> Self {
        self.said.op("life", meta, &[life]);
        self
    }
    /// A field is this, or is absent.
    pub(super) fn field_is(mut self, key: Vec<u8>, field: &[u8], value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => {
                let place = self.said.key(key);
                self.said.ops.also("h=", place, &[field, value]);
            }
            None => self.said.op("h!", key, &[field]),
        }
        self
    }
    pub(super) fn field_begins(mut self, key: Vec<u8>, field: &[u8], prefix: &[u8]) -> Self {
        self.said.op("h^", key, &[field, prefix]);
        self
    }
    /// A string is this, or is absent.
    pub(super) fn value_is(mut self, key: Vec<u8>, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.said.op("s=", key, &[value]),
            None => self.said.op("s!", key, &[]),
        }
        self
    }
    pub(super) fn at_most(mut self, key: Vec<u8>, field: &[u8], value: u64) -> Self {
        self.said.op("h<", key, &[field, value.to_string().as_bytes()]);
        self
    }

    pub(super) fn member_absent(mut self, key: Vec<u8>, member: &[u8]) -> Self {
        self.said.op("z!", key, &[member]);
        self
    }
    pub(super) fn member_there(mut self, key: Vec<u8>, member: &[u8]) -> Self {
        self.said.op("z?", key, &[member]);
        self
    }
    /// The slot is of no later life.
    pub(super) fn no_later_life(mut self, meta: Vec<u8>, life: &[u8]) -> Self {
        self.said.op("older", meta, &[life]);
        self
    }
    /// It is nobody else's turn.
    pub(super) fn turn(mut self, key: Vec<u8>, mine: &[u8]) -> Self {
        self.said.op("turn", key, &[mine]);
        self
    }

    // ---- changes
    pub(super) fn hset(mut self, key: Vec<u8>, field: &[u8], value: &[u8]) -> Self {
        self.change_also("hset", key, &[field, value]);
        self
    }
    pub(super) fn hdel(mut self, key: Vec<u8>, field: &[u8]) -> Self {
        self.change("hdel", key, &[field]);
        self
    }
    pub(super) fn raise(mut self, key: Vec<u8>, field: &[u8], value: u64) -> Self {
        self.change("hmax", key, &[field, value.to_string().as_bytes()]);
        self
    }
    pub(super) fn set(mut self, key: Vec<u8>, value: &[u8]) -> Self {
        self.change("set", key, &[value]);
        self
    }
    pub(super) fn set_until(mut self, key: Vec<u8>, value: &[u8], until: Timestamp) -> Self {
        self.change("setat", key, &[value, until.millis().to_string().as_bytes()]);
        self
    }
    pub(super) fn del(mut self, key: Vec<u8>) -> Self {
        self.change("del", key, &[]);
        self
    }
    pub(super) fn push(mut self, key: Vec<u8>, value: &[u8]) -> Self {
        self.change_also("push", key, &[value]);
        self
    }
    pub(super) fn xadd(mut self, key: Vec<u8>, position: u64, entry: &[u8]) -> Self {
        self.change("xadd", key, &[format!("{position}-0").as_bytes(), entry]);
        self
    }
    pub(super) fn xtrim(mut self, key: Vec<u8>, first: u64) -> Self {
        self.change("xtrim", key, &[format!("{first}-0").as_bytes()]);
        self
    }
    /// A member of a set in the order of its bytes.
    pub(super) fn enter(mut self, key: Vec<u8>, member: &[u8]) -> Self {
        self.change("zadd", key, &[member]);
        self
    }
    /// One with a number.
    pub(super) fn enter_with(mut self, key: Vec<u8>, member: &[u8], number: u64) -> Self {
        self.change("zput", key, &[member, number.to_string().as_bytes()]);
        self
    }
    /// Changes a number in a field, which goes when it is zero.
    pub(super) fn count(mut self, key: Vec<u8>, field: &[u8], by: i64) -> Self {
        self.change("count", key, &[field, by.to_string().as_bytes()]);
        self
    }
    pub(super) fn leave(mut self, key: Vec<u8>, member: &[u8]) -> Self {
        self.change("zrem", key, &[member]);
        self
    }
    /// An element of a list, if it is still there.
    pub(super) fn put(mut self, key: Vec<u8>, place: u64, value: &[u8]) -> Self {
        self.change("lset", key, &[place.to_string().as_bytes(), value]);
        self
    }
    pub(super) fn xdel(mut self, key: Vec<u8>, position: u64) -> Self {
        self.change("xdel", key, &[format!("{position}-0").as_bytes()]);
        self
    }
    /// Asks for the next turn, for so many milliseconds, unless somebody else has.
    pub(super) fn claim(mut self, key: Vec<u8>, mine: &[u8], millis: u64) -> Self {
        self.change("claim", key, &[mine, millis.to_string().as_bytes()]);
        self
    }
    /// Writes down what this change owes to the hub.
    pub(super) fn owe(mut self, meta: Vec<u8>, owed: Vec<u8>, what: &[u8]) -> Self {
        let owed = self.said.key(owed);
        self.change("owe", meta, &[&owed, what]);
        self
    }
    /// What was owed up to this number has been done.
    pub(super) fn paid(mut self, owed: Vec<u8>, number: u64) -> Self {
        self.change("paid", owed, &[number.to_string().as_bytes()]);
        self
    }

    pub(super) async fn make(self, link: &Link) -> Result<Outcome, StoreError> {
        let mut args = asked_at(self.asked, link).to_vec();
        args.extend(self.said.ops.args);
        args.extend(self.changes.args);
        Outcome::read(&link.run(Script::Commit, &self.said.keys, &args).await?)
    }
}

/// When it is asked, and by how much the server's clock may differ from that.
fn asked_at(asked: Timestamp, link: &Link) -> [Vec<u8>; 2] {
    let skew = u64::try_from(link.permitted_skew().as_millis()).unwrap_or(u64::MAX);
    [asked.millis().to_string().into_bytes(), skew.to_string().into_bytes()]
}

/// A family moves on: the commonest change of all, by a script of its own.
pub(super) struct Rotate<'a> {
    /// Meta, families, cut-offs, what is owed.
    pub(super) keys: [Vec<u8>; 4],
    /// The time that it was decided by.
    pub(super) asked: Timestamp,
    pub(super) life: &'a [u8],
    pub(super) session: &'a [u8; 16],
    /// What its record begins with, and the record as it is to be.
    pub(super) record: (&'a [u8], Vec<u8>),
    pub(super) subject: &'a [u8; 16],
    /// What cuts the subject off, of sessions and of tokens.
    pub(super) cuts: [Option<&'a [u8]>; 2],
    pub(super) stamped: Timestamp,
    pub(super) owes: Vec<u8>,
}

impl Rotate<'_> {
    pub(super) async fn make(self, link: &Link) -> Result<Outcome, StoreError> {
        let [asked, skew] = asked_at(self.asked, link);
        let (begins, record) = self.record;
        let [sessions, tokens] = self.cuts.map(|row| row.unwrap_or_default().to_vec());
        let stamped = self.stamped.millis().to_string().into_bytes();
        let (life, session, subject) = (self.life.to_vec(), self.session.to_vec(), self.subject.to_vec());
        let args = [asked, skew, life, session, begins.to_vec(), record, subject, sessions, tokens, stamped, self.owes];
        Outcome::read(&link.run(Script::Rotate, &self.keys, &args).await?)
    }
}

impl Outcome {
    /// What [`Script::Commit`] and [`Script::Rotate`] answer.
    fn read(answer: &[Value]) -> Result<Self, StoreError> {
        match answer.get(1) {
            Some(word) if bytes(word)? == b"done" => {
                let Some(Value::Array(given)) = answer.get(2) else { return Err(UNREADABLE) };
                Ok(Self::Done(given.iter().map(number).collect::<Result<_, _>>()?))
            }
            Some(word) if bytes(word)? == b"moved" => Ok(Self::Moved),
            Some(word) if bytes(word)? == b"life" => Ok(Self::NotTheSame),
            Some(word) if bytes(word)? == b"skew" => {
                let what =
                    "this node's clock differs from the store's by more than is permitted, or it took as long to ask";
                Err(StoreError::Failed(what.into()))
            }
            _ => Err(UNREADABLE),
        }
    }
}

/// An answer that none of our scripts gives.
pub(super) const UNREADABLE: StoreError = StoreError::Damaged("answer");

/// A number, however the protocol carries it.
pub(super) fn number(value: &Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(n) => u64::try_from(*n).map_err(|_| UNREADABLE),
        Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(UNREADABLE),
        _ => Err(UNREADABLE),
    }
}

/// Bytes that must be there.
pub(super) fn bytes(value: &Value) -> Result<&[u8], StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.as_bytes()),
        _ => Err(UNREADABLE),
    }
}

/// Bytes that may be absent.
pub(super) fn maybe(value: &Value) -> Result<Option<&[u8]>, StoreError> {
    match value {
        Value::Nil | Value::Boolean(false) => Ok(None),
        other => bytes(other).map(Some),
    }
}
