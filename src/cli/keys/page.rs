//! The parts of `docs/keys.md` that are made from the code: between `<!-- NAME -->` and `<!-- end -->`. `BLESS=1` writes
//! them anew.

use std::fmt::Write as _;

use super::{super::reference::keep_parts_in_step, foreign::FOREIGN};
use crate::{
    keyring::{
        KeyState, Timing,
        rule::{RULES, Wait},
        schedule::MAX_RETIRING,
    },
    model::time::format_duration,
};

#[test]
fn the_page_on_keys_is_in_step() {
    let parts = [("states", states()), ("rules", rules()), ("timing", timing()), ("foreign", foreign())];
    keep_parts_in_step("../keys.md", &parts);
}

/// What each state is called in NIST SP 800-57 Part 1 Rev. 5 §7, and what of the key is there.
fn states() -> String {
    let mut table =
        "| state | what it does | in the key set | private half | SP 800-57 |\n|---|---|---|---|---|\n".to_owned();
    let yes = |is: bool, yes, no| if is { yes } else { no };
    for state in KeyState::ALL {
        let (does, nist) = match state {
            KeyState::Pending => ("stands by", "pre-activation"),
            KeyState::Active => ("signs; exactly one key does", "active"),
            KeyState::Retiring => ("signs no more; verifies what it has signed", "deactivated, still used to process"),
            KeyState::Retired => ("nothing; nobody needs it", "deactivated"),
            KeyState::Destroyed => ("nothing; what is public of it is remembered", "destroyed"),
            KeyState::Compromised => {
                ("whatever it signed is refused, for ever", "compromised and destroyed, in one step")
            }
        };
        let (published, kept) = (yes(state.is_published(), "yes", "no"), yes(state.is_kept(), "kept", "gone"));
        let _ = writeln!(table, "| `{state}` | {does} | {published} | {kept} | {nist} |");
    }
    table
}

fn rules() -> String {
    let mut table = "| step | from | to | waits until | who does not wait |\n|---|---|---|---|---|\n".to_owned();
    for rule in RULES {
        let waits = if rule.wait == Wait::Nothing { "" } else { rule.wait.words() };
        let breaks = rule.wait.breaks().unwrap_or_default();
        let _ = writeln!(table, "| {} | `{}` | `{}` | {waits} | {breaks} |", rule.step, rule.from, rule.to);
    }
    table
}

/// The defaults, and what follows from them.
fn timing() -> String {
    let timing = Timing::default();
    let retiring = timing.retiring_for(timing.token_life);
    let rows = [
        (
            "a key is published before it signs",
            "`publish_ahead`, at least twice the longer of `jwks_max_age` and `client_cache`",
            format!(
                "{}, not under {}",
                format_duration(timing.publish_ahead),
                format_duration(2 * timing.longest_cache())
            ),
        ),
        (
            "a key verifies after it has signed last",
            "`retire_after`, at least a token's life, a minute of leeway and `jwks_max_age`; for a key that has signed longer \
             tokens, their life",
            format_duration(retiring),
        ),
        (
            "the key set may be cached",
            "`jwks_max_age`; less as a rotation comes near, so that nobody holds a set over it",
            format!("{}, down to {}", format_duration(timing.jwks_max_age), format_duration(timing.jwks_max_age / 30)),
        ),
        (
            "a private half is kept after that",
            "`destroy_after`",
            if timing.destroy_after.is_zero() { "not at all".into() } else { format_duration(timing.destroy_after) },
        ),
        (
            "a key signs",
            "`rotate_every`, not under `publish_ahead`; without it until somebody rotates",
            "no end".to_owned(),
        ),
        (
            "keys retire at once",
            "`rotate_every` and the time that a key verifies after it; a shorter `rotate_every` is refused",
            format!("{MAX_RETIRING} at most"),
        ),
    ];
    let mut table = "| how long | follows from | by default |\n|---|---|---|\n".to_owned();
    for (what, from, default) in rows {
        let _ = writeln!(table, "| {what} | {from} | {default} |");
    }
    table
}

fn foreign() -> String {
    let mut table =
        "| verifier | holds the key set for | set by | meets a key that it does not know | fetches sooner |\n\
                     |---|---|---|---|---|\n"
            .to_owned();
    for kind in FOREIGN {
        let holds = kind.holds.map_or_else(|| "as configured".into(), format_duration);
        let _ = writeln!(table, "| {} | {holds} | {} | {} | {} |", kind.name, kind.setting, kind.unknown, kind.sooner);
    }
    table
}
