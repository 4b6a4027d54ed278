//! The signing keys as operators move them over HTTP, and what tokens, feed and audit log show of it.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::{path::Path, sync::Arc, time::Duration};

use harness::{APP, Harness, POWERLESS, Setup, random_secret, text};
use rescind::{
    clock::SystemRandom,
    keyring::{Keyring, Order, Settings, Step},
    service::{Client, Permission, SecretHash},
};
use serde_json::{Value, json};

const AHEAD: Duration = Duration::from_secs(20 * 60);
/// A token's life, leeway and the longest cache that we ask for.
const RETIRING: Duration = Duration::from_secs(300 + 60 + 300);

async fn order(harness: &Harness, path: &str, body: Value) -> Value {
    let (status, answer) = harness.post(&format!("/v1/keys{path}"), APP, &body).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn refused(harness: &Harness, path: &str, body: Value) -> (u16, String, Value) {
    let (status, answer) = harness.post(&format!("/v1/keys{path}"), APP, &body).await;
    (status, answer["code"].as_str().unwrap_or_default().to_owned(), answer)
}

async fn keys(harness: &Harness) -> Vec<Value> {
    harness.get("/v1/keys").await.1["keys"].as_array().unwrap().clone()
}

async fn in_state(harness: &Harness, state: &str) -> String {
    let keys = keys(harness).await;
    let key = keys.iter().find(|k| k["state"] == state).unwrap_or_else(|| panic!("no key is {state}: {keys:?}"));
    text(key, "kid").to_owned()
}

async fn events(harness: &Harness) -> Vec<(String, String)> {
    let (_, log) = harness.get("/v1/audit?limit=200").await;
    let records = log["records"].as_array().unwrap().iter();
    let key = records.filter(|r| text(r, "event").starts_with("key_"));
    key.map(|r| (text(r, "event").to_owned(), r["actor"].as_str().unwrap_or("nobody").to_owned())).collect()
}

async fn published(harness: &Harness) -> String {
    harness.get("/.well-known/jwks.json").await.1.to_string()
}

async fn token(harness: &Harness) -> String {
    text(&harness.open("alice").await, "access_token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_generated_activated_rolled_back_from_and_destroyed() {
    let harness = Harness::start().await;
    let first = in_state(&harness, "active").await;
    let made = order(&harness, "", json!({"alg": "Ed25519"})).await;
    let kid = text(&made, "pending").to_owned();
    assert_eq!(made["changes"], json!([{"kid": kid, "from": null, "to": "pending"}]));
    let (status, code, answer) = refused(&harness, &format!("/{kid}/activate"), json!({})).await;
    assert_eq!((status, &*code), (409, "too_early"));
    assert!(text(&answer, "detail").contains("refuse valid tokens"), "says what would break: {answer}");
    harness.clock.advance(AHEAD);

    let would = order(&harness, &format!("/{kid}/activate"), json!({"dry_run": true})).await;
    assert_eq!((&would["dry_run"], text(&would, "active")), (&json!(true), &*kid));
    assert_eq!(in_state(&harness, "active").await, first, "nothing was done");
    let done = order(&harness, &format!("/{kid}/activate"), json!({})).await;
    assert_eq!((text(&done, "active"), text(&done, "retiring")), (&*kid, &*first));
    let signed = token(&harness).await;

    let back = order(&harness, "/rollback", json!({})).await;
    assert_eq!((text(&back, "active"), text(&back, "retiring")), (&*first, &*kid));
    assert!(harness.active(&signed).await, "what was signed meanwhile is still good");
    let (status, code, _) = refused(&harness, &format!("/{kid}/destroy"), json!({})).await;
    assert_eq!((status, &*code), (409, "key_state"));
    let (status, code, answer) = refused(&harness, &format!("/{kid}/retire"), json!({})).await;
    assert_eq!((status, &*code), (409, "too_early"), "{answer}");
    harness.clock.advance(RETIRING - Duration::from_secs(60));
    order(&harness, &format!("/{kid}/retire"), json!({"dangerous_without_waiting": true})).await;
    order(&harness, &format!("/{kid}/destroy"), json!({})).await;
    assert_eq!(in_state(&harness, "destroyed").await, kid);
    assert!(!published(&harness).await.contains(&kid));
    let told = ["key_generated", "key_rotated", "key_rolled_back", "key_retired", "key_destroyed"];
    assert_eq!(events(&harness).await, told.map(|event| (event.to_owned(), APP.to_owned())), "who did what");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_key_signs_no_more_and_nothing_that_it_signed_is_good() {
    let harness = Harness::on_disk().await;
    harness.clock.advance(AHEAD);
    let opened = harness.open("alice").await;
    let stolen = in_state(&harness, "active").await;
    let path = format!("/{stolen}/compromise");
    let would = order(&harness, &path, json!({"dry_run": true})).await;
    assert_eq!((&would["entry"], &would["active_is_known"]), (&Value::Null, &json!(true)));
    assert!(harness.active(text(&opened, "access_token")).await);

    let done = order(&harness, &path, json!({"reason": "incident 42"})).await;
    assert_eq!((text(&done, "active"), &done["active_is_known"]), (text(&would, "active"), &json!(true)));
    assert_eq!((text(&done["entry"], "id"), &done["entry"]["feed_until"]), (&*stolen, &Value::Null), "for ever");
    assert_eq!(done["sessions"], Value::Null);
    assert!(!harness.active(text(&opened, "access_token")).await);
    assert!(!published(&harness).await.contains(&stolen));
    assert!(!harness.path().join(format!("keys/{stolen}.pem")).exists());
    let (status, renewed) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    assert_eq!(status, 200, "sessions go on: {renewed}");
    assert!(harness.active(text(&renewed, "access_token")).await);

    let again = order(&harness, &path, json!({})).await;
    assert_eq!((&again["changes"], &again["entry"]["position"]), (&json!([]), &done["entry"]["position"]));
    assert_eq!(events(&harness).await.len(), 2, "another signs, and this one is compromised; once");
    let harness = harness.restart(|_, _| {}).await;
    assert!(!harness.active(text(&opened, "access_token")).await);
    let (_, renewed) = harness.refresh(text(&renewed, "refresh_token"), APP).await;
    assert!(harness.active(text(&renewed, "access_token")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_compromised_by_several_at_once_is_given_up_once_and_each_is_told_so() {
    let harness = Harness::on_disk().await;
    for _ in 0..5 {
        let stolen = in_state(&harness, "active").await;
        let (path, body) = (format!("/v1/keys/{stolen}/compromise"), json!({}));
        let ask = || harness.post(&path, APP, &body);
        let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
        let answers = [a, b, c, d];
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let did = answers.iter().filter(|(_, answer)| answer["changes"] != json!([])).count();
        assert_eq!(did, 1, "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromise_can_end_all_sessions_for_those_who_may_end_all() {
    let secret = random_secret();
    let permissions = [Permission::KeysCompromise].into_iter().collect();
    let client =
        Client { secrets: vec![SecretHash::of(&secret)], permissions, ..Client::new("guard".parse().unwrap()) };
    let harness = Harness::with(Setup { clients: vec![client], ..Setup::default() }).await;
    let opened = harness.open("alice").await;
    let stolen = in_state(&harness, "active").await;
    let url = format!("{}/v1/keys/{stolen}/compromise", harness.base);
    let guard = async |body: Value| {
        harness::answer(harness.http.post(&url).basic_auth("guard", Some(&secret)).json(&body)).await
    };
    let (status, answer) = guard(json!({"end_sessions": true})).await;
    assert_eq!((status, text(&answer, "code")), (403, "insufficient_permission"));
    assert!(harness.active(text(&opened, "access_token")).await, "nothing was done");
    let (status, answer) = guard(json!({})).await;
    assert_eq!((status, &answer["active_is_known"]), (200, &json!(false)), "a standby of this minute: {answer}");

    let next = text(&answer, "active").to_owned();
    let (_, renewed) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    let done = order(&harness, &format!("/{next}/compromise"), json!({"end_sessions": true})).await;
    assert_eq!((text(&done["sessions"], "kind"), text(&done["sessions"], "ends")), ("all", "sessions"));
    assert_eq!(harness.refresh(text(&renewed, "refresh_token"), APP).await.0, 400);
    assert!(harness.active(&token(&harness).await).await, "who logs in again is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromise_that_was_cut_off_before_the_feed_knew_is_completed_by_the_next_start() {
    let harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    let stolen = in_state(&harness, "active").await;
    let (clock, kid) = (harness.clock.clone(), stolen.clone());
    // As if the process had died between the two steps: the keyring has given the key up, the store has not heard of it.
    let harness = harness
        .restart(move |_, path| {
            let dir = path.unwrap().join("keys");
            let ring = Keyring::open(&dir, None, Settings::default(), clock, Arc::new(SystemRandom)).unwrap();
            ring.change(&Order::Step(Step::Compromise, kid.parse().unwrap()), true).unwrap();
        })
        .await;
    for _ in 0..500 {
        let (_, page) = harness.get("/v1/revocations").await;
        let entries = page["revocations"].as_array().unwrap();
        if entries.iter().any(|e| e["id"] == stolen.as_str() && e["feed_until"].is_null()) {
            assert!(!harness.active(text(&opened, "access_token")).await);
            let told = ("key_compromised".to_owned(), "nobody".to_owned());
            assert!(events(&harness).await.contains(&told), "the log of the service that died has no word of it");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a compromised key was never denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_before_a_compromise_do_not_sign_again() {
    let harness = Harness::on_disk().await;
    harness.clock.advance(AHEAD);
    let stolen = in_state(&harness, "active").await;
    let (keys, copy) = (harness.path().join("keys"), harness.path().join("copy"));
    copy_files(&keys, &copy);
    order(&harness, &format!("/{stolen}/compromise"), json!({})).await;
    let next = in_state(&harness, "active").await;
    // All of it but the witness, which belongs to the store.
    std::fs::remove_file(copy.join("witness.json")).unwrap();
    let harness = harness.restart(|_, _| copy_files(&copy, &keys)).await;
    assert_eq!(in_state(&harness, "active").await, next, "the standby of then is that of now");
    assert_eq!(in_state(&harness, "compromised").await, stolen);
    assert!(!published(&harness).await.contains(&stolen));
    assert!(harness.active(&token(&harness).await).await, "what is issued is good");
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_given_up_also_while_the_store_cannot_tell_and_the_answer_says_how_far() {
    let harness = Harness::on_disk().await;
    let witness = |path: Option<&Path>| path.unwrap().join("keys/witness.json");
    let harness = harness.restart(move |_, path| std::fs::remove_file(witness(path)).unwrap()).await;
    let stolen = in_state(&harness, "active").await;
    let (status, code, answer) = refused(&harness, &format!("/{stolen}/compromise"), json!({})).await;
    assert_eq!((status, &*code), (503, "store_not_whole"), "{answer}");
    assert!(text(&answer, "detail").starts_with("the key is given up here, but the feed"), "{answer}");
    assert!(!published(&harness).await.contains(&stolen));
    let (status, _) = harness.post("/v1/store/restored", APP, &json!({})).await;
    assert_eq!(status, 200);
    order(&harness, &format!("/{stolen}/compromise"), json!({})).await;
    let told = events(&harness).await.into_iter().filter(|(event, _)| event == "key_compromised").count();
    assert_eq!(told, 1, "as soon as it could be");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_by_themselves_and_the_schedule_says_when() {
    let day = Duration::from_secs(86_400);
    let harness = Harness::with(Setup { rotate_every: Some(7 * day), ..Setup::default() }).await;
    let first = in_state(&harness, "active").await;
    let (_, plan) = harness.get("/v1/keys/schedule").await;
    assert_eq!((&plan["rotate_every"], &plan["publish_ahead"]), (&json!(604_800), &json!(1200)));
    assert_eq!(
        (text(&plan["steps"][0], "at"), text(&plan["steps"][0], "step")),
        ("2026-11-29T12:00:00.123Z", "activate")
    );
    let jwks = harness.http.get(format!("{}/.well-known/jwks.json", harness.base));
    let age = async || jwks.try_clone().unwrap().send().await.unwrap().headers()["cache-control"].clone();
    assert_eq!(age().await, "public, max-age=300");
    harness.clock.advance(7 * day - Duration::from_secs(60));
    assert_eq!(age().await, "public, max-age=60", "nobody is to hold this set for long after the change");
    let metrics =
        harness.http.get(format!("{}/metrics", harness.operations)).send().await.unwrap().text().await.unwrap();
    let gauge = |name: &str| {
        let line = metrics.lines().find(|l| l.starts_with(&format!("rescind_key_{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!((gauge("next_step_seconds"), gauge("overdue_seconds")), (60.0, 0.0));
    assert!((gauge("age_seconds") - 604_740.0).abs() < 1.0);

    harness.clock.advance(Duration::from_secs(60));
    harness.service.housekeep().await;
    assert_ne!(in_state(&harness, "active").await, first);
    assert_eq!(events(&harness).await, [("key_rotated".to_owned(), "nobody".to_owned())]);
    harness.clock.advance(RETIRING);
    harness.service.housekeep().await;
    assert_eq!(in_state(&harness, "destroyed").await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_is_taken_out_and_in_by_those_who_may_and_shown_to_nobody() {
    let (harness, other) = (Harness::start().await, Harness::start().await);
    let kid = in_state(&harness, "active").await;
    let passphrase = random_secret();
    let path = format!("/{kid}/dangerous-export");
    let export = order(&harness, &path, json!({"passphrase": passphrase})).await;
    let pem = text(&export, "pem").to_owned();
    let (status, _, wrong) = refused(&other, "/import", json!({"key": pem, "passphrase": "another"})).await;
    assert_eq!((status, text(&wrong, "field")), (400, "passphrase"));
    assert!(text(&wrong, "detail").contains("does not open"), "{wrong}");
    let taken = order(&other, "/import", json!({"key": pem, "passphrase": passphrase})).await;
    assert_eq!(text(&taken, "pending"), kid);
    let (status, code, _) = refused(&other, "/import", json!({"key": pem, "passphrase": passphrase})).await;
    assert_eq!((status, &*code), (409, "key_known"));
    assert_eq!(events(&harness).await, [("key_exported".to_owned(), APP.to_owned())]);
    assert_eq!(events(&other).await, [("key_imported".to_owned(), APP.to_owned())]);
    for harness in [&harness, &other] {
        let (_, log) = harness.get("/v1/audit?limit=200").await;
        assert!(!log.to_string().contains("PRIVATE") && !log.to_string().contains(&passphrase));
    }
    for (path, body) in [
        ("/import", json!({"key": "rubbish"})),
        ("/import", json!({"key": "{}"})),
        ("/import", json!({"key": pem})),
        ("/import", json!({})),
        ("/import", json!({"key": pem, "passphrase": "x".repeat(2000)})),
        (&*path, json!({"passphrase": ""})),
        (&*path, json!({})),
    ] {
        let (status, code, answer) = refused(&harness, path, body).await;
        assert_eq!((status, &*code), (400, "invalid_request"), "{answer}");
        assert!(!answer.to_string().contains("PRIVATE"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_asks_for_its_own_permission() {
    let orders = [
        ("", "", Permission::KeysRotate),
        ("/rotate", "", Permission::KeysRotate),
        ("/rollback", "", Permission::KeysRotate),
        ("/KID/activate", "", Permission::KeysRotate),
        ("/KID/retire", "", Permission::KeysRotate),
        ("/KID/destroy", "", Permission::KeysRotate),
        ("/KID/compromise", "", Permission::KeysCompromise),
        ("/import", r#"{"key": "x"}"#, Permission::KeysImport),
        ("/KID/dangerous-export", r#"{"passphrase": "x"}"#, Permission::KeysExport),
    ];
    let secret = random_secret();
    let client = |id: &str, permissions: &[Permission]| Client {
        secrets: vec![SecretHash::of(&secret)],
        permissions: permissions.iter().copied().collect(),
        ..Client::new(id.parse().unwrap())
    };
    let all = [Permission::KeysRotate, Permission::KeysCompromise, Permission::KeysImport, Permission::KeysExport];
    // One client for each permission, which has all but that one.
    let without = |p: Permission| -> Vec<Permission> {
        all.iter().copied().chain([Permission::KeysRead]).filter(|other| *other != p).collect()
    };
    let clients = all.map(|p| client(&format!("without-{}", p.name().replace(':', "-")), &without(p)));
    let harness = Harness::with(Setup { clients: clients.to_vec(), ..Setup::default() }).await;
    let kid = in_state(&harness, "pending").await;
    let before = keys(&harness).await;
    for (path, body, permission) in orders {
        let id = format!("without-{}", permission.name().replace(':', "-"));
        let body: Value = serde_json::from_str(if body.is_empty() { "{}" } else { body }).unwrap();
        let url = format!("{}/v1/keys{}", harness.base, path.replace("KID", &kid));
        let (status, answer) =
            harness::answer(harness.http.post(&url).basic_auth(&id, Some(&secret)).json(&body)).await;
        assert_eq!((status, text(&answer, "code")), (403, "insufficient_permission"), "{path} as {id}");
        assert!(text(&answer, "detail").contains(permission.name()), "{answer}");
    }
    for path in ["/v1/keys", "/v1/keys/schedule", &*format!("/v1/keys/{kid}")] {
        let url = format!("{}{path}", harness.base);
        let (status, _) = harness::answer(harness.http.get(&url).basic_auth(POWERLESS, Some(&harness.secret))).await;
        assert_eq!(status, 403, "{path}");
    }
    assert_eq!(keys(&harness).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_knows_is_404_whatever_is_ordered() {
    let harness = Harness::start().await;
    for step in ["activate", "retire", "destroy", "compromise"] {
        let (status, code, answer) = refused(&harness, &format!("/nobody/{step}"), json!({})).await;
        assert_eq!((status, &*code), (404, "not_found"), "{step}: {answer}");
    }
    assert_eq!(harness.get("/v1/keys/nobody").await.0, 404);
    assert_eq!(refused(&harness, "/nobody/dangerous-export", json!({"passphrase": "x"})).await.0, 404);
    let (status, code, _) = refused(&harness, "", json!({"alg": "RS256"})).await;
    assert_eq!((status, &*code), (400, "invalid_request"));
    let (status, code, _) = refused(&harness, "/rollback", json!({})).await;
    assert_eq!((status, &*code), (409, "nothing_retiring"));
}
