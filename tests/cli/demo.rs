//! The demo notices when a step does not do what it must.

use std::time::{Duration, Instant};

use super::support::{end_of, rescind};

const STEPS: [&str; 8] = ["open", "verify", "refresh", "race", "lost", "theft", "cutoff", "rotate"];

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the demo takes is asked of the real clock")]
fn the_demo_shows_every_step_and_ends_with_0() {
    let began = Instant::now();
    let demo = end_of(rescind().arg("demo"), "");
    assert_eq!(demo.code, 0, "{}{}", demo.stdout, demo.stderr);
    let shown: Vec<&str> = demo.stdout.lines().filter_map(|l| l.strip_prefix("  ok  ")?.split(' ').next()).collect();
    assert_eq!(shown, STEPS, "{}", demo.stdout);
    assert_eq!(demo.stderr, "");
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
}

#[rstest::rstest]
fn a_broken_step_is_noticed_and_ends_with_1(
    #[values("open", "verify", "refresh", "race", "lost", "theft", "cutoff", "rotate")] step: &str,
) {
    let demo = end_of(rescind().args(["demo", "--break", step]), "");
    assert_eq!(demo.code, 1, "{}{}", demo.stdout, demo.stderr);
    let refused: Vec<&str> = demo.stdout.lines().filter(|l| l.starts_with("  NO  ")).collect();
    assert!(matches!(refused[..], [line] if line.contains(step)), "{}", demo.stdout);
    let good = demo.stdout.lines().filter(|l| l.starts_with("  ok  ")).count();
    assert_eq!(STEPS[good], step, "the steps before it are told as good");
}
