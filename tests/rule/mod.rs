//! Reads `cases.json`. Times are milliseconds before (`rotated`, `given`) or after (`idle_left`, `absolute_left`) the
//! moment of the presentation; a list shorter than the kept stamps goes on with its last member; `null` is a successor
//! that no 2xx has carried yet.

#![allow(unreachable_pub, reason = "a module of test files")]

use std::time::Duration;

use rescind::model::family::{
    Closed, Closure, Doubt, Facts, Generation, Holder, Lineage, Moment, Refusal, STAMPS, Secret, Served, Stamp,
    Standing, Verdict, judge,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::common::START;

/// One case.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub row: String,
    pub name: String,
    #[serde(default = "yes")]
    pub tag: bool,
    #[serde(default = "yes")]
    pub key: bool,
    #[serde(default = "whole")]
    pub standing: Whether,
    #[serde(default)]
    pub incarnation: u32,
    #[serde(default)]
    pub restored: u32,
    /// Whether the store knows the family.
    #[serde(default = "yes")]
    pub family: bool,
    #[serde(default = "one")]
    pub head: u32,
    pub rotated: Option<Vec<Option<u64>>>,
    pub given: Option<Vec<Option<u64>>>,
    pub closed: Option<String>,
    #[serde(default = "hour")]
    pub idle_left: u64,
    #[serde(default = "two_hours")]
    pub absolute_left: u64,
    /// The incarnation of the store that saw the family's opening.
    pub opened_in: Option<u32>,
    #[serde(default)]
    pub cut_off: bool,
    /// The generation; the head unless it is said.
    pub present: Option<u32>,
    #[serde(default = "right")]
    secret: String,
    #[serde(default = "named")]
    pub holder: String,
    #[serde(default = "half_a_minute")]
    pub window: u64,
    pub verdict: String,
    /// How a store is brought there.
    pub steps: Option<Vec<Step>>,
    /// When the steps open the family: `first`, `after`, `never`.
    #[serde(default = "first")]
    pub open: String,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Wait(u64),
    Present(u32, String),
    Close(String),
    CutOff(String),
    Open(u8),
    Backup,
    Wipe,
    Restore(String),
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Whether {
    Whole,
    Wiped,
    NotWhole,
}

fn yes() -> bool {
    true
}
fn one() -> u32 {
    1
}
fn hour() -> u64 {
    3_600_000
}
fn two_hours() -> u64 {
    7_200_000
}
fn half_a_minute() -> u64 {
    30_000
}
fn whole() -> Whether {
    Whether::Whole
}
fn right() -> String {
    "right".into()
}
fn named() -> String {
    "named".into()
}
fn first() -> String {
    "first".into()
}

/// The table.
pub fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("cases.json")).expect("the table reads")
}

/// The time served at the moment of every case.
const SERVED: u64 = 1 << 40;

impl Case {
    pub fn generation(&self) -> Generation {
        Generation(self.present.unwrap_or(self.head))
    }

    pub fn secret(&self) -> Secret {
        match &*self.secret {
            "right" => Secret::Right,
            "wrong" => Secret::Wrong,
            "unchecked" => Secret::Unchecked,
            other => panic!("{other}"),
        }
    }

    pub fn moment(&self) -> Moment {
        Moment { now: START, served: Served(SERVED), incarnation: self.incarnation, restored: self.restored }
    }

    pub fn moment_and_standing(&self) -> (Moment, Standing) {
        let standing = match self.standing {
            Whether::Whole => Standing::Whole,
            Whether::Wiped => Standing::Wiped,
            Whether::NotWhole => Standing::NotWhole,
        };
        (self.moment(), standing)
    }

    pub fn lineage(&self) -> Option<Lineage> {
        let minute = || vec![Some(60_000)];
        let rotated = self.rotated.clone().unwrap_or_else(minute);
        let given = self.given.clone().unwrap_or_else(|| rotated.clone());
        let at = |ages: &[Option<u64>], n: usize| {
            let age = ages[n.min(ages.len() - 1)];
            age.map_or(Served::NOT_YET, |age| Served(SERVED - age))
        };
        self.family.then(|| Lineage {
            head: Generation(self.head),
            stamps: std::array::from_fn::<_, STAMPS, _>(|n| {
                // A list that is shorter than `rotated` says nothing of the rest.
                let given = if n < given.len() { at(&given, n) } else { at(&rotated, n) };
                Stamp { rotated: at(&rotated, n), given }
            }),
            closed: self.closed.as_deref().map(|cause| Closed { cause: closure_of(cause), at: START }),
            last_used: START.minus(Duration::from_secs(60)),
            idle_until: after(self.idle_left),
            absolute_until: after(self.absolute_left),
            access_until: START.min(after(self.absolute_left)),
            incarnation: self.opened_in.unwrap_or(self.incarnation),
        })
    }

    pub fn judge(&self) -> Verdict {
        let lineage = self.lineage();
        judge(&Facts {
            tag: self.tag,
            key: self.key,
            standing: self.moment_and_standing().1,
            lineage: lineage.as_ref(),
            secret: self.secret(),
            cut_off: self.cut_off,
            holder: holder_of(&self.holder),
            generation: self.generation(),
            moment: self.moment(),
            window: Duration::from_millis(self.window),
        })
    }
}

fn after(ms: u64) -> rescind::model::Timestamp {
    START.plus(Duration::from_millis(ms))
}

fn word<T: DeserializeOwned>(word: &str) -> T {
    serde_json::from_value(word.into()).unwrap_or_else(|e| panic!("{word}: {e}"))
}

pub fn closure_of(cause: &str) -> Closure {
    word(cause)
}

pub fn holder_of(holder: &str) -> Holder {
    match holder {
        "proven" => Holder::Proven,
        "named" => Holder::Named,
        "other_client" => Holder::OtherClient,
        "other_key" => Holder::OtherKey,
        other => panic!("{other}"),
    }
}

pub fn verdict_of(text: &str) -> Verdict {
    match text.split_once(':') {
        None => match text {
            "rotate" => Verdict::Rotate,
            "retry" => Verdict::Retry,
            "heal" => Verdict::Heal,
            other => panic!("{other}"),
        },
        Some(("refused", why)) => Verdict::Refused(word::<Refusal>(why)),
        Some(("503", why)) => Verdict::Unavailable(word::<Doubt>(why)),
        Some(("close", why)) => Verdict::Close(word::<Closure>(why)),
        Some(other) => panic!("{other:?}"),
    }
}
