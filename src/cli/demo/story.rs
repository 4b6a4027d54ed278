//! The story. Each step returns a line that is true because the step has checked it, or what was otherwise.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{
    PUBLISH_AHEAD, Step, WINDOW,
    cast::{Answer, Api, Issuer, Tokens, distinct, forged},
    doors::Doors,
    network::Relay,
    wait,
};
use crate::{
    clock::{Clock, SystemClock},
    model::{JwkSet, Timestamp, time::format_duration},
    verifier::Rejection,
};

/// Refreshes of one token at once.
const RACERS: usize = 8;

pub(super) struct Story {
    issuer: Issuer,
    /// Verifiers in other processes, which have never seen the node but over the network.
    doors: Doors,
    /// The step that is to go wrong.
    spoiled: Option<Step>,
    /// Alice's phone.
    alice: Option<Tokens>,
    /// Bob's phone: nothing is done to him, so nothing may happen to him.
    bob: Option<Tokens>,
    /// The API, and the keys that it fetched at the start.
    api: Option<(Api, JwkSet)>,
}

/// What an earlier step has left. The steps stop at the first that fails, so it is there.
fn left<T>(slot: &mut Option<T>) -> Result<&mut T> {
    slot.as_mut().context("an earlier step is missing")
}

impl Story {
    pub(super) fn new(issuer: Issuer, doors: Doors, spoiled: Option<Step>) -> Self {
        Self { issuer, doors, spoiled, alice: None, bob: None, api: None }
    }

    pub(super) async fn act(&mut self, step: Step) -> Result<String> {
        let spoiled = self.spoiled == Some(step);
        match step {
            Step::Open => self.open(spoiled).await,
            Step::Verify => self.verify(spoiled).await,
            Step::Refresh => self.refresh(spoiled).await,
            Step::Race => self.race(spoiled).await,
            Step::Lost => self.lost(spoiled).await,
            Step::Theft => self.theft(spoiled).await,
            Step::Cutoff => self.cut_off(spoiled).await,
            Step::Rotate => self.rotate(spoiled).await,
        }
    }

    /// Spoiled: the login application has forgotten its secret.
    async fn open(&mut self, spoiled: bool) -> Result<String> {
        if spoiled {
            let answer = self.issuer.login_with("forgotten", "alice").await?;
            ensure!(answer.status == 201, "no session was opened: {}", answer.gist());
        }
        self.alice = Some(self.issuer.login("alice").await?);
        self.bob = Some(self.issuer.login("bob").await?);
        Ok("alice and bob log in: each phone gets an access token for 5m and a refresh token".into())
    }

    /// Spoiled: the token is changed on its way to the API.
    async fn verify(&mut self, spoiled: bool) -> Result<String> {
        let keys = self.issuer.jwks().await?;
        let api = Api::with(&self.issuer, keys.clone())?;
        let token = &left(&mut self.alice)?.access;
        let shown = if spoiled { forged(token, 20) } else { token.clone() };
        let clock = SystemClock::default();
        let began = clock.monotonic();
        let verified = api.verify(&shown).context("the API refuses alice's access token")?;
        let took = (clock.monotonic() - began).as_micros();
        ensure!(verified.subject.as_str() == "alice", "the token speaks of somebody else");
        ensure!(verified.scope.has("read") && verified.scope.has("write"), "the token allows something else");
        let forgery = api.verify(&forged(token, 20));
        ensure!(forgery == Err(Rejection::Signature.into()), "a changed signature was not refused as one");
        self.doors.admit(token).await?;
        self.doors.refuse(&forged(token, 20)).await?;
        self.api = Some((api, keys));
        Ok(format!(
            "an API fetches the keys once; it verifies alice's token offline in {took} µs, and refuses a forgery"
        ))
    }

    /// Spoiled: the refresh token is changed in one character.
    async fn refresh(&mut self, spoiled: bool) -> Result<String> {
        let (alice, (api, _)) = (left(&mut self.alice)?, left(&mut self.api)?);
        let before = api.verify(&alice.access)?;
        if spoiled {
            alice.refresh = forged(&alice.refresh, 60);
        }
        alice.refresh(&self.issuer).await?;
        let after = api.verify(&alice.access).context("the API refuses the new access token")?;
        ensure!(after.session == before.session, "the new token belongs to another session");
        ensure!(after.token != before.token, "the new access token is the old one");
        Ok("the phone exchanges its refresh token: both tokens are new, the session is the same".into())
    }

