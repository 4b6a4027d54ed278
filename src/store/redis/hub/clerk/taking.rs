//! What buckets owe, and how far the hub has taken it over.

use std::collections::{BTreeMap, HashMap};

use redis::Value;

use super::super::{Ask, Debt, Order, Owed, log::pairs};
use crate::store::{
    StoreError,
    redis::{
        Core,
        commit::{Commit, Look, Outcome, UNREADABLE, bytes},
        layout::Bucket,
        life::Began,
    },
};

/// What a bucket's list gives at once.
const TAKES: u64 = 512;

/// What was handed over, in the order of its numbers.
pub(super) type Handed = BTreeMap<Bucket, BTreeMap<u64, Owed>>;

/// What a bucket is known to have been drained to, by the hub, and how that is written.
pub(super) enum Drained {
    /// Up to this number.
    To(u64, Vec<u8>),
    /// Nobody knows: never, or by the count of an earlier life.
    Unknown(Option<Vec<u8>>),
}

impl Drained {
    pub(super) fn before(began: &Began, first: u64) -> Self {
        match first.saturating_sub(1) {
            0 => Self::Unknown(None),
            upto => Self::To(upto, drained_to(began, upto)),
        }
    }

    pub(super) fn read(began: &Began, value: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(value) = value else { return Ok(Self::Unknown(None)) };
        let (upto, life) = value.split_first_chunk().ok_or(StoreError::Damaged("drained"))?;
        let counts = life == began.mark();
        Ok(if counts {
            Self::To(u64::from_be_bytes(*upto), value.to_vec())
        } else {
            Self::Unknown(Some(value.to_vec()))
        })
    }
}

/// What is taken over from a bucket.
pub(super) struct Taken {
    pub(super) debts: Vec<Debt>,
    /// Of its field in the hub, as it was.
    pub(super) was: Option<Vec<u8>>,
    pub(super) upto: u64,
    /// Whether the bucket has more.
    pub(super) rest: bool,
}

/// How the hub writes how far a bucket has been drained: a count is good for one life of the bucket.
pub(super) fn drained_to(began: &Began, upto: u64) -> Vec<u8> {
    [&upto.to_be_bytes(), began.mark()].concat()
}

/// Up to which number each bucket has been drained, in whichever life that was.
pub(in crate::store::redis) fn drained_numbers(all: &Value) -> Result<HashMap<Bucket, u64>, StoreError> {
    let number = |(bucket, value): (Vec<u8>, Vec<u8>)| {
        let bucket = bucket.try_into().map(|bucket| Bucket(u16::from_be_bytes(bucket))).ok();
        let upto = value.first_chunk().copied().map(u64::from_be_bytes);
        bucket.zip(upto).ok_or(StoreError::Damaged("drained"))
    };
    pairs(all)?.into_iter().map(number).collect()
}

pub(super) fn field(bucket: Bucket) -> [u8; 2] {
    bucket.0.to_be_bytes()
}

pub(super) fn by_bucket(asks: &[Ask]) -> Handed {
    let mut handed = Handed::new();
    for ask in asks {
        if let Order::Settle { bucket, debts } = &ask.order {
            handed.entry(*bucket).or_default().extend(debts.iter().cloned());
        }
    }
    handed
}

/// What is to be taken over from a bucket: what was handed over if that is what comes next, else what the bucket says.
pub(super) async fn take(
    core: &Core,
    began: &Began,
    bucket: Bucket,
    mut debts: BTreeMap<u64, Owed>,
    drained: Option<&Drained>,
) -> Result<Taken, StoreError> {
    let (from, was) = match drained {
        Some(Drained::To(upto, was)) => (*upto, Some(was.clone())),
        Some(Drained::Unknown(was)) => (0, was.clone()),
        None => return Err(UNREADABLE),
    };
    let last = debts.keys().next_back().copied();
    debts.retain(|number, _| *number > from);
    if last.is_some() && debts.is_empty() {
        return Ok(Taken { debts: Vec::new(), was, upto: from, rest: false });
    }
    let joins = debts.keys().zip(from + 1..).all(|(number, next)| *number == next);
    let is_new = matches!(drained, Some(Drained::Unknown(Some(_))));
    if last.is_some() && joins && !is_new {
        let upto = last.unwrap_or(from);
        return Ok(Taken { debts: debts.into_iter().collect(), was, upto, rest: false });
    }
    let mut owed = owed(core, bucket).await?;
    if from > 0 && owed.first().is_some_and(|(number, _)| *number <= from) {
        // Done long ago, and nobody has said so.
        pay(core, began, bucket, from).await?;
        owed = self::owed(core, bucket).await?;
    }
    let rest = owed.len() as u64 == TAKES;
    owed.retain(|(number, _)| *number > from);
    // What was handed over and is not there any more has been done.
    let upto = owed.last().map_or(last.unwrap_or(from), |(number, _)| *number);
    Ok(Taken { debts: owed, was, upto, rest })
}

/// What stands in a bucket as owed, the oldest first.
pub(super) async fn owed(core: &Core, bucket: Bucket) -> Result<Vec<Debt>, StoreError> {
    let last = i64::try_from(TAKES).unwrap_or(i64::MAX) - 1;
    let seen = Look::default().range(core.layout.owed(bucket), 0, last).ask(&core.link).await?;
    let Some(Value::Array(items)) = seen.parts.first() else { return Err(UNREADABLE) };
    items.iter().map(|item| Owed::decode(bytes(item)?)).collect()
}

pub(super) async fn pay(core: &Core, began: &Began, bucket: Bucket, upto: u64) -> Result<Outcome, StoreError> {
    let commit = Commit::new(core.clock.now()).life(core.layout.meta(bucket), began.mark());
    commit.paid(core.layout.owed(bucket), upto).make(&core.link).await
}
