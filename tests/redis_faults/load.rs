//! Clients that follow the rules, as they are: they refresh, race themselves, lose answers, come late, log out, and
//! revoke. Each keeps its newest token, sends the same one again after 503 or no answer, and writes down what it was told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    dice::Dice,
    harness::text,
    history::{History, Refusal, Revoked},
    nodes::{Clients, Order},
    trials,
    verify::Verifiers,
};

/// Sessions that one worker has open.
const SESSIONS: usize = 6;
/// Access tokens of a session that are remembered: those that may still be good.
const REMEMBERED: usize = 4;
/// Before the same is asked again.
const PAUSE: Duration = Duration::from_millis(60);
/// A service that does not come back within this is lost.
const HOPELESS: Duration = Duration::from_secs(60);

/// Between two steps of a worker. In the short form other tests have the processors too.
fn pace() -> Duration {
    Duration::from_millis(trials(45, 15) as u64)
}

/// What a token endpoint said.
pub enum Answer {
    Given { refresh: String, access: String },
    Invalid(String),
    Later,
    Lost,
}

/// One session as its client knows it.
#[derive(Clone)]
pub struct Session {
    pub id: String,
    pub subject: String,
    pub public: bool,
    pub opened: Duration,
    /// Refresh tokens, oldest first; the last one is the newest.
    pub chain: Vec<String>,
    /// The newest access tokens.
    pub access: Vec<String>,
}

impl Session {
    pub fn newest(&self) -> &str {
        self.chain.last().expect("the opening gave one")
    }
    fn takes(&mut self, refresh: String, access: String) {
        if self.newest() != refresh {
            self.chain.push(refresh);
        }
        self.access.push(access);
        if self.access.len() > REMEMBERED {
            self.access.remove(0);
        }
    }
}

/// What all workers share.
pub struct World {
    pub clients: Clients,
    pub history: Arc<History>,
    pub verifiers: Arc<Verifiers>,
    pub over: AtomicBool,
}

impl World {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// One exchange at one node, whatever comes of it.
    pub async fn exchange(&self, node: usize, token: &str, public: bool) -> Answer {
        let counts = &self.history.counts;
        match self.clients.refresh(node, token, public).await {
            Some((200, body)) => {
                let (refresh, access) =
                    (text(&body, "refresh_token").to_owned(), text(&body, "access_token").to_owned());
                self.history.given(token, &refresh);
                counts.refreshed.one();
                Answer::Given { refresh, access }
            }
            Some((400, body)) if body["error"] == "invalid_grant" => Answer::Invalid(body.to_string()),
            Some((503, _)) => {
                counts.later.one();
                Answer::Later
            }
            Some((status, body)) => {
                self.history.wrong(format!("a refresh was answered {status}: {body}"));
                Answer::Later
            }
            None => {
                counts.lost.one();
                Answer::Lost
            }
        }
    }

    /// Sends the same token until there is an answer to it.
    pub async fn insist(&self, dice: &Dice, token: &str, public: bool) -> Result<(String, String), String> {
        let began = self.history.now();
        loop {
            match self.exchange(dice.below(2), token, public).await {
                Answer::Given { refresh, access } => return Ok((refresh, access)),
                Answer::Invalid(said) => return Err(said),
                Answer::Later | Answer::Lost => tokio::time::sleep(PAUSE).await,
            }
            if self.history.now() - began > HOPELESS {
                let said = self.clients.refresh(0, token, public).await;
                panic!("no node has answered a refresh for {HOPELESS:?}: {said:?}");
            }
        }
    }