    /// Spoiled: the last racer comes after the retry window.
    async fn race(&mut self, spoiled: bool) -> Result<String> {
        let (alice, (api, _)) = (left(&mut self.alice)?, left(&mut self.api)?);
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..RACERS {
            let (issuer, token) = (self.issuer.clone(), alice.refresh.clone());
            let late = spoiled && racer == RACERS - 1;
            racers.spawn(async move {
                if late {
                    wait(2 * WINDOW).await;
                }
                issuer.refresh(&token).await
            });
        }
        let mut given = Vec::new();
        while let Some(answer) = racers.join_next().await {
            let answer = answer.context("a racer panicked")??;
            ensure!(answer.status == 200, "a racer was answered {}", answer.gist());
            let tokens = Tokens::of(&answer)?;
            api.verify(&tokens.access).context("the API refuses a racer's access token")?;
            given.push(tokens);
        }
        let successors = distinct(given.iter().map(|t| &t.refresh));
        ensure!(given.len() == RACERS && successors == 1, "{RACERS} racers were given {successors} different tokens");
        let new = given.pop().context("nobody raced")?;
        ensure!(new.refresh != alice.refresh, "the racers got the token that they had");
        *alice = new;
        Ok(format!("{RACERS} exchanges of one token at once: every one answered, all with the one successor"))
    }

    /// Spoiled: the phone comes again only after the retry window.
    async fn lost(&mut self, spoiled: bool) -> Result<String> {
        let (alice, (api, _)) = (left(&mut self.alice)?, left(&mut self.api)?);
        let relay = Relay::new()?;
        let by = relay.url()?;
        let node: SocketAddr = self.issuer.url().trim_start_matches("http://").parse()?;
        let network = tokio::task::spawn_blocking(move || relay.lose_one(node));
        ensure!(self.issuer.refresh_via(&by, &alice.refresh).await.is_err(), "the answer was not lost");
        let lost: serde_json::Value = serde_json::from_slice(&network.await.context("the network panicked")??)?;
        let lost = Tokens::of(&Answer { status: 200, body: lost }).context("what was lost were no tokens")?;
        if spoiled {
            wait(WINDOW).await;
        }
        alice.refresh(&self.issuer).await.context("the retry")?;
        ensure!(alice.refresh == lost.refresh, "the retry gave another successor than the one that was lost");
        api.verify(&alice.access).context("the API refuses the access token of the retry")?;
        alice.refresh(&self.issuer).await.context("the successor is no good")?;
        Ok("an answer is lost on the way; the retry gets the very same successor, and it works".into())
    }

    /// Spoiled: the thief comes at once, inside the retry window.
    async fn theft(&mut self, spoiled: bool) -> Result<String> {
        let alice = left(&mut self.alice)?;
        let stolen = alice.refresh.clone();
        alice.refresh(&self.issuer).await?;
        ensure!(self.issuer.is_active(&alice.access).await?, "alice's access token was no good before the theft");
        if !spoiled {
            wait(WINDOW).await;
        }
        let thief = self.issuer.refresh(&stolen).await?;
        ensure!(thief.is_invalid_grant(), "the thief was answered {}", thief.gist());
        ensure!(!self.issuer.is_active(&alice.access).await?, "the access token of the stolen session is still active");
        let newest = self.issuer.refresh(&alice.refresh).await?;
        ensure!(newest.is_invalid_grant(), "the closed session still refreshes: {}", newest.gist());
        let bob = left(&mut self.bob)?;
        ensure!(self.issuer.is_active(&bob.access).await?, "bob's session was hit as well");
        let waited = format_duration(WINDOW);
        Ok(format!(
            "a thief replays a spent token {waited} later: refused, alice's session closed, its access token denied"
        ))
    }

