//! `rescind demo`: the whole story over real HTTP on loopback, on a store of its own that goes when it ends.

use std::{future::Future, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use tokio::sync::oneshot;

use super::{
    Exit, Failure,
    config::Evidence,
    dev, logs,
    node::{Blueprint, Bound, Node, Place, store_options},
    notify::Notify,
    say, secret, tell,
};
use crate::{
    clock::{Clock, SystemClock, SystemRandom},
    http::Limits,
    keyring::{self, Timing},
    model::{family::Lifetimes, time::format_duration},
};

mod cast;
mod doors;
mod network;
mod story;

use cast::{Issuer, LOGIN, PHONE};
use doors::Doors;
use story::Story;

/// How long the answer to a refresh may be fetched again; short, because theft is shown by waiting for its end.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a key is published before it signs; short, because the demo waits for it.
const PUBLISH_AHEAD: Duration = Duration::from_secs(3);

/// How many verifiers follow the node in processes of their own.
const VERIFIERS: usize = 2;

/// Watch a session opened, refreshed, raced, stolen and cut off, over HTTP on this machine.
///
/// Starts a node with a temporary store on a free port of loopback, and two verifiers beside it. The parts of the story know nothing but what they
/// are given: a client its tokens, an API the published keys. One line per step says what happened and how long it
/// took. Ends with 0 if every step did what it must, with 1 if one did not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Spoil one step, to see that the demo would notice.
    #[arg(long = "break", value_name = "STEP", hide = true)]
    spoiled: Option<Step>,
}

/// A step of the story.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Step {
    Open,
    Verify,
    Refresh,
    Race,
    Lost,
    Theft,
    Cutoff,
    Rotate,
}

impl Step {
    const ALL: [Self; 8] =
        [Self::Open, Self::Verify, Self::Refresh, Self::Race, Self::Lost, Self::Theft, Self::Cutoff, Self::Rotate];
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    // What the story provokes on purpose would otherwise be warned of between its lines.
    let _logs = logs::start("error", false)?;
    let place = tempfile::Builder::new().prefix("rescind-demo-").tempdir().context("cannot make a temporary store")?;
    let login_secret = secret::generate(&SystemRandom);
    let bound = Bound::at(([127, 0, 0, 1], 0).into(), None).await?;
    let url = bound.public_url()?;
    let (end, stopped) = oneshot::channel::<()>();
    let node = Node::open(blueprint(place.path(), &login_secret), bound).await?;
    let stop = async move {
        let _ = stopped.await; // a dropped sender means the story is over as well
    };
    let node = tokio::spawn(node.run(stop, Notify::default()));
    let window = format_duration(WINDOW);
    say(format_args!("A node at {url}, its store gone when the demo ends; retry window {window} instead of 30s.\n"));
    let issuer = Issuer::at(&url, &login_secret)?;
    let doors = Doors::open(VERIFIERS, &url).await?;
    let told = tell_story(Story::new(issuer, doors, args.spoiled)).await;
    drop(end);
    node.await.context("the node panicked")??;
    Ok(told)
}

const LIVES: Lifetimes = Lifetimes {
    access: Duration::from_secs(5 * 60),
    idle: Duration::from_secs(60 * 60),
    absolute: Duration::from_secs(24 * 60 * 60),
    retry_window: WINDOW,
};

fn blueprint(place: &std::path::Path, login_secret: &str) -> Blueprint {
    let timing = Timing {
        publish_ahead: PUBLISH_AHEAD,
        jwks_max_age: Duration::from_secs(1),
        client_cache: Duration::from_secs(1),
        token_life: LIVES.access,
        ..Timing::default()
    };
    Blueprint {
        issuer: None,
        key_settings: keyring::Settings { timing, ..keyring::Settings::default() },
        place: Place::Disk {
            store: place.join("store"),
            keys: place.join("keys"),
            passphrase: None,
            options: Box::new(store_options(&LIVES)),
        },
        lives: LIVES,
        custom_claims: None,
        clients: vec![dev::everything(LOGIN, Some(login_secret)), dev::everything(PHONE, None)],
        limits: Limits::default(),
        edge: crate::http::edge::Settings::default(),
        sessions: None,
        evidence: Evidence::default(),
    }
}

/// Step after step, up to the first that goes wrong: the later ones build on it.
async fn tell_story(mut story: Story) -> Exit {
    let clock = SystemClock::default();
    for step in Step::ALL {
        let began = clock.monotonic();
        let outcome = story.act(step).await;
        let took = (clock.monotonic() - began).as_secs_f64() * 1000.0;
        let name = format!("{step:?}").to_lowercase();
        match outcome {
            Ok(line) => say(format_args!("  ok  {name:<8} {took:>8.1} ms  {line}")),
            Err(error) => {
                say(format_args!("  NO  {name:<8} {took:>8.1} ms  {error:#}"));
                tell(format_args!("rescind: the step `{name}` did not do what it must"));
                return Exit::No;
            }
        }
    }
    say("\nEvery step did what it must, and every access token was verified offline.");
    Exit::Yes
}

/// Waits out a span that the story is about: the end of a window, the start of a key.
fn wait(span: Duration) -> impl Future<Output = ()> {
    tokio::time::sleep(span + Duration::from_millis(20))
}