    /// Sends the same order until it is acknowledged. None: it was over before that.
    async fn order(&self, dice: &Dice, order: &Order) -> Option<Duration> {
        loop {
            match self.clients.order(dice.below(2), order).await {
                Some((200 | 201 | 204, _)) => {
                    self.history.counts.revocations.one();
                    return Some(self.history.now());
                }
                Some((503, _)) => self.history.counts.later.one(),
                None => self.history.counts.lost.one(),
                Some((status, body)) => self.history.wrong(format!("an order was answered {status}: {body}")),
            }
            if self.over() {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub async fn open(&self, dice: &Dice, subject: &str, public: bool) -> Option<Session> {
        loop {
            match self.clients.open(dice.below(2), subject, public).await {
                Some((201, body)) => {
                    self.history.counts.opened.one();
                    let own = |member: &str| text(&body, member).to_owned();
                    return Some(Session {
                        id: own("session_id"),
                        subject: subject.into(),
                        public,
                        opened: self.history.now(),
                        chain: vec![own("refresh_token")],
                        access: vec![own("access_token")],
                    });
                }
                Some((503, _)) => self.history.counts.later.one(),
                None => self.history.counts.lost.one(),
                Some((status, body)) => self.history.wrong(format!("an opening was answered {status}: {body}")),
            }
            if self.over() {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One client's machine: its subjects are nobody else's, so it knows all that covers its sessions.
pub struct Worker {
    world: Arc<World>,
    dice: Dice,
    subjects: [String; 2],
    pub sessions: Vec<Session>,
}

impl Worker {
    pub fn new(world: Arc<World>, n: usize, seed: u64) -> Self {
        let subjects = [format!("subject-{n}-a"), format!("subject-{n}-b")];
        Self { world, dice: Dice::new(seed ^ (n as u64) << 32), subjects, sessions: Vec::new() }
    }

    /// Until it is over. Gives back what it holds then.
    pub async fn run(mut self) -> Vec<Session> {
        while !self.world.over() {
            tokio::time::sleep(pace()).await;
            if self.sessions.len() < SESSIONS {
                let subject = self.subjects[self.dice.below(2)].clone();
                let public = self.dice.below(4) == 0;
                let Some(opened) = self.world.open(&self.dice, &subject, public).await else { break };
                self.show(&opened);
                self.sessions.push(opened);
                continue;
            }
            let n = self.dice.below(self.sessions.len());
            match self.dice.below(100) {
                0..50 => self.refresh(n).await,
                50..60 => self.race(n).await,
                60..70 => self.drop_an_answer(n).await,
                70..76 => self.come_late(n).await,
                76..82 => self.log_out(n).await,
                82..88 => self.end(n, false).await,
                88..92 => self.end(n, true).await,
                92..96 => self.revoke_token(n).await,
                96..98 => self.cut_off(n, "sessions").await,
                _ => self.cut_off(n, "tokens").await,
            }
        }
        self.sessions
    }

    /// A good token is accepted by every verifier that can tell.
    fn show(&self, session: &Session) {
        let token = session.access.last().expect("each answer gave one");
        self.world.verifiers.show_good(&self.world.history, token);
    }

    async fn refresh(&mut self, n: usize) {
        let (token, public) = (self.sessions[n].newest().to_owned(), self.sessions[n].public);
        let told = self.world.insist(&self.dice, &token, public).await;
        self.hear(n, told);
    }

    /// Takes what came, or drops the session that was refused, which must not be.
    fn hear(&mut self, n: usize, told: Result<(String, String), String>) {
        match told {
            Ok((refresh, access)) => {
                self.sessions[n].takes(refresh, access);
                self.show(&self.sessions[n]);
            }
            Err(said) => {
                let session = self.sessions.remove(n);
                let refused = self.world.history.now();
                self.world.history.refused(Refusal { session: session.id, opened: session.opened, refused, said });
            }
        }
    }

    /// The same token at both nodes at once.
    async fn race(&mut self, n: usize) {
        self.world.history.counts.races.one();
        let (token, public) = (self.sessions[n].newest().to_owned(), self.sessions[n].public);
        let both = tokio::join!(self.world.exchange(0, &token, public), self.world.exchange(1, &token, public),);
        for answer in [both.0, both.1] {
            match answer {
                Answer::Given { refresh, access } => self.sessions[n].takes(refresh, access),
                Answer::Invalid(said) => return self.hear(n, Err(said)),
                Answer::Later | Answer::Lost => {}
            }
        }
        self.refresh(n).await;
    }

    /// A request is given up at some moment, and the same token sent again.
    async fn drop_an_answer(&mut self, n: usize) {
        self.world.history.counts.dropped.one();
        let session = &self.sessions[n];
        let patience = Duration::from_micros(self.dice.below(12_000) as u64);
        let node = self.dice.below(2);
        let asked = self.world.exchange(node, session.newest(), session.public);
        // What came in time is as good as lost: the client sends the same token all the same.
        let _ = tokio::time::timeout(patience, asked).await;
        self.refresh(n).await;
    }

    /// A tab that has slept over the last exchange presents its parent, and is given the same again.
    async fn come_late(&mut self, n: usize) {
        let session = &self.sessions[n];
        let Some(parent) = session.chain.len().checked_sub(2).map(|at| session.chain[at].clone()) else { return };
        // A public client may do so within the window, and it does not know when its last exchange was made.
        if session.public {
            return;
        }
        self.world.history.counts.late.one();
        let told = self.world.insist(&self.dice, &parent, false).await;
        self.hear(n, told);
    }

    fn took_back(&self, by: &'static str, session: Session, ended: bool, acknowledged: Duration) {
        let refresh = ended.then(|| (session.newest().to_owned(), session.public));
        let (id, access) = (session.id, session.access);
        self.world.history.revoked(Revoked { by, session: id, access, refresh, acknowledged });
    }

    /// RFC 7009.
    async fn log_out(&mut self, n: usize) {
        let session = self.sessions.remove(n);
        let order = Order::Revoke { token: session.newest().to_owned(), public: session.public };
        let Some(at) = self.world.order(&self.dice, &order).await else { return };
        self.took_back("a logout", session, true, at);
    }

    /// By an operator; while its client refreshes it, if so.
    async fn end(&mut self, n: usize, racing: bool) {
        let mut session = self.sessions.remove(n);
        let (newest, public) = (session.newest().to_owned(), session.public);
        let order = Order::End { session: session.id.clone() };
        let order = self.world.order(&self.dice, &order);
        let at = if racing {
            let node = self.dice.below(2);
            let (at, meanwhile) = tokio::join!(order, self.world.exchange(node, &newest, public));
            if let Answer::Given { refresh, access } = meanwhile {
                session.takes(refresh, access);
            }
            at
        } else {
            order.await
        };
        let Some(at) = at else { return };
        self.took_back(if racing { "an end amid a refresh" } else { "an end" }, session, true, at);
    }

    /// One access token: its session goes on.
    async fn revoke_token(&mut self, n: usize) {
        let session = self.sessions[n].clone();
        let token = session.access.last().expect("each answer gave one").clone();
        let order = Order::Revoke { token: token.clone(), public: session.public };
        let at = self.world.order(&self.dice, &order).await;
        self.sessions[n].access.retain(|one| *one != token);
        if let Some(at) = at {
            self.took_back("a token's revocation", Session { access: vec![token], ..session }, false, at);
        }
        self.refresh(n).await;
    }

    /// A subject's sessions, or its tokens alone.
    async fn cut_off(&mut self, n: usize, ends: &'static str) {
        let subject = self.sessions[n].subject.clone();
        let order = Order::CutOff { subject: subject.clone(), ends };
        let at = self.world.order(&self.dice, &order).await;
        let (covered, rest) = std::mem::take(&mut self.sessions).into_iter().partition(|one| one.subject == subject);
        self.sessions = rest;
        let covered: Vec<Session> = covered;
        for session in covered {
            let tokens_alone = ends == "tokens";
            if let Some(at) = at {
                let by = if tokens_alone { "a cut-off of tokens" } else { "a cut-off" };
                self.took_back(by, session.clone(), !tokens_alone, at);
            }
            if tokens_alone {
                self.sessions.push(Session { access: Vec::new(), ..session });
                self.refresh(self.sessions.len() - 1).await;
            }
        }
    }
}
