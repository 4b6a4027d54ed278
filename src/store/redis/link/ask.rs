//! One request on its way: to the server that has its slot, and wherever that one sends it, until it has been carried
//! out or may have been.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    answers::Refused,
    request::Request,
    server::{Apart, Server},
    topology::Topology,
    wire::{Lost, Value, Wire, echo},
};
use crate::store::redis::commit::bytes;

/// How long one waits before asking again what was refused for now.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// How long one waits for a server before it is asked again who the master is.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often one is sent elsewhere, at most.
const HOPS: u32 = 8;

/// Our scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Reads.
    Look,
    /// Writes, if everything is as it was.
    Commit,
    /// The same for a family that moves on.
    Rotate,
}

impl Script {
    const fn text(self) -> &'static str {
        match self {
            Self::Look => include_str!("../look.lua"),
            Self::Commit => include_str!("../commit.lua"),
            Self::Rotate => include_str!("../rotate.lua"),
        }
    }

    pub(super) const fn writes(self) -> bool {
        !matches!(self, Self::Look)
    }

    /// The name under which a server remembers it.
    fn name(self) -> &'static str {
        static LOOK: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(Script::Look.text()));
        static COMMIT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(Script::Commit.text()));
        static ROTATE: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(Script::Rotate.text()));
        match self {
            Self::Look => LOOK.get_hash(),
            Self::Commit => COMMIT.get_hash(),
            Self::Rotate => ROTATE.get_hash(),
        }
    }
}

/// What is asked.
pub(super) struct Ask<'a> {
    key: &'a [u8],
    what: What<'a>,
}

enum What<'a> {
    Script {
        script: Script,
        keys: &'a [Vec<u8>],
        args: &'a [Vec<u8>],
        replicas: u16,
    },
    /// Commands on one slot.
    Plain(Vec<redis::Cmd>),
}

/// Where a request has been.
#[derive(Default)]
pub(super) struct Journey {
    hops: u32,
    /// Another server is to be asked next, as an exception if so.
    there: Option<(Arc<Server>, bool)>,
    /// The server does not know the script.
    whole: bool,
}

/// What became of one attempt.
pub(super) enum Step {
    /// It was carried out.
    Done(Vec<Value>),
    /// It was not: at once again.
    Again,
    /// It was not, and may be in a while.
    Later(Lost),
    /// It was not.
    No(Lost),
    /// It may have been.
    Doubtful(Lost),
}

/// The connection for it.
enum Way {
    Shared(Arc<Wire>),
    Apart(Apart),
}

impl Way {
    fn wire(&self) -> &Wire {
        match self {
            Self::Shared(wire) => wire,
            Self::Apart(apart) => &apart.wire,
        }
    }
}

impl<'a> Ask<'a> {
    pub(super) fn script(script: Script, keys: &'a [Vec<u8>], args: &'a [Vec<u8>], replicas: u16) -> Self {
        Self { key: keys.first().map_or(&[], Vec::as_slice), what: What::Script { script, keys, args, replicas } }
    }

    pub(super) fn plain(key: &'a [u8], commands: Vec<redis::Cmd>) -> Self {
        Self { key, what: What::Plain(commands) }
    }

    const fn replicas(&self) -> u16 {
        if let What::Script { replicas, .. } = self.what { replicas } else { 0 }
    }

    /// How many commands an exception is made for, each by a word before it.
    const fn excepted(&self) -> usize {
        match &self.what {
            What::Plain(commands) => commands.len(),
            What::Script { .. } => 1,
        }
    }

    /// One attempt.
    pub(super) async fn go(&self, topology: &Topology, journey: &mut Journey, until: Instant) -> Step {
        let (server, exception) = match journey.there.take() {
            Some(there) => there,
            None => match topology.master(self.key) {
                Ok(server) => (server, false),
                Err(why) => return Step::Later(why),
            },
        };
        // Where another may take its place, it is not waited for to the end.
        let patience = if topology.is_single() { until } else { until.min(Instant::now() + PATIENCE) };
        if let Err(why) = server.fit(patience).await {
            topology.doubt.notify_one();
            // One that is named stays what it is; otherwise another may be the master in a moment.
            let settled = topology.is_single() || server.is_unfit_itself();
            return if settled { Step::No(why) } else { Step::Later(why) };
        }
        let way = match self.replicas() {
            0 => server.wire(patience).await.map(Way::Shared),
            _ => server.apart(until).await.map(Way::Apart),
        };
        let way = match way {
            Ok(way) => way,
            Err(why) => return Step::Later(why),
        };
        let echo = echo();
        let request = self.request(&echo, exception, journey.whole, until);
        let asked = match self.what {
            What::Script { .. } => timeout_at(until, way.wire().ask(request)).await,
            What::Plain(_) => timeout_at(until, way.wire().ask_surely(request)).await,
        };
        match asked {
            Err(_) => {
                if let Way::Apart(apart) = &way {
                    apart.wire.cut();
                }
                Step::Doubtful(Lost(format!("{} did not answer in time", server.place)))
            }
            Ok(Err(why)) => Step::Doubtful(Lost(format!("{}: {}", server.place, why.0))),
            Ok(Ok(mut answers)) => {
                if exception {
                    // Those to what makes the exception, each before what it is made for.
                    let mut number = 0;
                    answers.retain(|_| {
                        number += 1;
                        number % 2 == 0 || number > 2 * self.excepted()
                    });
                }
                self.judge(answers, &echo, way.wire(), &server, topology, journey)
            }
        }
    }

