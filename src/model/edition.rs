//! Which layout the records of a store have that many nodes share, and when it moves on to the next one: in two phases,
//! so that nodes can be replaced one after the other.
//!
//! 1. Nodes of a new version read the new layout and the one before, and write the one before.
//! 2. Once every node that takes part can read the new one, it is raised by one guarded change, and written from then on.
//!
//! A node that meets a layout that it cannot read serves nothing and writes nothing.

use super::reign::{NodeId, Row};

/// The version of a program, as far as it counts here.
type Release = [u64; 3];

/// From which version on programs read which layout. A program reads all layouts up to that one; whatever it writes in a
/// newer one, the version before it can read already.
const LAYOUTS: &[(Release, u32)] = &[([0, 0, 0], 1)];

/// The newest layout that this program reads.
pub const READS: u32 = reads(LAYOUTS);

const fn reads(layouts: &[(Release, u32)]) -> u32 {
    layouts[layouts.len() - 1].1
}

/// What a store says of its layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edition {
    /// The layout in which it is written.
    pub written: u32,
    /// The newest layout that is in it, or may be: every node must be able to read it.
    pub needed: u32,
    /// Why nobody may serve it, whatever he reads.
    pub held: Option<Box<str>>,
}

/// Why a node must not touch a store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Its layout is a newer one.
    #[error(
        "the store has layout {needed}, and this program, version {program}, reads layouts up to {reads}: start a \
         version that reads layout {needed}; nothing was written"
    )]
    Newer {
        /// What every node must be able to read.
        needed: u32,
        /// What this one can.
        reads: u32,
        /// Its version.
        program: &'static str,
    },
    /// It is not all there yet.
    #[error(
        "the store is not to be served: {word}; where `rescind store migrate` broke off, delete every key that it has \
         made and run it again"
    )]
    Held {
        /// What the store says.
        word: Box<str>,
    },
    /// It says nothing that this program understands.
    #[error("what the store says of its layout is not understood by version {program}; start a newer version")]
    Unknown {
        /// The version of this program.
        program: &'static str,
    },
}

impl Edition {
    /// What a store has that does not say it, and one that is new.
    pub const FIRST: Self = Self { written: 1, needed: 1, held: None };

    /// As it is written: two numbers, and a word where nobody may serve it.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { written, needed, held } = self;
        held.as_ref().map_or_else(|| format!("{written} {needed}"), |word| format!("{written} {needed} {word}"))
    }

    /// What a store says of itself, if this program may use it.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn read(text: Option<&[u8]>) -> Result<Self, Unfit> {
        Self::read_up_to(text, READS)
    }

    fn read_up_to(text: Option<&[u8]>, reads: u32) -> Result<Self, Unfit> {
        let program = env!("CARGO_PKG_VERSION");
        let edition = match text {
            None => Self::FIRST,
            Some(text) => Self::parse(text).ok_or(Unfit::Unknown { program })?,
        };
        let needed = edition.needed.max(edition.written);
        match edition.held {
            _ if needed > reads => Err(Unfit::Newer { needed, reads, program }),
            Some(word) => Err(Unfit::Held { word }),
            None => Ok(edition),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.splitn(3, ' ');
        let mut number = || words.next()?.parse().ok();
        let (written, needed) = (number()?, number()?);
        let held = words.next().map(Into::into);
        Some(Self { written, needed, held })
    }

    /// The second phase: the newest layout that every node can read that takes part, if it is newer than what is written.
    #[must_use]
    pub fn raised(&self, nodes: &[(NodeId, Row)]) -> Option<Self> {
        self.raised_by(LAYOUTS, nodes.iter().map(|(_, row)| &*row.version))
    }

    fn raised_by<'a>(&self, layouts: &[(Release, u32)], programs: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all = programs.map(|program| read_by(layouts, program)).min()?;
        (all > self.written.max(self.needed)).then(|| Self { written: all, needed: all, held: self.held.clone() })
    }
}

/// The newest layout that a program reads. One that says nothing of its version reads the first.
fn read_by(layouts: &[(Release, u32)], program: &str) -> u32 {
    let Some(release) = release(program) else { return 1 };
    layouts.iter().take_while(|(since, _)| *since <= release).last().map_or(1, |(_, layout)| *layout)
}

fn release(program: &str) -> Option<Release> {
    let program = program.split('+').next()?;
    let mut numbers = program.split('.').map(|number| number.parse::<u64>().ok());
    let release = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &[(Release, u32)] = &[([0, 0, 0], 1), ([0, 9, 0], 2), ([1, 2, 0], 3)];

    fn raised(from: &str, programs: &[&str]) -> Option<String> {
        let edition = Edition::parse(from.as_bytes()).unwrap();
        edition.raised_by(THREE, programs.iter().copied()).map(|edition| edition.text())
    }

    #[test]
    fn a_layout_is_raised_once_every_node_can_read_it_and_never_taken_back() {
        assert_eq!(raised("1 1", &["0.8.3", "0.9.0"]), None, "one cannot read it");
        assert_eq!(raised("1 1", &["0.9.0", "0.10.4"]), Some("2 2".into()));
        assert_eq!(raised("1 1", &["1.2.0", "0.9.9", "2.0.0"]), Some("2 2".into()), "as far as the oldest goes");
        assert_eq!(raised("1 1", &["1.2.0+build.7"]), Some("3 3".into()));
        for (program, why) in [("1.2.0-rc.1", "not released"), ("?", "says nothing"), ("1.2", "says nothing")] {
            assert_eq!(raised("1 1", &["1.2.0", program]), None, "{why}");
        }
        assert_eq!(raised("3 3", &["0.9.0"]), None, "it is not taken back");
        assert_eq!(raised("1 2", &["0.9.0"]), None, "what is needed already");
        assert_eq!(raised("1 1", &[]), None, "nobody takes part");
    }

    #[test]
    fn a_program_that_cannot_read_a_layout_says_so() {
        let read = |text: &str, reads| Edition::read_up_to(Some(text.as_bytes()), reads).map_err(|e| e.to_string());
        assert_eq!(Edition::read_up_to(None, 1), Ok(Edition::FIRST), "a store from before there was a second");
        assert_eq!(read("1 1", 1), Ok(Edition::FIRST));
        assert_eq!(read("1 2", 2).unwrap().text(), "1 2");
        for newer in ["2 2", "1 2", "2 1", "2 2 with a word", "2 2 and much more"] {
            let told = read(newer, 1).unwrap_err();
            assert!(told.contains("has layout 2") && told.contains("up to 1") && told.contains("start a"), "{told}");
        }
        assert!(read("1 1 it is being filled", 1).unwrap_err().contains("it is being filled"));
        for odd in ["", "1", "one two", "1 -1", "\u{0}", "1  1"] {
            assert!(read(odd, 9).unwrap_err().contains("not understood"), "{odd}");
        }
    }

    #[test]
    fn this_program_reads_what_it_writes() {
        assert!(LAYOUTS.is_sorted() && Edition::FIRST.needed <= READS);
        assert_eq!(read_by(LAYOUTS, env!("CARGO_PKG_VERSION")), READS);
    }
}
