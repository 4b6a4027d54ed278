//! A disk that takes no keys any more, while the service runs: nothing changes, it says so, and it heals by itself.

use std::time::Duration;

use serde_json::json;

use crate::{
    liar::liar,
    process::Dev,
    remote::{Remote, kid_of},
};

async fn says(dev: &Dev, words: &[&str]) {
    for _ in 0..500 {
        let said = String::from_utf8_lossy(&dev.output.lock().unwrap()).into_owned();
        if said.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no line says {words:?}: {}", String::from_utf8_lossy(&dev.output.lock().unwrap()));
}

#[rstest::rstest]
#[case::full("LIAR_KEYS_FULL", "No space left on device")]
#[case::read_only("LIAR_KEYS_READ_ONLY", "Read-only file system")]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_keys_is_503_and_the_old_key_signs_on(#[case] lie: &str, #[case] why: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (library, trigger) = (liar(directory.path()), directory.path().join("lie"));
    let environment = [("LD_PRELOAD", library.to_str().unwrap()), (lie, trigger.to_str().unwrap())];
    let dev = Dev::start_with(&directory.path().join("store.redb"), &[], &environment);
    let remote = Remote::of(&dev);
    let mut held = remote.open().await.unwrap();
    let (signer, before) = (kid_of(&held.access), remote.published().await);
    std::fs::write(&trigger, "").unwrap();
    let force = json!({"dangerous_without_waiting": true});
    let compromise = format!("/{signer}/compromise");
    for (path, body) in [("", json!({})), ("/rotate", force.clone()), (&compromise, json!({}))] {
        let request = remote.http.post(format!("{}/v1/keys{path}", remote.issuer)).json(&body);
        let answer = request.basic_auth(&remote.id, Some(&remote.secret)).send().await.unwrap();
        assert!(answer.status() == 503 && answer.headers().contains_key("retry-after"), "{path}: {answer:?}");
        assert!(answer.text().await.unwrap().contains("keys_unavailable"));
    }
    says(&dev, &["the keys could not be changed", "store.redb.keys", why]).await;
    let (status, renewed) = remote.refresh(&held).await.unwrap();
    assert_eq!(status, 200, "{renewed}");
    held.take(&renewed);
    assert_eq!((kid_of(&held.access), remote.published().await), (signer.clone(), before), "nothing has changed");
    assert!(remote.active(&held.access).await);

    std::fs::remove_file(&trigger).unwrap();
    let (status, rotated) = remote.post("/v1/keys/rotate", &force).await.unwrap();
    assert_eq!((status, &rotated["retiring"]), (200, &json!(signer)), "it goes on when the disk does");
    held.take(&remote.refresh(&held).await.unwrap().1);
    assert_eq!(rotated["active"], kid_of(&held.access));
}
