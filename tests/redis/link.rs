//! The way to Redis: whom it asks, how long it waits, which answers it takes, and what it refuses to ask.

use std::{sync::Arc, time::Duration};

use redis::Value;
use rescind::{
    clock::{Clock, SystemClock},
    model::denial::Retention,
    store::{
        StoreError,
        redis::{
            Options,
            link::{Finding, Link, OpenError, Proof, Script, Severity, acl_line},
        },
    },
};
use tokio::time::Instant;

use crate::servers::{
    PATIENCE, Server,
    cluster::Cluster,
    proxy::{Fate, Proxy},
    sentinel::Watched,
    tls::Files,
    wait_for, with_clock_off_by,
};

const KEY: &str = "rescind:{abc}:families";

fn options() -> Options {
    Options::new(Retention { access: Duration::from_secs(300), session: Duration::from_secs(7200) })
}

fn open(url: &str) -> Link {
    open_with(url, options())
}

fn open_with(url: &str, options: Options) -> Link {
    Link::open(&url.parse().unwrap(), &options, Arc::new(SystemClock::default())).unwrap()
}

async fn ready(url: &str) -> Link {
    ready_with(url, options()).await
}

async fn ready_with(url: &str, options: Options) -> Link {
    let link = open_with(url, options);
    link.ready(PATIENCE).await.unwrap();
    link
}

