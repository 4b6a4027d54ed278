//! Those who verify offline. One follows each node, one asks whichever comes, as behind a balancer; and they are asked
//! all the time about what was taken back.

use std::{sync::Arc, time::Duration};

use rescind::verifier::{Refused, Rejection, Verifier};

use crate::history::{History, Revoked};

/// The shortest but one that there is: what is not heard of within this is not accepted.
pub const STALENESS: Duration = Duration::from_secs(3);
/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(20);

pub struct Verifiers(Vec<Verifier>);

/// What all of them said of something, together.
#[derive(Default, Clone, Copy, Debug)]
pub struct Said {
    pub accepted: usize,
    pub refused: usize,
    pub untold: usize,
}

impl Verifiers {
    /// They know the issuer by one address; its relay sends those with a name to their node (`relay.rs`).
    pub fn follow(issuer: &str, client: &str, secret: &str) -> Self {
        let builder = || Verifier::builder(issuer).audience("api").max_staleness(STALENESS);
        let named = |name: &str| builder().report_as(name, client, secret).follow().unwrap();
        Self(vec![named("node-0"), named("node-1"), builder().follow().unwrap()])
    }

    pub async fn ready(&self) {
        for verifier in &self.0 {
            verifier.ready().await;
        }
    }

    pub fn available(&self) -> bool {
        self.0.iter().all(|verifier| verifier.health().available.is_ok())
    }

    pub fn health(&self) -> String {
        self.0.iter().map(|verifier| format!("{:?}\n", verifier.health())).collect()
    }

    /// A good token may be accepted, or not told; anything else is wrong.
    pub fn show_good(&self, history: &History, token: &str) {
        for verifier in &self.0 {
            match verifier.verify(token) {
                Ok(_) => history.counts.accepted.one(),
                Err(Refused::Unavailable(_)) => history.counts.unavailable.one(),
                Err(Refused::Rejected(why)) => history.wrong(format!("a good token was refused: {why}")),
            }
        }
    }

    pub fn is_accepted(&self, token: &str) -> bool {
        self.0.iter().any(|verifier| verifier.verify(token).is_ok())
    }

    pub fn ask(&self, revoked: &Revoked) -> Said {
        let mut said = Said::default();
        for token in &revoked.access {
            for verifier in &self.0 {
                match verifier.verify(token) {
                    Ok(_) => said.accepted += 1,
                    // Refused for its age it says nothing about the denylist.
                    Err(Refused::Rejected(Rejection::Expired)) => {}
                    Err(Refused::Rejected(_)) => said.refused += 1,
                    Err(Refused::Unavailable(_)) => said.untold += 1,
                }
            }
        }
        said
    }

    /// Asks about all of them. What was acknowledged longer ago than [`STALENESS`] is accepted by nobody.
    pub fn sweep(&self, history: &History, revoked: &[Revoked], when: &str) -> Said {
        let mut all = Said::default();
        for one in revoked {
            let asked = history.now();
            let said = self.ask(one);
            if said.accepted > 0 && asked > one.acknowledged + STALENESS {
                let ago = asked - one.acknowledged;
                history.wrong(format!(
                    "{when}: {} verifications accepted what {} took back {ago:?} before; session {}; {}",
                    said.accepted,
                    one.by,
                    one.session,
                    self.health()
                ));
                all.accepted += said.accepted;
            }
            all.refused += said.refused;
            all.untold += said.untold;
        }
        all
    }
}

/// Asks about every revocation from its acknowledgement on until all verifiers refuse, and writes down how long after it
/// the last one accepted. Never ends.
pub async fn watch(verifiers: Arc<Verifiers>, history: Arc<History>) {
    let (mut heard, mut pending) = (0, Vec::new());
    let mut round = tokio::time::interval(ROUND);
    loop {
        round.tick().await;
        let new = history.revocations(heard);
        heard += new.len();
        pending.extend(new.into_iter().map(|revoked| (revoked, Duration::ZERO)));
        pending.retain_mut(|(revoked, last)| {
            let asked = history.now();
            let said = verifiers.ask(revoked);
            if said.accepted > 0 {
                *last = asked.saturating_sub(revoked.acknowledged);
                if *last > STALENESS {
                    history.wrong(format!(
                        "accepted {last:?} after {} was acknowledged; session {}; {}",
                        revoked.by,
                        revoked.session,
                        verifiers.health()
                    ));
                    return false;
                }
            }
            let settled = said.accepted == 0 && said.untold == 0;
            if settled {
                history.lag(*last);
            }
            !settled
        });
    }
}