    /// Spoiled: the operator does not send the order.
    async fn cut_off(&mut self, spoiled: bool) -> Result<String> {
        let (phone, laptop) = (self.issuer.login("alice").await?, self.issuer.login("alice").await?);
        for device in [&phone, &laptop] {
            ensure!(self.issuer.is_active(&device.access).await?, "alice could not log in again after the theft");
            self.doors.admit(&device.access).await?;
        }
        if !spoiled {
            let order = json!({"kind": "subject", "id": "alice", "reason": "demo"});
            let answer = self.issuer.operate("/v1/revocations", &order).await?;
            ensure!(answer.status == 201, "the cut-off was answered {}", answer.gist());
        }
        let after = self.doors.refuse(&phone.access).await?;
        self.doors.refuse(&laptop.access).await?;
        for device in [&phone, &laptop] {
            ensure!(!self.issuer.is_active(&device.access).await?, "an access token of alice is still active");
            let answer = self.issuer.refresh(&device.refresh).await?;
            ensure!(answer.is_invalid_grant(), "a session of alice still refreshes: {}", answer.gist());
        }
        let bob = left(&mut self.bob)?;
        ensure!(self.issuer.is_active(&bob.access).await?, "bob was cut off as well");
        bob.refresh(&self.issuer).await.context("bob was cut off as well")?;
        let again = self.issuer.login("alice").await?;
        ensure!(self.issuer.is_active(&again.access).await?, "what alice opened after the cut-off is denied");
        self.doors.admit(&bob.access).await.context("bob was cut off as well")?;
        self.doors.admit(&again.access).await.context("what alice opened after the cut-off")?;
        let after: Vec<_> = after.iter().map(|d| format!("{:.1} ms", d.as_secs_f64() * 1000.0)).collect();
        Ok(format!(
            "alice is cut off: verifiers in two other processes refuse her {} after the acknowledgement; bob stays in, \
             and alice may log in anew",
            after.join(" and ")
        ))
    }

    /// Spoiled: the API forgets the key that no longer signs.
    async fn rotate(&mut self, spoiled: bool) -> Result<String> {
        let (bob, (api, known)) = (left(&mut self.bob)?, left(&mut self.api)?);
        let old = bob.access.clone();
        let retiring = api.verify(&old)?.kid().clone();
        let waited = rotate_when_ready(&self.issuer).await?;
        bob.refresh(&self.issuer).await?;
        // The standby was in the key set that the API fetched at the start: it need not fetch again to go on.
        let new = api.verify(&bob.access).context("the API, with the keys that it had, refuses the new key")?;
        ensure!(*new.kid() != retiring, "the old key still signs");
        let mut fetched = self.issuer.jwks().await?;
        ensure!(fetched != *known, "the published keys did not change");
        if spoiled {
            fetched.keys.retain(|k| k.kid != retiring);
        }
        let api = Api::with(&self.issuer, fetched)?;
        api.verify(&bob.access).context("with the new key set, the API refuses the new token")?;
        api.verify(&old).context("with the new key set, the API refuses the old token")?;
        for token in [&old, &bob.access] {
            ensure!(self.issuer.is_active(token).await?, "a token of bob is no longer active");
        }
        let held = if waited.is_zero() {
            String::new()
        } else {
            format!(", {} ms after it was first asked for", waited.as_millis())
        };
        Ok(format!("the standby key signs{held}: tokens of the old key and of the new one both verify offline"))
    }
}

/// Rotates as soon as the standby has been published long enough, and says how long that took.
async fn rotate_when_ready(issuer: &Issuer) -> Result<Duration> {
    let clock = SystemClock::default();
    let began = clock.monotonic();
    while clock.monotonic() - began < 2 * PUBLISH_AHEAD {
        let answer = issuer.operate("/v1/keys/rotate", &json!({})).await?;
        match answer.status {
            200 => return Ok(clock.monotonic() - began),
            409 if answer.body["code"] == "too_early" => {
                let earliest =
                    Timestamp::from_rfc3339(&answer.text("earliest")?).context("`earliest` is no instant")?;
                wait(earliest.since(clock.now())).await;
            }
            _ => bail!("the rotation was answered {}", answer.gist()),
        }
    }
    bail!("the standby was still too young after {}", format_duration(2 * PUBLISH_AHEAD))
}
