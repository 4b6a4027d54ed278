//! No token, secret or private key anywhere but where it belongs: the store, every line that the program writes, its
//! metrics, its audit log. The search is shown to find a planted one first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/process.rs"]
mod process;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use harness::{answer, client, text};
use process::Dev;
use serde_json::json;

/// The forms in which a secret could lie about. Base64 of it has three alignments; what is common to each is looked
/// for, without the characters that depend on what stands beside it.
fn forms(name: &str, secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![
        (format!("{name}, raw"), secret.to_vec()),
        (format!("{name}, hex"), hex.clone().into_bytes()),
        (format!("{name}, HEX"), hex.to_uppercase().into_bytes()),
    ];
    for shift in 0..3 {
        let padded = [&vec![0; shift][..], secret].concat();
        for (kind, text) in
            [("base64", BASE64_STANDARD_NO_PAD.encode(&padded)), ("base64url", BASE64_URL_SAFE_NO_PAD.encode(&padded))]
        {
            // Characters that hold a bit of what stands before or after are left out.
            let begin = if shift == 0 { 0 } else { shift + 1 };
            let inner = text.as_bytes()[begin..text.len() - 3].to_vec();
            forms.push((format!("{name}, {kind} at {shift}"), inner));
        }
    }
    forms
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn the_search_finds_a_planted_secret_in_every_form() {
    let secret = b"\x00\xffa planted secret of some length\x80\x7f";
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let mut planted = vec![secret.to_vec(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes()];
    for before in ["", "x", "xy", "xyz"] {
        let whole = [before.as_bytes(), secret, b"after"].concat();
        planted.push(BASE64_STANDARD_NO_PAD.encode(&whole).into_bytes());
        planted.push(BASE64_URL_SAFE_NO_PAD.encode(&whole).into_bytes());
    }
    for (i, haystack) in planted.iter().enumerate() {
        let haystack = [b"noise ", &haystack[..], b" noise"].concat();
        assert!(forms("planted", secret).iter().any(|(_, form)| find(&haystack, form)), "{i}");
    }
    assert!(
        !forms("planted", secret).iter().any(|(_, form)| find(b"nothing to be found here, however long it is", form))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn store_output_metrics_and_audit_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let dev = Dev::start_with(&store, &["--retry-window", "200ms"], &[("RUST_LOG", "trace")]);
    let (issuer, id, secret) =
        (dev.text("issuer").to_owned(), dev.text("client_id").to_owned(), dev.text("client_secret").to_owned());
    let http = client();
    let mut tokens = Vec::new();
    let post = |path: &str, form: Vec<(&'static str, String)>| {
        answer(http.post(format!("{issuer}{path}")).basic_auth(&id, Some(&secret)).form(&form))
    };
    for subject in ["alice", "bob"] {
        let body = json!({"subject": subject, "audience": ["api"], "claims": {"tenant": "t"}});
        let request = http.post(format!("{issuer}/v1/sessions")).basic_auth(&id, Some(&secret)).json(&body);
        let (_, mut answer) = answer(request).await;
        for _ in 0..5 {
            tokens.push(text(&answer, "refresh_token").to_owned());
            tokens.push(text(&answer, "access_token").to_owned());
            let form =
                vec![("grant_type", "refresh_token".into()), ("refresh_token", text(&answer, "refresh_token").into())];
            answer = post("/oauth2/token", form).await.1;
        }
        post("/oauth2/introspect", vec![("token", tokens[1].clone())]).await;
        post("/oauth2/revoke", vec![("token", tokens[1].clone())]).await;
    }
    // Errors too: reuse, a mutilated token, a wrong secret, a token in the wrong place, a broken body.
    let refresh = |token: String| vec![("grant_type", "refresh_token".into()), ("refresh_token", token)];
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    post("/oauth2/token", refresh(tokens[0].clone())).await;
    post("/oauth2/token", refresh(format!("{}x", tokens[2]))).await;
    let url = format!("{issuer}/oauth2/token?refresh_token={}", tokens[2]);
    answer(http.post(url).basic_auth(&id, Some(&secret)).form(&[("a", "b")])).await;
    answer(http.get(format!("{issuer}/{}", tokens[4]))).await;
    answer(
        http.post(format!("{issuer}/v1/sessions"))
            .basic_auth(&id, Some(&secret))
            .json(&json!({"subject": [&tokens[4]]})),
    )
    .await;
    answer(http.get(format!("{issuer}/v1/sessions/{}", tokens[4])).basic_auth(&id, Some(&secret))).await;
    answer(http.get(format!("{issuer}/v1/keys")).basic_auth("nobody", Some(&secret))).await;
    let feed = answer(http.get(format!("{issuer}/v1/feed?nonce=AAAAAAAAAAAAAAAAAAAAAA"))).await;
    assert_eq!(feed.0, 200);
    let (_, audit) = answer(http.get(format!("{issuer}/v1/audit?limit=200")).basic_auth(&id, Some(&secret))).await;
    assert!(audit["records"].as_array().unwrap().len() > 10);
    let (_, metrics) = answer(http.get(format!("{}/metrics", dev.text("operations")))).await;
    let (_, output) = dev.stop();

    let mut secrets: Vec<(String, Vec<u8>)> = vec![("client secret".into(), secret.into_bytes())];
    for (i, token) in tokens.iter().enumerate() {
        if let Some(body) = token.strip_prefix("rescind_rt_") {
            // The secret part alone: the rest names the family, which is no secret.
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(body).unwrap();
            secrets.push((format!("refresh token {i}"), bytes[25..57].to_vec()));
        } else {
            let signature = BASE64_URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
            secrets.push((format!("access token {i}"), signature));
        }
    }
    secrets.extend(private_keys(directory.path()));
    assert!(secrets.len() > 20);
    let places = [
        ("the store", std::fs::read(&store).unwrap()),
        ("the output", output),
        ("the metrics", metrics.to_string().into_bytes()),
        ("the audit log", audit.to_string().into_bytes()),
        ("the feed", feed.1.to_string().into_bytes()),
    ];
    for (place, bytes) in &places {
        for (name, secret) in &secrets {
            for (form, needle) in forms(name, secret) {
                assert!(!find(bytes, &needle), "{place} holds {form}");
            }
        }
    }
    let bytes: usize = places.iter().map(|p| p.1.len()).sum();
    println!("{} secrets in 9 forms: none in {bytes} bytes of store, output, metrics and audit log", secrets.len());
}

/// The seeds of all private keys and all symmetric secrets that lie beside the store.
fn private_keys(directory: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in walk(directory) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        let content = std::fs::read_to_string(&entry).unwrap_or_default();
        if name.ends_with(".pem") {
            let body: String = content.lines().filter(|l| !l.starts_with("-----")).collect();
            let der = base64::prelude::BASE64_STANDARD.decode(body).unwrap();
            found.push((name, der[der.len() - 32..].to_vec()));
        } else if name == "secrets.json" {
            collect(&serde_json::from_str(&content).unwrap(), &mut found);
        }
    }
    assert!(found.len() >= 6, "two signing keys and four secrets at least, found {}", found.len());
    found
}

fn collect(value: &serde_json::Value, found: &mut Vec<(String, Vec<u8>)>) {
    match value {
        serde_json::Value::String(text) => {
            if let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(text)
                && bytes.len() == 32
            {
                found.push(("symmetric secret".into(), bytes));
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
        serde_json::Value::Object(members) => members.values().for_each(|v| collect(v, found)),
        _ => {}
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
