//! Sessions that several nodes hold in one Redis: what they race for, what lies where, and what it takes.

use std::{sync::Arc, time::Duration};

use rescind::{
    clock::{Clock, ManualClock, SystemClock, SystemRandom, random_bytes},
    families::Families,
    keyring::{Keyring, Settings},
    model::{
        SessionId, Subject, SubjectRef, Timestamp,
        audit::{Draft, Event},
        denial::{Ends, LEEWAY_AND_MARGIN, Retention, Target},
        family::{Closure, Doubt, Generation, Lifetimes, Refusal, Served, Verdict},
        session::{Device, Identity, OnFull, SessionCap},
    },
    store::{
        AssertionId, AssertionUse, BookChange, BookChanged, ClientStore, DenyStore, Family, FamilyStore, HeldBack,
        Opened, Opening, Others, Presentation, Presented, StoreError,
        redis::{Options, RedisStore},
    },
};
use tokio::task::JoinSet;

use crate::{
    common::{
        LEASE, LIVES, RETENTION, START, app, bearer, client, denial, eventually, head, millis, open, opening, secs,
        show, showing, subject, verdict,
    },
    servers::Server,
};

/// Nodes that share a server and a clock.
struct Site {
    server: Server,
    clock: Arc<ManualClock>,
}

impl Site {
    fn new() -> Self {
        Self { server: Server::start(&[]), clock: Arc::new(ManualClock::new(START)) }
    }

    fn options() -> Options {
        // The clock of these tests stands still, and is not the server's.
        Options { skew: Duration::ZERO, margin: Duration::ZERO, lease: LEASE, ..Options::new(RETENTION) }
    }

    async fn node(&self) -> Arc<RedisStore> {
        self.node_with(Self::options()).await
    }

    async fn node_with(&self, options: Options) -> Arc<RedisStore> {
        let node =
            RedisStore::open(&self.server.url().parse().unwrap(), options, self.clock.clone(), Arc::new(SystemRandom))
                .await;
        Arc::new(node.unwrap())
    }

    async fn two(&self) -> [Arc<RedisStore>; 2] {
        [self.node().await, self.node().await]
    }
}

/// Does it so many times at once, on each node in turn.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    nodes: &[Arc<RedisStore>],
    times: usize,
    of: impl Fn(usize, Arc<RedisStore>) -> F,
) -> Vec<T> {
    let mut racers = JoinSet::new();
    for n in 0..times {
        racers.spawn(of(n, nodes[n % nodes.len()].clone()));
    }
    racers.join_all().await
}

/// As an exchange of a token goes: a look, then the step.
async fn exchange(node: &RedisStore, mut asked: Presentation) -> Result<Presented, StoreError> {
    asked.sight = node.sight(asked.id, asked.generation, app()).await?.and_then(|(_, sight)| sight);
    node.present(asked).await
}

// ---- what was seen before a step

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_the_look_decides_and_not_the_look() {
    changed_since(false).await;
}

/// A session that was left here as its token says need not be looked at before it moves on.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_it_was_left_here_decides_and_not_what_is_remembered() {
    changed_since(true).await;
}

