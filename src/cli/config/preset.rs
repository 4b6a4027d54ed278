//! Session limits by authenticator assurance level.

use std::time::Duration;

use serde::Deserialize;

use super::{
    layers::{Leaf, Origin, Problem, Tree},
    values::{Reads, Written},
};
use crate::model::time::format_duration;

/// An authenticator assurance level with its session limits: NIST SP 800-63B-4, sections 2.1.3, 2.2.3 and 2.3.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// 30 days; no limit of inactivity is required.
    Aal1,
    /// 24 hours, and an hour without use.
    Aal2,
    /// 12 hours, and 15 minutes without use.
    Aal3,
}

impl Reads for Preset {
    const EXAMPLE: &str = "aal2";
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "aal1" => Ok(Self::Aal1),
            "aal2" => Ok(Self::Aal2),
            "aal3" => Ok(Self::Aal3),
            _ => Err(format!("`{text}` is not a preset; write aal1, aal2 or aal3")),
        }
    }
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
            Self::Aal3 => "aal3",
        }
    }

    /// Which settings it bounds, and by what.
    fn bounds(self) -> &'static [(&'static str, Duration)] {
        const fn hours(n: u64) -> Duration {
            Duration::from_secs(n * 3600)
        }
        const IDLE: &str = "lifetimes.idle";
        const ABSOLUTE: &str = "lifetimes.absolute";
        match self {
            Self::Aal1 => const { &[(ABSOLUTE, hours(30 * 24))] },
            Self::Aal2 => const { &[(ABSOLUTE, hours(24)), (IDLE, hours(1))] },
            Self::Aal3 => const { &[(ABSOLUTE, hours(12)), (IDLE, Duration::from_secs(15 * 60))] },
        }
    }

    /// Puts its limits over the defaults. What a person has written may only be stricter.
    pub(super) fn apply(self, tree: &mut Tree, problems: &mut Vec<Problem>) {
        for (name, bound) in self.bounds() {
            let Some(leaf) = tree.leaves.get_mut(*name) else { continue };
            if !leaf.origin.is_said() {
                let origin = Origin::Preset { name: self.name() };
                *leaf = Leaf { value: format_duration(*bound).into(), origin };
                continue;
            }
            let set = Written::<Duration>::deserialize(leaf.value.clone()).map(|w| w.0);
            if set.is_ok_and(|set| set > *bound) {
                let (preset, bound) = (self.name(), format_duration(*bound));
                problems.push(Problem::at(&leaf.origin, format!(
                    "{name} is longer than {bound}, which is the most that the preset {preset} allows; shorten it, or \
                     leave it out"
                )));
            }
        }
    }
}

/// The preset that is asked for, if one is.
pub(super) fn asked(tree: &Tree) -> Option<Preset> {
    let leaf = tree.leaves.get("sessions.preset")?;
    Written::<Preset>::deserialize(leaf.value.clone()).ok().map(|w| w.0)
}
