//! Walks along a chain, record by record, and says where it breaks first.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Head, Line, erasure::stripped};
use crate::model::feed::Digest;

/// The first place where the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence}: {why}")]
pub struct Broken {
    /// Which record.
    pub sequence: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A walk. It holds one digest, and the place of each stripped record whose erasure has not been told yet.
#[derive(Debug, Default)]
pub struct Walk {
    /// The first record that was seen, and what it says lies before it.
    first: Option<(u64, Digest)>,
    last: Option<(u64, Digest)>,
    records: u64,
    erased: u64,
    /// Records without their personal part that no erasure has named yet, each with its pseudonym.
    bare: BTreeMap<u64, Option<String>>,
    /// The service itself had found another log than its own.
    found_broken: Option<u64>,
    /// Records may be missing between those that are seen.
    choice: bool,
}

impl Walk {
    /// A walk over some of the records, each of which is looked at by itself.
    #[must_use]
    pub fn of_a_choice() -> Self {
        Self { choice: true, ..Self::default() }
    }

    /// Whether a log in which this record comes first of those from our last one on is the one that was walked.
    #[must_use]
    pub fn continues_with(&self, line: &Line) -> bool {
        self.last.is_none_or(|(sequence, digest)| match line.sequence {
            same if same == sequence => line.digest.parse() == Ok(digest),
            next => next == sequence + 1 && line.previous.parse() == Ok(digest),
        })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn step(&mut self, line: &Line) -> Result<(), Broken> {
        let broken = |why| Err(Broken { sequence: line.sequence, why });
        let (Ok(previous), Ok(personal), Ok(digest)) =
            (line.previous.parse::<Digest>(), line.personal.parse::<Digest>(), line.digest.parse::<Digest>())
        else {
            return broken("its digests are not 32 bytes of base64url");
        };
        if let Some((sequence, before)) = self.last.filter(|_| !self.choice) {
            if line.sequence != sequence + 1 {
                return broken("records before it are missing");
            }
            if previous != before {
                return Err(Broken { sequence, why: "has been changed, or the record after it has" });
            }
        }
        if line.computed(previous, personal) != digest {
            return broken("has been changed");
        }
        self.check_personal(line, personal)?;
        self.first.get_or_insert((line.sequence, previous));
        self.last = Some((line.sequence, digest));
        self.records += 1;
        match &*line.event {
            "subject_erased" => self.excuse(line),
            "audit_broken" => drop(self.found_broken.get_or_insert(line.sequence)),
            _ => {}
        }
        Ok(())
    }

    fn check_personal(&mut self, line: &Line, personal: Digest) -> Result<(), Broken> {
        let broken = |why| Err(Broken { sequence: line.sequence, why });
        let Some(salt) = &line.salt else {
            let quoted = line.cause.is_some() && line.quotes();
            if line.subject.is_some() || line.ip.is_some() || line.user_agent.is_some() || quoted {
                return broken("has a personal part that nothing vouches for");
            }
            self.erased += 1;
            self.bare.insert(line.sequence, line.subject_ref.clone());
            return Ok(());
        };
        let salt = BASE64_URL_SAFE_NO_PAD.decode(salt).ok().and_then(|s| <[u8; 16]>::try_from(s).ok());
        match salt {
            Some(salt) if line.commitment(&salt) == personal => Ok(()),
            _ => broken("its personal part has been changed"),
        }
    }

    /// An erasure is told in the same step that stripped its records, so it stands after all of them. It excuses those
    /// that it names, and that are its subject's or, older than pseudonyms, nobody's.
    fn excuse(&mut self, erased: &Line) {
        for run in stripped(erased.cause.as_deref().unwrap_or_default()) {
            let its = |(_, of): &(&u64, &Option<String>)| of.is_none() || **of == erased.subject_ref;
            let named: Vec<u64> = self.bare.range(run).filter(its).map(|(sequence, _)| *sequence).collect();
            for sequence in named {
                self.bare.remove(&sequence);
            }
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.last.map(|(sequence, _)| sequence)
    }
    /// How many records it has seen, and how many of them without their personal part.
    #[must_use]
    pub const fn seen(&self) -> (u64, u64) {
        (self.records, self.erased)
    }

    /// Whether the digest of the record at which it stands is that of the head.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn meets(&self, head: &Head) -> Result<(), Broken> {
        let broken = |why| Err(Broken { sequence: head.sequence, why });
        match self.last {
            None if head.kept() == 0 => Ok(()),
            None => broken("is missing, and was signed for"),
            Some((sequence, _)) if sequence < head.sequence => broken("is missing, and was signed for"),
            Some((sequence, digest)) if sequence == head.sequence && digest == head.digest => Ok(()),
            Some((sequence, _)) if sequence == head.sequence => broken("is not the one that was signed"),
            Some(_) => broken("was passed without being compared with what was signed"),
        }
    }

    /// Whether the walk began where the signed log begins.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn began_at(&self, head: &Head) -> Result<(), Broken> {
        match self.first {
            Some((first, _)) if first > head.first => {
                Err(Broken { sequence: head.first, why: "is missing at the beginning, and was signed for" })
            }
            Some((first, before)) if first == head.first && before != head.anchor => {
                Err(Broken { sequence: first, why: "does not continue what was dropped before it" })
            }
            _ => Ok(()),
        }
    }

    /// What can only be said at the end.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn end(&self) -> Result<(), Broken> {
        if let Some(sequence) = self.bare.keys().next() {
            return Err(Broken { sequence: *sequence, why: "lost its personal part, and no erasure tells of it" });
        }
        match self.found_broken {
            Some(sequence) => Err(Broken { sequence, why: "tells that the service found another log than its own" }),
            None => Ok(()),
        }
    }
}