/// `remembered`: the session was left at the node to which it comes.
async fn changed_since(remembered: bool) {
    let site = Site::new();
    let [here, there] = site.two().await;
    let none = Draft::default;
    let seen = async |n: u8| {
        let left = if remembered { &here } else { &there };
        let family = open(&**left, subject(n)).await;
        let (_, sight) = here.sight(family.id, Generation(0), app()).await.unwrap().unwrap();
        assert!(sight.is_some());
        // Whoever cuts off what was opened elsewhere goes by the time.
        site.clock.advance(millis(1));
        (showing(&family, 0), sight, family)
    };
    let cut = async |target, ends| drop(there.deny(denial(target, ends)).await.unwrap().unwrap());

    // Nothing has: it is one rotation, and the same look is good for one.
    let (asked, sight, family) = seen(1).await;
    let again = Presentation { sight: sight.clone(), ..asked.clone() };
    assert_eq!(here.present(Presentation { sight, ..asked }).await.unwrap().verdict, Verdict::Rotate);
    assert_eq!(here.present(again).await.unwrap().verdict, Verdict::Retry);
    assert_eq!(head(&*there, &family).await, 1);
    // It was rotated meanwhile, once and twice.
    for (rotations, verdict) in [(1, Verdict::Retry), (2, Verdict::Unavailable(Doubt::LateDuplicate))] {
        let (asked, sight, family) = seen(2).await;
        for generation in 0..rotations {
            assert_eq!(show(&*there, &family, generation).await.verdict, Verdict::Rotate);
        }
        assert_eq!(here.present(Presentation { sight, ..asked }).await.unwrap().verdict, verdict);
        assert_eq!(head(&*there, &family).await, rotations);
    }
    // Closed, or changed.
    let (asked, sight, family) = seen(3).await;
    there.close(family.id, Closure::Revoked, None, none()).await.unwrap();
    let shown = here.present(Presentation { sight, ..asked }).await.unwrap();
    assert_eq!(shown.verdict, Verdict::Refused(Refusal::Closed));
    let (asked, sight, family) = seen(4).await;
    there.amend(family.id, family.sealed.clone(), b"other claims".to_vec(), none()).await.unwrap();
    let shown = here.present(Presentation { sight, ..asked }).await.unwrap();
    assert_eq!((shown.held_back, head(&*there, &family).await), (Some(HeldBack::Stale), 0));
    // Cut off: the subject's cut-offs lie beside the family, those of a client and of everyone elsewhere.
    // A subject each: one that has cut-offs is looked at properly in any case.
    for (n, target) in [(5, Target::Subject(subject(5))), (8, Target::Client(app())), (9, Target::All)] {
        let (asked, sight, _) = seen(n).await;
        cut(target, Ends::Sessions).await;
        let shown = here.present(Presentation { sight, ..asked }).await.unwrap();
        assert_eq!(shown.verdict, Verdict::Refused(Refusal::CutOff));
    }
    // What is stamped by an earlier look is stamped anew.
    for (n, target) in [(6, Target::Subject(subject(6))), (10, Target::Client(app())), (11, Target::All)] {
        let (asked, sight, family) = seen(n).await;
        let entry = there.deny(denial(target, Ends::Tokens)).await.unwrap().unwrap();
        let shown = here.present(Presentation { sight, ..asked }).await.unwrap();
        // The first stamp was denied before anybody had it: it is asked for once more.
        assert!(matches!(shown.verdict, Verdict::Rotate | Verdict::Retry), "{:?}", shown.verdict);
        assert!(shown.at >= entry.before && !here.denied(bearer(&family, shown.at)).await.unwrap());
        assert_eq!(head(&*there, &family).await, 1);
    }
    // A look that asked for another client's cut-offs tells nothing of this one's.
    let family = open(&*there, subject(7)).await;
    let (_, sight) = here.sight(family.id, Generation(0), client("another")).await.unwrap().unwrap();
    cut(Target::Client(app()), Ends::Sessions).await;
    let shown = here.present(Presentation { sight, ..showing(&family, 0) }).await.unwrap();
    assert_eq!(shown.verdict, Verdict::Refused(Refusal::CutOff));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_left_here_is_presented_without_asking_first() {
    let site = Site::new();
    let [here, there] = site.two().await;
    let family = open(&*here, subject(1)).await;
    let sight = async |node: &RedisStore, generation| {
        let asked = node.sight(family.id, Generation(generation), app());
        tokio::time::timeout(Duration::from_millis(100), asked).await
    };
    site.server.stop();
    let told = sight(&here, 0).await;
    let asks = [sight(&here, 1).await.is_err(), sight(&there, 0).await.is_err()];
    site.server.go_on();
    assert!(matches!(told, Ok(Ok(Some(_)))), "{told:?}");
    assert_eq!(asks, [true; 2], "a later token was handed out elsewhere, and elsewhere nobody knows");
    // It has moved elsewhere since, and its client comes with the token of before: that is found out, and remembered.
    assert_eq!(show(&*there, &family, 0).await.verdict, Verdict::Rotate);
    let sights = [exchange(&here, showing(&family, 0)).await, exchange(&here, showing(&family, 1)).await];
    assert_eq!(sights.map(|shown| shown.unwrap().verdict), [Verdict::Retry, Verdict::Rotate]);
    there.amend(family.id, family.sealed.clone(), b"other claims".to_vec(), Draft::default()).await.unwrap();
    let stale = exchange(&here, showing(&family, 2)).await.unwrap();
    assert_eq!(stale.held_back, Some(HeldBack::Stale));
    site.server.stop();
    let asks = sight(&here, 2).await.is_err();
    site.server.go_on();
    assert!(asks, "what was stale once is looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_a_session_that_was_put_back_and_closed_opens_it_for_nobody() {
    let site = Site::new();
    let [here, there] = site.two().await;
    let family = open(&*here, subject(1)).await;
    let keys = site.server.cli(&["keys", "*:families"]);
    site.server.cli(&["copy", &keys, "{before}"]);
    assert_eq!(show(&*here, &family, 0).await.verdict, Verdict::Rotate);
    // The store loses that, and another node writes what it has as often as this one has.
    assert_eq!(site.server.cli(&["copy", "{before}", &keys, "replace"]), "1");
    there.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    let shown = exchange(&here, showing(&family, 1)).await.unwrap();
    assert!(!shown.is_success(), "{shown:?}");
    assert!(there.find(family.id).await.unwrap().unwrap().lineage.closed.is_some(), "who has logged out stays so");
}

// ---- races between nodes

#[tokio::test(flavor = "multi_thread")]
async fn one_token_on_eight_connections_over_two_nodes_has_one_successor() {
    let site = Site::new();
    let nodes = site.two().await;
    for _ in 0..20 {
        let family = open(&*nodes[0], subject(1)).await;
        for generation in 0..4 {
            let asked = showing(&family, generation);
            let shown = at_once(&nodes, 8, |_, node| {
                let asked = asked.clone();
                async move { exchange(&node, asked).await.expect("nobody is too busy for eight") }
            });
            let shown = shown.await;
            let rotated = shown.iter().filter(|p| p.verdict == Verdict::Rotate).count();
            let retried = shown.iter().filter(|p| p.verdict == Verdict::Retry).count();
            assert_eq!((rotated, retried), (1, 7));
            assert!(shown.iter().all(|p| p.family.as_ref().unwrap().lineage.head.0 == generation + 1));
            for node in &nodes {
                assert_eq!(head(&**node, &family).await, generation + 1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_on_one_node_loses_against_a_closing_on_the_other() {
    let site = Site::new();
    let nodes = site.two().await;
    for round in 0..30 {
        let family = open(&*nodes[0], subject(1)).await;
        let asked = showing(&family, 0);
        let shown = at_once(&nodes, 8, |n, node| {
            let asked = asked.clone();
            async move {
                if n == round % 8 {
                    node.close(asked.id, Closure::Revoked, None, Draft::default()).await.unwrap();
                    return None;
                }
                Some(exchange(&node, asked).await.unwrap())
            }
        });
        for shown in shown.await.into_iter().flatten() {
            match shown.verdict {
                Verdict::Rotate | Verdict::Retry => {
                    for node in &nodes {
                        assert!(node.denied(bearer(&family, shown.at)).await.unwrap(), "it was before, and is denied");
                    }
                }
                other => assert_eq!(other, Verdict::Refused(Refusal::Closed)),
            }
        }
        for node in &nodes {
            assert_eq!(verdict(&**node, &family, 1).await, Verdict::Refused(Refusal::Closed));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_on_one_node_is_before_a_cut_off_on_the_other_and_denied_or_after_it_and_refused() {
    let site = Site::new();
    let nodes = site.two().await;
    for round in 0..30 {
        let ends = if round % 2 == 0 { Ends::Sessions } else { Ends::Tokens };
        let target = if round % 3 == 0 { Target::Client(app()) } else { Target::Subject(subject(1)) };
        let by_hub = !matches!(target, Target::Subject(_));
        let family = open(&*nodes[0], subject(1)).await;
        let asked = showing(&family, 0);
        let shown = at_once(&nodes, 8, |n, node| {
            let (asked, target) = (asked.clone(), target.clone());
            async move {
                if n == round % 8 {
                    return Err(node.deny(denial(target, ends)).await.unwrap().unwrap());
                }
                let shown = exchange(&node, asked.clone()).await.unwrap();
                // As whoever answers the client looks again.
                let cut_off = node.cut_off(asked.subject, app(), asked.id.stamp()).await.unwrap();
                Ok((shown, cut_off))
            }
        });
        let shown = shown.await;
        let cut = shown.iter().find_map(|shown| shown.as_ref().err()).unwrap();
        assert!(family.id.stamp() < cut.before);
        for (shown, cut_off) in shown.iter().flatten() {
            if !matches!(shown.verdict, Verdict::Rotate | Verdict::Retry) {
                assert_eq!((shown.verdict, ends), (Verdict::Refused(Refusal::CutOff), Ends::Sessions));
                continue;
            }
            for node in &nodes {
                let denied = node.denied(bearer(&family, shown.at)).await.unwrap();
                assert_eq!(denied, ends == Ends::Sessions || shown.at < cut.before, "round {round}");
                assert!(denied || ends == Ends::Tokens || *cut_off);
            }
        }
        for node in &nodes {
            assert_eq!(node.cut_off(subject(1), app(), family.id.stamp()).await.unwrap(), ends == Ends::Sessions);
            let fresh = show(&**node, &family, 1).await;
            match ends {
                Ends::Sessions => assert_eq!(fresh.verdict, Verdict::Refused(Refusal::CutOff)),
                Ends::Tokens => assert!(!node.denied(bearer(&family, fresh.at)).await.unwrap(), "{by_hub}"),
            }
        }
        site.clock.advance(millis(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_covers_what_a_node_whose_clock_is_ahead_has_stamped() {
    let site = Site::new();
    let here = site.node().await;
    let ahead = Arc::new(ManualClock::new(START.plus(secs(3))));
    let url = site.server.url().parse().unwrap();
    let there = RedisStore::open(&url, Site::options(), ahead, Arc::new(SystemRandom)).await.unwrap();
    for ends in [Ends::Sessions, Ends::Tokens] {
        let family = open(&there, subject(1)).await;
        let minted = show(&there, &family, 0).await.at;
        here.deny(denial(Target::Subject(subject(1)), ends)).await.unwrap().unwrap();
        assert!(here.denied(bearer(&family, minted)).await.unwrap());
        assert!(there.denied(bearer(&family, minted)).await.unwrap());
        // What this node stamps afterwards is not hit, although its clock still shows less.
        let later = open(&*here, subject(1)).await;
        assert!(!there.denied(bearer(&later, later.id.stamp())).await.unwrap());
        assert_eq!(verdict(&there, &later, 0).await, Verdict::Rotate);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openings_on_two_nodes_never_exceed_the_cap() {
    let site = Site::new();
    let nodes = site.two().await;
    for (n, on_full) in [(1, OnFull::Refuse), (2, OnFull::EndOldest)] {
        let opened = at_once(&nodes, 12, |_, node| async move {
            let cap = Some(SessionCap { most: 3, on_full });
            node.open(Opening { cap, ..opening(subject(n)) }).await.unwrap()
        });
        let opened = opened.await.into_iter().filter_map(Opened::family).count();
        assert_eq!(opened, if on_full == OnFull::Refuse { 3 } else { 12 });
        for node in &nodes {
            let families = node.of_subject(subject(n), None, 100).await.unwrap();
            let open: Vec<_> = families.iter().filter(|f| f.lineage.closed.is_none()).collect();
            assert_eq!(open.len(), 3);
            for family in &families {
                let is_denied = node.denied(bearer(family, family.id.stamp())).await.unwrap();
                assert_eq!(is_denied, family.lineage.closed.is_some());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_on_one_node_is_seen_by_the_exchange_on_the_other() {
    let site = Site::new();
    let [a, b] = site.two().await;
    let family = open(&*a, subject(1)).await;
    a.amend(family.id, family.sealed.clone(), b"other".to_vec(), Draft::default()).await.unwrap();
    let held = show(&*b, &family, 0).await;
    assert_eq!(held.held_back, Some(rescind::store::HeldBack::Stale));
    assert_eq!(held.family.unwrap().sealed, b"other");
}

// ---- many sessions of one subject

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_with_hundreds_of_sessions_is_listed_capped_closed_and_swept_like_one_with_few() {
    let site = Site::new();
    let [a, b] = site.two().await;
    let mut families = Vec::new();
    for n in 0..150 {
        families.push(open(if n % 2 == 0 { &*a } else { &*b }, subject(1)).await);
        site.clock.advance(millis(1));
        if n == 20 {
            a.close(families[5].id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
        }
    }
    let ids: Vec<_> = families.iter().map(|f| f.id).collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = b.of_subject(subject(1), after, 40).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|f| f.id));
    }
    assert_eq!(seen, ids);
    assert_eq!(a.count_of_subject(subject(1), 1000).await.unwrap(), 150);
    assert_eq!(a.count_of_subject(subject(1), 100).await.unwrap(), 100);
    // 149 go on.
    let cap = |most| Some(SessionCap { most, on_full: OnFull::Refuse });
    assert_eq!(b.open(Opening { cap: cap(149), ..opening(subject(1)) }).await.unwrap(), Opened::Full);
    let kept = b.open(Opening { cap: cap(150), ..opening(subject(1)) }).await.unwrap().family().unwrap();
    let (mut others, mut closed) = (
        Others {
            subject: subject(1),
            keep: kept.id,
            after: None,
            until: None,
            limit: 64,
            reason: None,
            audit: Draft::default(),
        },
        0,
    );
    loop {
        let done = a.close_others(others.clone()).await.unwrap();
        closed += done.closed;
        if done.next.is_none() {
            break;
        }
        (others.after, others.until) = (done.next, done.until);
    }
    assert_eq!(closed, 149);
    for family in &families {
        assert!(b.denied(bearer(family, family.id.stamp())).await.unwrap());
    }
    // One cut-off of the subject's tokens stands for many of those: what goes on fetches new ones.
    let fresh = show(&*b, &kept, 0).await;
    assert_eq!(fresh.verdict, Verdict::Rotate);
    assert!(!a.denied(bearer(&kept, fresh.at)).await.unwrap());
    assert!(b.open(Opening { cap: cap(2), ..opening(subject(1)) }).await.unwrap().family().is_some());
    assert_eq!(b.open(Opening { cap: cap(2), ..opening(subject(1)) }).await.unwrap(), Opened::Full);
    site.clock.advance(LIVES.absolute + LEEWAY_AND_MARGIN);
    a.sweep_of(subject(1)).await.unwrap();
    assert_eq!(b.of_subject(subject(1), None, 1000).await.unwrap(), []);
    // What the bucket has owed leaves when it is told that it need not keep it.
    eventually("nothing is left of them", || async {
        let left = site.server.cli(&["KEYS", "*{101}*"]);
        left.lines().all(|key| key.ends_with(":meta") || key.ends_with(":cuts"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_that_a_session_had_elsewhere_leads_to_it_for_as_long_as_it_can_live() {
    let site = Site::new();
    let [a, b] = site.two().await;
    let families = [open(&*a, subject(1)).await, open(&*a, subject(1)).await];
    let until = START.plus(secs(100));
    let lead = |family: &Family| {
        // In the bucket of another subject.
        let mut was = *family.id.as_bytes();
        (was[14], was[15]) = ((was[14] & 0xf0) | 2, 2);
        let due = u32::try_from(until.seconds()).unwrap();
        let row = format!("00000007{due:08x}0101");
        let put = "local function raw(h) return (h:gsub('..', function(b) return string.char(tonumber(b, 16)) end)) end \
                   return redis.call('hset', KEYS[1], raw(ARGV[1]), raw(ARGV[2]))";
        let id: String = was.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(site.server.cli(&["eval", put, "1", "rescind:{202}:moved", &id, &row]), "1");
        SessionId::from_bytes(was).unwrap()
    };
    let [one, two] = families.each_ref().map(lead);
    assert_eq!(b.find(one).await.unwrap().unwrap().id, families[0].id);
    let (family, sight) = b.sight(one, Generation(0), app()).await.unwrap().unwrap();
    let moved_at = sight.as_ref().unwrap().moved_at().unwrap();
    assert_eq!((family.id, moved_at.0), (families[0].id, 7));
    let (_, sight) = b.sight(families[0].id, Generation(0), app()).await.unwrap().unwrap();
    assert_eq!(sight.unwrap().moved_at(), None);
    let others = Others {
        subject: subject(1),
        keep: one,
        after: None,
        until: None,
        limit: 10,
        reason: None,
        audit: Draft::default(),
    };
    assert_eq!(b.close_others(others).await.unwrap().closed, 1, "the one that is kept goes on");
    assert_eq!(verdict(&*a, &families[0], 0).await, Verdict::Rotate);
    let closed = b.close(one, Closure::Revoked, None, Draft::default()).await.unwrap();
    assert_eq!((closed.was_open, closed.entry.unwrap().target), (true, Target::Session(families[0].id)));
    // It leaves when it is of no more use, and nothing else does.
    a.sweep_of(subject(2)).await.unwrap();
    assert!(b.find(two).await.unwrap().is_some());
    site.clock.advance(secs(101));
    a.sweep_of(subject(2)).await.unwrap();
    assert_eq!(site.server.cli(&["exists", "rescind:{202}:moved"]), "0");
    assert!(b.find(two).await.unwrap().is_none() && b.find(families[1].id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_are_visited_once_and_the_oldest_is_known() {
    let site = Site::new();
    let node = site.node().await;
    assert_eq!(node.oldest().await.unwrap(), None);
    site.clock.advance(secs(10));
    let mut ids = Vec::new();
    for n in 0..60 {
        let mut of = subject(n);
        of.0[14..].copy_from_slice(&(u16::from(n).wrapping_mul(1111)).to_be_bytes());
        ids.push(open(&*node, of).await.id);
        ids.push(open(&*node, of).await.id);
        site.clock.advance(millis(1));
    }
    assert_eq!(node.oldest().await.unwrap(), Some(START.plus(secs(10))));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = node.all(after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|f| f.id));
    }
    seen.sort_unstable();
    ids.sort_unstable();
    assert_eq!(seen, ids);
}

// ---- what others may ask of Redis itself

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_another_language_asks_whether_one_id_is_denied() {
    let server = Server::start(&[]);
    let options = Options::new(Retention { access: secs(300), session: secs(7200) });
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    let node = RedisStore::open(&server.url().parse().unwrap(), options, clock.clone(), random).await.unwrap();
    let exists = |id: &str| {
        let key = format!("rescind:{{{}}}:denied:{id}", &id[id.len() - 3..]);
        (server.cli(&["EXISTS", &key]), server.cli(&["PEXPIRETIME", &key]))
    };
    let family = open(&node, subject(1)).await;
    let sid = family.id.to_string();
    assert_eq!(exists(&sid).0, "0");
    let closed = node.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    let until = closed.entry.unwrap().feed_until.millis().to_string();
    assert_eq!(exists(&sid), ("1".to_owned(), until));
    let token = rescind::model::TokenId::new(clock.now(), &[0xab; 10]);
    assert_eq!(exists(&token.to_string()).0, "0");
    let entry = node.deny(denial(Target::Token(token), Ends::Tokens)).await.unwrap().unwrap();
    assert_eq!(exists(&token.to_string()), ("1".to_owned(), entry.feed_until.millis().to_string()));
    // Nothing else may go by itself: a server short of memory would take it for leave to drop what is needed.
    let script = "local some = {} for _, key in ipairs(redis.call('KEYS', '*')) do
        if redis.call('PTTL', key) ~= -1 then some[#some + 1] = key end end return some";
    let some = server.cli(&["EVAL", script, "0"]);
    let some: Vec<_> = some.lines().filter(|key| !key.contains(":denied:") && !key.ends_with("{hub}:turn")).collect();
    assert!(some.is_empty(), "{some:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_wiped_or_foreign_bucket_says_is_not_believed() {
    let site = Site::new();
    let node = site.node().await;
    let family = open(&*node, subject(1)).await;
    let key = "rescind:{101}:meta";
    let mark = site.server.cli(&["HEXISTS", key, "life"]);
    assert_eq!(mark, "1");
    site.server.cli(&["HDEL", key, "life"]);
    let is_not_whole = |error: StoreError| matches!(error, StoreError::NotWhole);
    assert!(is_not_whole(node.find(family.id).await.unwrap_err()));
    assert!(is_not_whole(node.present(showing(&family, 0)).await.unwrap_err()));
    assert!(is_not_whole(node.open(opening(subject(1))).await.unwrap_err()));
    assert!(is_not_whole(node.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap_err()));
    assert!(is_not_whole(node.cut_off(subject(1), app(), START).await.unwrap_err()));
    assert!(is_not_whole(node.deny(denial(Target::Subject(subject(1)), Ends::Sessions)).await.unwrap_err()));
    site.server.cli(&["HSET", key, "life", "another"]);
    assert!(matches!(node.find(family.id).await.unwrap_err(), StoreError::Busy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_told_and_harms_no_other() {
    let site = Site::new();
    let node = site.node().await;
    let family = open(&*node, subject(1)).await;
    let other = open(&*node, subject(2)).await;
    let script = "return redis.call('HSET', KEYS[1], redis.call('HKEYS', KEYS[1])[1], 'nonsense')";
    site.server.cli(&["EVAL", script, "1", "rescind:{101}:families"]);
    assert!(matches!(node.find(family.id).await.unwrap_err(), StoreError::Damaged(_)));
    assert!(matches!(node.present(showing(&family, 0)).await.unwrap_err(), StoreError::Damaged(_)));
    assert_eq!(verdict(&*node, &other, 0).await, Verdict::Rotate);
}

// ---- answers that were lost

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_whose_answer_was_lost_is_given_again_however_late() {
    let site = Site::new();
    let [a, b] = site.two().await;
    let family = open(&*a, subject(1)).await;
    assert_eq!(verdict(&*a, &family, 0).await, Verdict::Rotate);
    // The caller goes away once the change is made and before it is told so. One that was told so before that could be seen
    // is followed by another.
    let mut spent = 0;
    loop {
        spent += 1;
        let mut exchange = Box::pin(a.present(showing(&family, spent)));
        let told = loop {
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(exchange.as_mut().poll(context))).await;
            if polled.is_ready() || head(&*b, &family).await == spent + 1 {
                break polled.is_ready();
            }
        };
        if !told {
            break;
        }
        assert!(spent < 100, "each was answered before anybody could see that it was made");
    }
    a.sweep_of(subject(1)).await.unwrap();
    let found = b.find(family.id).await.unwrap().unwrap();
    assert_eq!(found.lineage.stamps[0].rotated, Served::NOT_YET, "the other node knows, too");
    site.clock.advance(LIVES.retry_window * 20);
    let again = show(&*b, &family, spent).await;
    assert_eq!((again.verdict, again.family.unwrap().lineage.head.0), (Verdict::Retry, spent + 1));
    // From here on the window runs.
    site.clock.advance(LIVES.retry_window);
    assert_eq!(verdict(&*b, &family, spent).await, Verdict::Close(Closure::Reused));
}

// ---- clients

fn assertion(who: &str, n: u64) -> AssertionId {
    AssertionId::of(&client(who), &n.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_is_good_for_once_on_whichever_node() {
    let site = Site::new();
    let nodes = site.two().await;
    let until = START.plus(secs(100));
    for n in 0..20 {
        let used =
            at_once(&nodes, 8, |_, node| async move { node.use_assertion(assertion("a", n), until).await.unwrap() });
        let used = used.await;
        assert_eq!(used.iter().filter(|used| **used == AssertionUse::First).count(), 1);
        assert_eq!(used.iter().filter(|used| **used == AssertionUse::Again).count(), 7);
    }
    assert!(nodes[0].assertion_used(assertion("a", 1)).unwrap());
    assert!(!nodes[0].assertion_used(assertion("a", 99)).unwrap());
    // Also by a node that starts later.
    let late = site.node().await;
    assert_eq!(late.use_assertion(assertion("a", 3), until).await.unwrap(), AssertionUse::Again);
    assert_eq!(late.use_assertion(assertion("b", 3), until).await.unwrap(), AssertionUse::First);
}

#[tokio::test(flavor = "multi_thread")]
async fn used_assertions_are_bounded_and_leave_when_they_are_of_no_more_use() {
    let site = Site::new();
    let node = site.node_with(Options { assertions: 8, ..Site::options() }).await;
    let until = START.plus(secs(100));
    let take = async |who: &str, n| node.use_assertion(assertion(who, n), until).await.unwrap();
    for n in 0..4 {
        assert_eq!(take("a", n).await, AssertionUse::First);
    }
    assert_eq!(take("a", 4).await, AssertionUse::Full, "one alone gets half");
    assert_eq!(take("b", 0).await, AssertionUse::First);
    site.clock.advance(secs(100));
    node.sweep_of(subject(1)).await.unwrap();
    assert_eq!(site.server.cli(&["ZCARD", "rescind:{hub}:assertions"]), "0");
    assert_eq!(site.server.cli(&["EXISTS", "rescind:{hub}:assertions_by"]), "0");
    // By a clock that was set back they look good again; nobody can tell any more.
    site.clock.jump_back(secs(50));
    assert_eq!(take("a", 0).await, AssertionUse::Unknown);
    let later = node.use_assertion(assertion("a", 0), until.plus(millis(1))).await.unwrap();
    assert_eq!(later, AssertionUse::First);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_changes_of_the_book_made_at_once_is_stale_and_both_nodes_read_the_other() {
    let site = Site::new();
    let nodes = site.two().await;
    let change = |seen: Option<&[u8]>, sealed: &str, denial| BookChange {
        seen: seen.map(<[u8]>::to_vec),
        sealed: sealed.into(),
        denial,
        event: Event::ClientDisabled,
        cause: None,
        audit: Draft::default(),
    };
    let first = nodes[0].amend_book(change(None, "first", None)).await.unwrap();
    assert_eq!(first, BookChanged::Done(None));
    assert_eq!(nodes[0].client_book().unwrap().as_deref(), Some(&b"first"[..]));
    let changed = at_once(&nodes, 8, |n, node| {
        let change =
            change(Some(b"first"), &format!("second {n}"), Some(denial(Target::Client(app()), Ends::Sessions)));
        async move { node.amend_book(change).await.unwrap() }
    });
    let changed = changed.await;
    let done: Vec<_> = changed.iter().filter(|changed| **changed != BookChanged::Stale).collect();
    assert_eq!(done.len(), 1);
    assert!(matches!(done[0], BookChanged::Done(Some(entry)) if entry.target == Target::Client(app())));
    eventually("both nodes have the same book", || async {
        let books = nodes.each_ref().map(|node| node.client_book().unwrap().unwrap());
        books[0] == books[1] && books[0].starts_with(b"second")
    })
    .await;
}

// ---- what it takes

const BENCH_LIVES: Lifetimes = Lifetimes {
    access: secs(300),
    idle: Duration::from_secs(14 * 86_400),
    absolute: Duration::from_secs(90 * 86_400),
    retry_window: secs(30),
};

fn identity(number: usize) -> Identity {
    let user_agent =
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 (a user agent of 100 bytes..)";
    assert_eq!(user_agent.len(), 100);
    let subject: Subject = format!("urn:example:people:{number:021}").parse().unwrap();
    assert_eq!(subject.as_str().len(), 40);
    Identity {
        subject,
        client: "web".parse().unwrap(),
        audience: vec!["api".parse().unwrap()],
        scope: "read".parse().unwrap(),
        claims: r#"{"org":"acme-corporation","role":"member"}"#.into(),
        device: Device {
            label: Some("Firefox on Linux".into()),
            ip: Some("203.0.113.7".into()),
            user_agent: Some(user_agent.into()),
        },
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        absolute_until: Timestamp::default(),
        nonce: [0; 16],
    }
}

/// G8: so many bytes, index and all, where buckets are as full as by a million sessions. `SESSIONS` sets how many are opened;
/// `cargo bench --bench redis_size` weighs a million.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_takes_six_hundred_bytes_at_most() {
    const IN_A_BUCKET: usize = 1_000_000 / 4096;
    let sessions: usize = std::env::var("SESSIONS").ok().map_or(2000, |n| n.parse().unwrap());
    let server = Server::start(&[]);
    let options =
        Options { audit_cap: 0, ..Options::new(Retention { access: secs(300), session: BENCH_LIVES.absolute }) };
    let clock = SystemClock::default();
    let random = Arc::new(SystemRandom);
    let store =
        RedisStore::open(&server.url().parse().unwrap(), options, Arc::new(clock), random.clone()).await.unwrap();
    let store = Arc::new(store);
    let keyring = Keyring::ephemeral(Settings::default(), Arc::new(clock), random.clone()).unwrap();
    let families = Families::new(store.clone(), Arc::new(keyring), random.clone(), BENCH_LIVES);
    // How long a real seal is; what it says is of no matter here.
    let real = families.open(identity(0), Draft::default()).await.unwrap();
    let sealed = store.find(real.session).await.unwrap().unwrap().sealed.len();
    let memory = || {
        let info = server.cli(&["INFO", "memory"]);
        let read = |name: &str| {
            info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':')?.parse::<usize>().ok())
        };
        read("used_memory").unwrap() - read("mem_clients_normal").unwrap()
    };
    // What every change owes to the audit log is there for a moment only.
    let settled = async || {
        eventually("nothing is owed", || async { server.cli(&["--scan", "--pattern", "*:owed"]).is_empty() }).await;
    };
    settled().await;
    let before = memory();
    let mut under_way = JoinSet::new();
    for number in 0..sessions {
        if under_way.len() >= 8 {
            under_way.join_next().await.unwrap().unwrap();
        }
        // A subject each, in as few buckets as a million would fill like this.
        let mut subject: [u8; 16] = random_bytes(&*random);
        let bucket = u16::try_from(number % (sessions / IN_A_BUCKET)).unwrap();
        subject[14..].copy_from_slice(&bucket.to_be_bytes());
        let (store, random) = (store.clone(), random.clone());
        under_way.spawn(async move {
            let opening = Opening {
                random: random_bytes(&*random),
                subject: SubjectRef(subject),
                client: "web".parse().unwrap(),
                lives: BENCH_LIVES,
                seal: Box::new(move |_, _| vec![0x5a; sealed]),
                ..opening(SubjectRef(subject))
            };
            assert!(store.open(opening).await.unwrap().family().is_some());
        });
    }
    under_way.join_all().await;
    settled().await;
    let per_session = (memory() - before) / sessions;
    println!("{per_session} bytes for each of {sessions} sessions");
    assert!(per_session <= 600, "{per_session}");
}
