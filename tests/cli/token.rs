//! `rescind token`: its answers, and the exit codes that scripts go by.

use std::process::Command;

use serde_json::Value;

use super::support::{Dev, Ended, end_of, rescind};

fn verify(issuer: &str) -> Command {
    let mut command = rescind();
    command.args(["token", "verify", "--audience", "api", "--issuer", issuer]);
    command
}

fn text<'a>(session: &'a Value, member: &str) -> &'a str {
    session[member].as_str().unwrap()
}

#[test]
fn verify_says_yes_no_and_cannot_tell() {
    let dev = Dev::start(&[]);
    let issuer = dev.says("issuer");
    let session = dev.open("alice");
    let token = text(&session, "access_token");

    let yes = end_of(verify(issuer).arg("--json"), token);
    assert_eq!(yes.code, 0, "{}", yes.stderr);
    let claims: Value = serde_json::from_str(&yes.stdout).unwrap();
    assert_eq!((&claims["sub"], &claims["aud"]), (&"alice".into(), &"api".into()));
    let shown = end_of(&mut verify(issuer), token);
    assert!(shown.stdout.contains("sub        alice\n") && shown.stderr.starts_with("Good: "), "{}", shown.stdout);

    no(&end_of(&mut verify(issuer), &token.replace('.', ".A")), "refused: ");
    no(&end_of(&mut verify(issuer), text(&session, "refresh_token")), "refresh token");
    assert_eq!(end_of(&mut verify(issuer), "").code, 2, "no token was on stdin");

    dev.revoke_subject("alice");
    no(&end_of(&mut verify(issuer), token), "revoked");

    let issuer = issuer.to_owned();
    drop(dev);
    let down = end_of(&mut verify(&issuer), token);
    assert_eq!((down.code, &*down.stdout), (5, ""), "{}", down.stderr);
}

/// The answer is no, and its reason is on stdout.
#[track_caller]
fn no(ended: &Ended, reason: &str) {
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains(reason), "{}", ended.stdout);
}

#[test]
fn another_audience_is_refused_with_its_reason() {
    let dev = Dev::start(&[]);
    let token = dev.open("alice")["access_token"].as_str().unwrap().to_owned();
    let mut command = rescind();
    command.args(["token", "verify", "--json", "--audience", "other", "--issuer", dev.says("issuer")]);
    let refused = end_of(&mut command, &token);
    assert_eq!(refused.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&refused.stdout).unwrap()["refused"], "audience");
}

#[test]
fn an_issuer_that_speaks_for_another_is_not_believed() {
    let dev = Dev::start(&[]);
    let token = dev.open("alice")["access_token"].as_str().unwrap().to_owned();
    let other = dev.says("issuer").replace("127.0.0.1", "localhost");
    let ended = end_of(&mut verify(&other), &token);
    assert_eq!(ended.code, 5, "{}", ended.stdout);
    assert!(ended.stderr.contains("speaks for another issuer"), "{}", ended.stderr);
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    let refused = end_of(&mut verify("http://issuer.example"), "token");
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("plain HTTP is for loopback only"), "{}", refused.stderr);
}

#[test]
fn inspect_shows_what_is_no_secret_and_says_that_nothing_was_verified() {
    let dev = Dev::start(&[]);
    let session = dev.open("alice");
    let inspect = |json: &[&str], token: &str| end_of(rescind().args(["token", "inspect"]).args(json), token);

    let access = inspect(&["--json"], text(&session, "access_token"));
    assert_eq!(access.code, 0);
    assert!(access.stderr.contains("NOTHING WAS VERIFIED"), "{}", access.stderr);
    let parts: Value = serde_json::from_str(&access.stdout).unwrap();
    assert_eq!((&parts["header"]["typ"], &parts["claims"]["sub"]), (&"at+jwt".into(), &"alice".into()));

    let token = text(&session, "refresh_token");
    let refresh = inspect(&["--json"], token);
    assert_eq!(refresh.code, 0);
    let parts: Value = serde_json::from_str(&refresh.stdout).unwrap();
    let parts = &parts["refresh_token"];
    assert_eq!(parts["session_id"], session["session_id"]);
    assert_eq!((&parts["generation"], &parts["checksum"]), (&0.into(), &"holds".into()));
    let cut = inspect(&[], &format!("{}AAAA", &token[..token.len() - 4]));
    assert!(cut.stdout.contains("does not hold"), "{}", cut.stdout);
    assert_eq!(inspect(&[], "neither").code, 1);
    assert_eq!(inspect(&[], "").code, 2);
}

#[test]
fn what_a_token_says_cannot_move_the_cursor() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
    let token = format!("{}.{}.", B64.encode("{}"), B64.encode(r#"{"sub":"\u001b[2Jgone","na\u0007me":1}"#));
    let shown = end_of(rescind().args(["token", "inspect"]), &token);
    assert_eq!(shown.code, 0);
    assert!(shown.stdout.contains("gone") && !shown.stdout.contains(['\u{1b}', '\u{7}']), "{:?}", shown.stdout);
}