    fn request(&self, echo: &str, exception: bool, whole: bool, until: Instant) -> Request {
        let mut request = Request::default();
        let asking = |request: &mut Request| {
            if exception {
                request.command([&b"ASKING"[..]]);
            }
        };
        match &self.what {
            What::Plain(commands) => {
                for command in commands {
                    asking(&mut request);
                    request.add(command);
                }
            }
            What::Script { script, keys, args, replicas } => {
                asking(&mut request);
                let call = if whole { ["EVAL", script.text()] } else { ["EVALSHA", script.name()] };
                let many = keys.len().to_string();
                let before = call.into_iter().chain([&*many]).map(str::as_bytes);
                let (keys, args) = (keys.iter().map(Vec::as_slice), args.iter().map(Vec::as_slice));
                request.command(before.chain(keys).chain([echo.as_bytes()]).chain(args));
                if *replicas > 0 {
                    // Less than what is left, so that the answer still comes; never zero, which is for ever.
                    let patience = until.saturating_duration_since(Instant::now()).as_millis() * 3 / 4;
                    let (replicas, patience) = (replicas.to_string(), patience.max(1).to_string());
                    request.command([&b"WAIT"[..], replicas.as_bytes(), patience.as_bytes()]);
                }
            }
        }
        request
    }

    fn judge(
        &self,
        mut answers: Vec<Value>,
        echo: &str,
        wire: &Wire,
        server: &Server,
        topology: &Topology,
        journey: &mut Journey,
    ) -> Step {
        if let Some(Value::ServerError(error)) = answers.first() {
            return match Refused::of(error, &server.place) {
                Refused::NoScript if !journey.whole => {
                    journey.whole = true;
                    Step::Again
                }
                Refused::NoScript => Step::No(Lost(format!("{} forgets scripts at once", server.place))),
                Refused::Moved(_) | Refused::Ask(_) if journey.hops >= HOPS => {
                    Step::No(Lost("the cluster sends the request about in circles".into()))
                }
                Refused::Moved(place) => {
                    journey.hops += 1;
                    topology.doubt.notify_one();
                    journey.there = Some((topology.at(&place, Some(self.key)), false));
                    Step::Again
                }
                Refused::Ask(place) => {
                    journey.hops += 1;
                    journey.there = Some((topology.at(&place, None), true));
                    Step::Again
                }
                Refused::Later(said) => {
                    topology.doubt.notify_one();
                    Step::Later(Lost(format!("{}: {said}", server.place)))
                }
                Refused::Demoted(said) => {
                    // Whoever is at its address by now is connected to anew.
                    server.cut();
                    topology.doubt.notify_one();
                    let why = Lost(format!("{} is a replica by now: {said}", server.place));
                    if topology.is_single() { Step::No(why) } else { Step::Later(why) }
                }
                Refused::No(said) => Step::No(Lost(format!("{} refuses: {said}", server.place))),
            };
        }
        match self.what {
            What::Plain(_) => Step::Done(answers),
            What::Script { replicas, .. } => {
                let waited = if replicas > 0 { answers.pop() } else { None };
                let Some(Value::Array(mut answer)) = answers.pop() else { return Step::Doubtful(wire.mixed_up()) };
                if answer.len() < 2 || bytes(&answer[0]).ok() != Some(echo.as_bytes()) {
                    return Step::Doubtful(wire.mixed_up());
                }
                answer.remove(0);
                let written = answer.get(1).is_some_and(|word| bytes(word).ok() == Some(b"done"));
                match waited {
                    Some(Value::Int(have)) if have < i64::from(replicas) && written => Step::Doubtful(Lost(format!(
                        "{have} of the {replicas} replicas that are wanted have the change, which could be lost with \
                         {}: it is not acknowledged",
                        server.place
                    ))),
                    None | Some(Value::Int(_)) => Step::Done(answer),
                    Some(_) => {
                        Step::Doubtful(Lost(format!("{} does not say which replicas have the change", server.place)))
                    }
                }
            }
        }
    }
}