/// Why it is refused there.
async fn refused(url: &str) -> String {
    match open(url).ready(PATIENCE).await {
        Err(OpenError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

async fn write(link: &Link, key: &str, value: &str) -> Result<Vec<Value>, StoreError> {
    let now = link.clock().now().millis().to_string();
    link.run(Script::Commit, &words(&[key]), &words(&[&now, "0", "set", "1", value])).await
}

async fn read(link: &Link, key: &str) -> Result<Option<String>, StoreError> {
    let answer = link.run(Script::Look, &words(&[key]), &words(&["get", "1"])).await?;
    match &answer[1] {
        Value::BulkString(value) => Ok(Some(String::from_utf8(value.clone()).unwrap())),
        Value::Nil => Ok(None),
        other => panic!("{other:?}"),
    }
}

async fn works(link: &Link, key: &str) -> bool {
    write(link, key, "x").await.is_ok() && read(link, key).await.is_ok()
}

fn failed(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result {
        Err(StoreError::Failed(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn codes(findings: &[Finding], severity: Severity) -> Vec<&str> {
    let mut codes: Vec<_> = findings.iter().filter(|f| f.severity == severity).map(|f| f.code).collect();
    codes.sort_unstable();
    codes
}

// ---- one server

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_and_a_script_that_was_forgotten_is_told_again() {
    let server = Server::start(&[]);
    let link = ready(&server.url()).await;
    assert_eq!(read(&link, KEY).await.unwrap(), None);
    write(&link, KEY, "one").await.unwrap();
    assert_eq!(read(&link, KEY).await.unwrap().as_deref(), Some("one"));
    server.ask::<()>(&["SCRIPT", "FLUSH"]);
    write(&link, KEY, "two").await.unwrap();
    assert_eq!(server.ask::<String>(&["GET", KEY]), "two");
    let mut get = redis::cmd("GET");
    assert_eq!(link.command(KEY.as_bytes(), get.arg(KEY).to_owned()).await.unwrap(), Value::BulkString(b"two".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_costs_the_deadline_and_not_more() {
    let server = Server::start(&[]);
    let link = ready_with(&server.url(), Options { deadline: Duration::from_millis(400), ..options() }).await;
    write(&link, KEY, "before").await.unwrap();
    server.stop();
    // Longer than the watchdog needs to give the connections up.
    for _ in 0..4 {
        let began = Instant::now();
        failed(write(&link, KEY, "meanwhile").await);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(codes(&link.findings(), Severity::Refuse), ["unreachable"]);
    server.go_on();
    wait_for("it goes on by itself", || works(&link, KEY)).await;
    assert_eq!(codes(&link.findings(), Severity::Refuse), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_found_again() {
    let mut server = Server::start(&["appendonly yes", "appendfsync always"]);
    let link = ready(&server.url()).await;
    for n in 0..3 {
        write(&link, KEY, &n.to_string()).await.unwrap();
        let before = link.vouched().await.unwrap();
        server.kill();
        failed(write(&link, KEY, "lost").await);
        assert!(link.vouched().await.is_err());
        server.run();
        wait_for("it is there again", || works(&link, KEY)).await;
        let after = link.vouched().await.unwrap();
        assert_eq!(after.proof, Proof::Itself);
        assert_ne!(before.masters[0].run_id, after.masters[0].run_id, "it is another run, and says so");
        assert!(after.began_boottime > before.began_boottime);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_twice_when_an_answer_is_lost() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(server.port).await;
    let link = ready(&proxy.url()).await;
    let push = |value: &str| words(&["0", "0", "push", "1", "1", value]);
    link.run(Script::Commit, &words(&[KEY]), &push("a")).await.unwrap();
    let mut done = 0;
    for n in 0..8 {
        proxy.set(Fate::LoseAnswers);
        let why = failed(link.run(Script::Commit, &words(&[KEY]), &push("b")).await);
        proxy.set(Fate::Pass);
        link.ready(PATIENCE).await.unwrap();
        wait_for("connected again", || async { read(&link, "rescind:{abc}:other").await.is_ok() }).await;
        let there: u64 = server.ask(&["LLEN", KEY]);
        assert!(there <= n + 2, "{there} after {} requests: {why}", n + 2);
        done = there;
    }
    assert!(done > 1, "no answer was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_another_requests_is_not_taken() {
    let server = Server::start(&[]);
    for n in 0..10 {
        server.ask::<()>(&["SET", &format!("rescind:{{abc}}:{n}"), &n.to_string()]);
    }
    let proxy = Proxy::to(server.port).await;
    let link = ready_with(&proxy.url(), Options { deadline: Duration::from_millis(300), ..options() }).await;
    let mut wrong = 0;
    for _ in 0..3 {
        proxy.set(Fate::Twice);
        for n in 0..10 {
            let key = format!("rescind:{{abc}}:{n}");
            let plain = link.command(key.as_bytes(), redis::cmd("GET").arg(&key).to_owned()).await;
            for found in [read(&link, &key).await, plain.map(|value| redis::from_redis_value(value).unwrap())] {
                match found {
                    Ok(found) => assert_eq!(found, Some(n.to_string()), "somebody else's answer"),
                    Err(_) => wrong += 1,
                }
            }
        }
        proxy.set(Fate::Pass);
        wait_for("it goes on on another connection", || async { read(&link, KEY).await.is_ok() }).await;
    }
    assert!(wrong > 0, "nothing went wrong, so nothing was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_which_only_the_half_is_left_is_made_anew() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(server.port).await;
    let link = ready_with(&proxy.url(), Options { deadline: Duration::from_millis(300), ..options() }).await;
    write(&link, KEY, "before").await.unwrap();
    let opened = proxy.opened.load(std::sync::atomic::Ordering::Relaxed);
    proxy.set(Fate::HalfOpen);
    failed(write(&link, KEY, "x").await);
    // Nobody asks; the watchdog alone notices.
    wait_for("connections are made anew", || async {
        proxy.opened.load(std::sync::atomic::Ordering::Relaxed) > opened
    })
    .await;
    proxy.set(Fate::Pass);
    wait_for("it goes on by itself", || works(&link, KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_late_dripped_or_endless_costs_the_deadline_and_passes() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(server.port).await;
    let link = ready_with(&proxy.url(), Options { deadline: Duration::from_millis(400), ..options() }).await;
    for fate in [Fate::Cut, Fate::Late(Duration::from_secs(2)), Fate::Drip, Fate::Endless] {
        proxy.set(fate.clone());
        for _ in 0..3 {
            let began = Instant::now();
            failed(write(&link, KEY, "x").await);
            assert!(began.elapsed() < Duration::from_secs(2), "{fate:?}");
        }
        proxy.set(Fate::Pass);
        wait_for("it goes on by itself", || works(&link, KEY)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_at_once_is_refused_at_once_and_what_is_urgent_is_not() {
    let server = Server::start(&[]);
    let deadline = Duration::from_secs(3);
    let link = ready_with(&server.url(), Options { in_flight: 64, deadline, ..options() }).await;
    server.stop();
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move {
                let began = Instant::now();
                (read(&link, KEY).await, began.elapsed())
            })
        })
        .collect();
    // Each has asked by then, whatever it was told.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(read(&link, KEY).await, Err(StoreError::Busy)), "all places are taken");
    let urgent = tokio::spawn({
        let link = link.urgent();
        async move { read(&link, KEY).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.go_on();
    assert_eq!(urgent.await.unwrap().unwrap(), None, "a place was kept for it");
    let (mut shed, mut served) = (0, 0);
    for task in waiting {
        match task.await.unwrap() {
            (Err(StoreError::Busy), took) => {
                assert!(took < Duration::from_millis(1500), "it was told so at once: {took:?}");
                shed += 1;
            }
            (Ok(_), _) => served += 1,
            (other, _) => panic!("{other:?}"),
        }
    }
    assert_eq!((shed, served), (144, 56));
    read(&link, KEY).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_as_it_grows() {
    let mut server = Server::start(&["appendonly yes"]);
    let link = ready(&server.url()).await;
    let key = "rescind:{hub}:log";
    let mut reader = link.reader(key.as_bytes());
    assert!(reader.read("0", 10, Duration::from_millis(30)).await.unwrap().is_empty());
    let grows = tokio::spawn(async move {
        let began = Instant::now();
        (reader.read("0", 10, Duration::from_secs(5)).await, began.elapsed(), reader)
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let add = |id: &str| words(&["0", "0", "xadd", "1", id, "entry"]);
    link.run(Script::Commit, &words(&[key]), &add("1-0")).await.unwrap();
    let (read, took, mut reader) = grows.await.unwrap();
    let items = read.unwrap();
    assert_eq!((&*items[0].id, &items[0].fields[..]), ("1-0", &[(b"e".to_vec(), b"entry".to_vec())][..]));
    assert!(took < Duration::from_secs(2), "it comes when it is added: {took:?}");
    server.restart();
    wait_for("it goes on by itself", || works(&link, KEY)).await;
    link.run(Script::Commit, &words(&[key]), &add("2-0")).await.unwrap();
    let mut found = reader.read("1-0", 10, Duration::from_secs(1)).await;
    if found.is_err() {
        found = reader.read("1-0", 10, Duration::from_secs(1)).await;
    }
    assert_eq!(found.unwrap()[0].id, "2-0");
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_replicas_have_it_or_it_is_not_acknowledged() {
    let master = Server::start(&[]);
    let mut replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", master.port)]);
    master.followed_by(1);
    let link = ready_with(&master.url(), Options { replicas: 1, ..options() }).await;
    for n in 0..20 {
        write(&link, KEY, &n.to_string()).await.unwrap();
        assert_eq!(replica.ask::<String>(&["GET", KEY]), n.to_string(), "it is there when it is acknowledged");
    }
    replica.stop();
    let began = Instant::now();
    let why = failed(write(&link, KEY, "alone").await);
    assert!(why.contains("0 of the 1 replicas"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(2));
    read(&link, KEY).await.unwrap();
    replica.go_on();
    wait_for("it goes on by itself", || works(&link, KEY)).await;
    // And nobody waits behind one who waits for replicas.
    replica.kill();
    crate::servers::wait("it is gone", || master.info("connected_slaves") == "0");
    let began = Instant::now();
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { write(&link, KEY, "x").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    read(&link, KEY).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    for task in stuck {
        failed(task.await.unwrap());
    }
}

// ---- who the master is

#[tokio::test(flavor = "multi_thread")]
async fn the_heir_is_found_when_the_master_is_gone() {
    let mut watched = Watched::start(&[]);
    let link = ready(&watched.url()).await;
    write(&link, KEY, "one").await.unwrap();
    let before = link.vouched().await.unwrap();
    assert_eq!(before.proof, Proof::Sentinels { agree: 3, known: 3 });
    let master = watched.master();
    watched.servers[master].kill();
    let heir = watched.heir(master);
    wait_for("the heir is asked", || works(&link, KEY)).await;
    let after = link.vouched().await.unwrap();
    assert_eq!(after.masters[0].address, watched.servers[heir].address());
    assert_ne!(after.masters[0].run_id, before.masters[0].run_id);
    assert_ne!(after.masters[0].replication_id, before.masters[0].replication_id);
    // It comes back, believes for a moment that it is a master still, and is not asked.
    watched.servers[master].run();
    for _ in 0..50 {
        write(&link, KEY, "after").await.unwrap();
        assert_eq!(watched.servers[heir].ask::<String>(&["GET", KEY]), "after");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn most_sentinels_must_name_the_master() {
    let mut watched = Watched::start(&[]);
    let link = ready(&watched.url()).await;
    watched.sentinels[0].kill();
    let vouched = link.vouched().await.unwrap();
    assert_eq!(vouched.proof, Proof::Sentinels { agree: 2, known: 3 });
    watched.sentinels[1].kill();
    let why = failed(link.vouched().await);
    assert!(why.contains("1 of 3 Sentinels"), "{why}");
    // Requests do not go by way of Sentinels.
    assert!(works(&link, KEY).await);
    watched.sentinels[0].run();
    wait_for("two of three vouch", || async { link.vouched().await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sentinel_that_is_named_leads_to_the_others_and_is_no_majority() {
    let mut watched = Watched::start(&[]);
    let url = format!("redis+sentinel://{}/main", watched.sentinels[0].address());
    let link = ready(&url).await;
    wait_for("the others are known", || async {
        link.vouched().await.is_ok_and(|v| v.proof == Proof::Sentinels { agree: 3, known: 3 })
    })
    .await;
    watched.sentinels[1].kill();
    watched.sentinels[2].kill();
    assert!(link.vouched().await.is_err(), "the one that is left knows that there are three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_no_master_whoever_names_it() {
    let master = Server::start(&[]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", master.port)]);
    let why = refused(&replica.url()).await;
    assert!(why.contains("it is a replica") && why.contains(&master.port.to_string()), "{why}");
    // A master that is made a replica under way.
    let other = Server::start(&[]);
    let link = ready(&other.url()).await;
    write(&link, KEY, "mine").await.unwrap();
    other.ask::<()>(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    assert!(failed(write(&link, KEY, "x").await).contains("replica"));
    // Its connection may be made anew meanwhile; nobody vouches for it at any time.
    wait_for("it is said why", || async {
        let why = failed(link.vouched().await);
        why.contains("replica") || why.contains("READONLY")
    })
    .await;
    wait_for("it is noticed", || async { codes(&link.findings(), Severity::Refuse) == ["replica"] }).await;
    assert!(failed(read(&link, KEY).await).contains("replica"), "nor is it read");
    other.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    wait_for("it is the master again", || works(&link, KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_each_key_is_where_it_is_and_the_heir_of_a_master_is_found() {
    let mut cluster = Cluster::start(&[]);
    let link = ready(&cluster.url()).await;
    let keys: Vec<_> = (0..64).map(|n| format!("rescind:{{{:03x}}}:x", n * 61)).collect();
    for key in &keys {
        write(&link, key, key).await.unwrap();
    }
    let vouched = link.vouched().await.unwrap();
    assert_eq!((vouched.proof, vouched.masters.len()), (Proof::Masters { agree: 3, of: 3 }, 3));
    let master = cluster.master_of(KEY).unwrap();
    cluster.servers[master].kill();
    let elsewhere = keys.iter().find(|key| cluster.master_of(key).is_some_and(|n| n != master)).unwrap();
    assert!(works(&link, &format!("{elsewhere}y")).await, "the other masters are asked meanwhile");
    assert!(link.vouched().await.is_err(), "one of the masters says nothing");
    let heir = cluster.heir(KEY, master);
    wait_for("the heir is asked", || works(&link, KEY)).await;
    for key in &keys {
        assert_eq!(read(&link, key).await.unwrap().as_ref(), Some(key));
    }
    wait_for("the masters agree again", || async { link.vouched().await.is_ok() }).await;
    let after = link.vouched().await.unwrap();
    assert!(after.masters.iter().any(|m| m.address == cluster.servers[heir].address()), "{after:?}");
    // Two of three, each alone in knowing what became of the third: nobody vouches.
    let other = cluster.master_of(elsewhere).unwrap();
    cluster.servers[heir].stop();
    cluster.servers[other].stop();
    assert!(link.vouched().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed() {
    let cluster = Cluster::start(&[]);
    let link = ready(&cluster.url()).await;
    write(&link, KEY, "here").await.unwrap();
    let from = cluster.master_of(KEY).unwrap();
    let to = (from + 1) % 3;
    // On its way: what is there already stays for now, what is not is at the other one.
    cluster.begin_moving(KEY, to);
    assert_eq!(read(&link, KEY).await.unwrap().as_deref(), Some("here"));
    write(&link, "rescind:{abc}:new", "there").await.unwrap();
    assert_eq!(read(&link, "rescind:{abc}:new").await.unwrap().as_deref(), Some("there"));
    cluster.move_slot(KEY, to);
    assert_eq!(read(&link, KEY).await.unwrap().as_deref(), Some("here"));
    write(&link, KEY, "moved").await.unwrap();
    assert_eq!(cluster.servers[to].ask::<String>(&["GET", KEY]), "moved");
    wait_for("the masters agree again", || async { link.vouched().await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_serves_is_reported() {
    let cluster = Cluster::start(&["cluster-require-full-coverage no"]);
    for server in &cluster.servers {
        server.ask::<()>(&["CLUSTER", "DELSLOTS", "7"]);
    }
    let why = refused(&cluster.url()).await;
    assert!(why.contains("1 of the cluster's slots are served by nobody"), "{why}");
    assert!(open(&cluster.url()).vouched().await.is_err());
}

// ---- what is checked

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused_with_the_command_that_mends_it() {
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let server = Server::start(&[&format!("maxmemory-policy {policy}"), "maxmemory 100mb"]);
        let link = open(&server.url());
        let Err(OpenError::Refused(why)) = link.ready(PATIENCE).await else { panic!("{policy} is taken") };
        assert!(why.contains(policy) && why.contains("CONFIG SET maxmemory-policy noeviction"), "{why}");
        assert!(failed(read(&link, KEY).await).contains(policy), "nor is it asked");
        server.ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        wait_for("mended, it is asked", || works(&link, KEY)).await;
    }
    let unbounded = Server::start(&["maxmemory-policy volatile-lru"]);
    assert!(refused(&unbounded.url()).await.contains("as soon as somebody sets maxmemory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_something_else_than_the_url_says_is_refused() {
    let node = Server::start(&["cluster-enabled yes"]);
    assert!(refused(&node.url()).await.contains("redis+cluster://"));
    let watched = Watched::start(&[]);
    assert!(refused(&watched.sentinels[0].url()).await.contains("redis+sentinel://"));
    let away = |url: String| async move {
        match open(&url).ready(Duration::from_millis(600)).await {
            Err(OpenError::Away(why)) => why,
            other => panic!("{url}: {other:?}"),
        }
    };
    let why = away(format!("redis+cluster://{}", watched.servers[0].address())).await;
    assert!(why.contains("cluster support disabled"), "{why}");
    let why = away(format!("redis+sentinel://{}/other", watched.sentinels[0].address())).await;
    assert!(why.contains("it knows no master other"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_safer_is_said() {
    let bare = Server::start(&[]);
    let link = ready(&bare.url()).await;
    assert_eq!(codes(&link.findings(), Severity::Warn), ["no_aof", "no_replica"]);
    let _replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", bare.port)]);
    bare.followed_by(1);
    bare.ask::<()>(&["CONFIG", "SET", "appendonly", "yes"]);
    bare.ask::<()>(&["CONFIG", "SET", "appendfsync", "no"]);
    let link = ready(&bare.url()).await;
    assert_eq!(codes(&link.findings(), Severity::Warn), ["min_replicas", "no_fsync"]);
    bare.ask::<()>(&["CONFIG", "SET", "appendfsync", "everysec"]);
    bare.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let link = ready(&bare.url()).await;
    assert_eq!(link.findings(), []);
    let link = ready_with(&bare.url(), Options { replicas: 2, ..options() }).await;
    assert_eq!(codes(&link.findings(), Severity::Warn), ["too_few_replicas"]);
    bare.ask::<()>(&["ACL", "SETUSER", "managed", "on", ">secret", "~*", "+@all", "-config"]);
    let link = ready(&format!("redis://managed:secret@{}", bare.address())).await;
    assert_eq!(codes(&link.findings(), Severity::Warn), ["not_checked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_refused_by_how_much_and_the_stores_time_counts() {
    for (shift, said) in [("+3600", "behind"), ("-3600", "ahead of")] {
        let server = with_clock_off_by(shift);
        let link = open(&server.url());
        let clock = link.clock();
        wait_for("the skew is found", || async { clock.skew().is_some() }).await;
        let why = failed(read(&link, KEY).await);
        assert!(why.contains(said) && why.contains("1s is permitted"), "{why}");
        assert!(codes(&link.findings(), Severity::Refuse).contains(&"clock_skew"));
    }
    let server = with_clock_off_by("+0.6");
    let link = ready(&server.url()).await;
    let ahead = || link.clock().now().millis() as i64 - SystemClock::default().now().millis() as i64;
    wait_for("the store's time counts", || async { (550..650).contains(&ahead()) }).await;
    assert!(works(&link, KEY).await, "within what is permitted it is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_written_down_suffice_and_none_can_be_missing() {
    let server = Server::start(&[]);
    let line = acl_line("rescind", "rescind:", false);
    assert!(include_str!("../../docs/redis.md").contains(&line), "the documentation has another line: {line}");
    let line = line.replace("PASSWORD", "secret");
    server.ask::<()>(&line.split(' ').collect::<Vec<_>>());
    let url = format!("redis://rescind:secret@{}", server.address());
    let link = ready(&url).await;
    assert_eq!(codes(&link.findings(), Severity::Warn), ["no_aof", "no_replica"]);
    assert!(works(&link, KEY).await);
    link.vouched().await.unwrap();
    assert!(link.reader(b"rescind:{hub}:log").read("0", 1, Duration::from_millis(10)).await.unwrap().is_empty());
    assert!(failed(read(&link, "elsewhere:{abc}").await).contains("NOPERM"), "other keys are out of reach");
    let forbidden = redis::cmd("FLUSHALL");
    assert!(failed(link.command(KEY.as_bytes(), forbidden).await).contains("NOPERM"));

    let rights: Vec<_> = line.split(' ').filter_map(|word| word.strip_prefix('+')).collect();
    assert!(rights.len() > 30);
    for right in rights {
        server.ask::<()>(&["ACL", "SETUSER", "rescind", &format!("-{right}")]);
        if let "config|get" | "client|setname" = right {
            ready(&url).await;
        } else {
            let why = refused(&url).await.to_lowercase();
            assert!(why.contains(right), "{right}: {why}");
        }
        server.ask::<()>(&["ACL", "SETUSER", "rescind", &format!("+{right}")]);
    }
    server.ask::<()>(&["ACL", "SETUSER", "rescind", "resetkeys", "~other:*"]);
    let why = refused(&url).await;
    assert!(why.contains("ACL SETUSER rescind ~rescind:*"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_rights_suffice_too() {
    let cluster = Cluster::start(&[]);
    let line = acl_line("rescind", "rescind:", true).replace("PASSWORD", "secret");
    for server in &cluster.servers {
        server.ask::<()>(&line.split(' ').collect::<Vec<_>>());
    }
    let url = cluster.url().replace("://", "://rescind:secret@");
    let link = ready(&url).await;
    assert!(works(&link, KEY).await);
    link.vouched().await.unwrap();
    for right in ["hset", "asking"] {
        for server in &cluster.servers {
            server.ask::<()>(&["ACL", "SETUSER", "rescind", &format!("-{right}")]);
        }
        assert!(refused(&url).await.to_lowercase().contains(right));
        for server in &cluster.servers {
            server.ask::<()>(&["ACL", "SETUSER", "rescind", &format!("+{right}")]);
        }
    }
}

// ---- who we are, and who they are

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_never_shown_and_a_file_is_read_anew() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("password");
    let put = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let server = Server::start(&["user default on nopass ~* +@all", "user app on >right-one ~* &* +@all"]);
    put("wrong-one\n");
    let url = format!("redis://app@{}?password_file={}", server.address(), path.display());
    let link = open(&url);
    wait_for("the refusal is shown", || async {
        link.findings()[0].sentence.contains("the login is refused: WRONGPASS")
    })
    .await;
    let why = failed(read(&link, KEY).await);
    assert!(!format!("{why} {:?} {link:?}", link.findings()).contains("wrong-one"));
    put("right-one\n");
    wait_for("the file is read anew", || works(&link, KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_both_sides_show_who_they_are() {
    let (files, strangers, port) = (Files::new(), Files::new(), crate::servers::spare_port());
    let lines = files.lines(port);
    let server = Server::start(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let url = |ca: &Files, client: &Files| {
        let (cert, key) = &client.client;
        format!("rediss://127.0.0.1:{port}?ca={}&cert={}&key={}", ca.ca.display(), cert.display(), key.display())
    };
    let link = ready(&url(&files, &files)).await;
    assert!(works(&link, KEY).await);
    assert_eq!(server.ask::<String>(&["GET", KEY]), "x");
    for (url, why) in [
        (url(&strangers, &files), "invalid peer certificate"),
        (format!("rediss://localhost:{port}?ca={}", files.ca.display()), "certificate"),
        (format!("rediss://127.0.0.1:{port}?ca={}", files.ca.display()), ""),
        (url(&files, &strangers), ""),
        (format!("redis://127.0.0.1:{port}"), ""),
    ] {
        let link = open_with(&url, Options { deadline: Duration::from_millis(500), ..options() });
        let Err(OpenError::Away(said)) = link.ready(Duration::from_millis(700)).await else { panic!("{url}") };
        assert!(said.contains(why), "{said}");
        failed(read(&link, KEY).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_sentinels_are_asked_and_their_next_master_is_found() {
    let files = Files::new();
    let mut watched = Watched::start_over_tls(&files);
    let url = watched.url().replace("redis+", "rediss+") + &files.query();
    let link = ready(&url).await;
    assert!(works(&link, KEY).await);
    let old = watched.master();
    assert_eq!(watched.servers[old].ask::<String>(&["GET", KEY]), "x");
    watched.servers[old].kill();
    let heir = watched.heir(old);
    wait_for("the heir is found", || works(&link, KEY)).await;
    assert_eq!(watched.servers[heir].ask::<String>(&["GET", KEY]), "x");
    // Sentinels that do not know who asks say nothing.
    let nobody = format!("{}?ca={}", watched.url().replace("redis+", "rediss+"), files.ca.display());
    let link = open_with(&nobody, Options { deadline: Duration::from_millis(500), ..options() });
    assert!(matches!(link.ready(Duration::from_millis(700)).await, Err(OpenError::Away(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_a_cluster_is_found_whole_and_the_heir_of_a_master_too() {
    let files = Files::new();
    let mut cluster = Cluster::start_over_tls(&files);
    let link = ready(&(cluster.url().replace("redis+", "rediss+") + &files.query())).await;
    let keys = ["rescind:{abc}:families", "rescind:{def}:families", "rescind:{123}:families", "rescind:{hub}:log"];
    for key in keys {
        assert!(works(&link, key).await, "{key}");
    }
    let old = cluster.master_of(KEY).unwrap();
    cluster.servers[old].kill();
    cluster.heir(KEY, old);
    wait_for("the heir is found", || works(&link, KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_and_a_database_of_its_own_are_found() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("socket");
    let server = Server::start(&[&format!("unixsocket {}", path.display())]);
    let link = ready(&format!("redis+unix://{}?db=3", path.display())).await;
    assert!(works(&link, KEY).await);
    assert!(server.info("db3").starts_with("keys=1"), "{}", server.info("db3"));
}
