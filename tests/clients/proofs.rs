//! How a client proves itself: said as it is judged, asked again before tokens leave, and dropped for good.

use std::time::Duration;

use rescind::{
    clock::Clock,
    model::{Audience, Scope},
    service::{
        CertificateHash, Client, Clients, Context, Credentials, Error, Method, NewSession, OldSecrets, SecretHash,
    },
};
use rstest::rstest;
use serde_json::{Value, json};

use super::assertions::{KEYED, assertion, keyed};
use crate::{
    forge::Forge,
    harness::{APP, Harness, OTHER, Setup, answer, clients, random_secret, text},
};

const CERTIFICATE: CertificateHash = CertificateHash([7; 32]);

/// A node that knows a client by a secret, a key and a certificate.
struct Node {
    harness: Harness,
    forge: Forge,
    secret: String,
}

impl Node {
    async fn start() -> Self {
        let (forge, secret) = (Forge::new(0), random_secret());
        let setup = Setup { clients: vec![client(&forge, &secret)], on_disk: true, ..Setup::default() };
        let harness = Harness::with(setup).await;
        let forge = Forge { now: harness.clock.now().seconds(), ..forge };
        Self { harness, forge, secret }
    }

    /// Another configuration is loaded, in which the client is so.
    fn configure(&self, change: impl FnOnce(&mut Client)) {
        self.harness.service.set_clients(self.configuration(change));
    }

    fn configuration(&self, change: impl FnOnce(&mut Client)) -> Clients {
        let mut client = client(&self.forge, &self.secret);
        change(&mut client);
        clients(&self.harness.secret, &[client])
    }

    fn credentials(&self, method: Method) -> Credentials {
        match method {
            Method::Secret => Credentials::Secret(KEYED.into(), self.secret.clone().into()),
            Method::Key => {
                Credentials::Assertion { assertion: assertion(&self.forge, &random_secret()).into(), named: None }
            }
            Method::Certificate => Credentials::Certificate { certificate: CERTIFICATE, named: Some(KEYED.to_owned()) },
        }
    }

    async fn drop_secret(&self, client: &str, secret: &str) -> (u16, Value) {
        let url = format!("{}/v1/clients/{client}/secrets/{}", self.harness.base, SecretHash::of(secret).id());
        answer(self.harness.http.delete(url).basic_auth(APP, Some(&self.harness.secret))).await
    }

    async fn shown(&self) -> Value {
        self.harness.get(&format!("/v1/clients/{KEYED}")).await.1
    }

    async fn is_let_in_by_name(&self) -> bool {
        let form = [("token", "nothing"), ("client_id", KEYED)];
        let request = self.harness.http.post(format!("{}/oauth2/revoke", self.harness.base));
        answer(request.form(&form)).await.0 == 200
    }

    async fn is_let_in(&self, credentials: &Credentials) -> bool {
        self.harness.service.authenticate(credentials, &Default::default(), |_| Ok(())).await.is_ok()
    }
}

fn client(forge: &Forge, secret: &str) -> Client {
    Client { secrets: vec![SecretHash::of(secret)], certificates: vec![CERTIFICATE], ..keyed(KEYED, forge) }
}

/// Everything that hands out tokens, or a secret.
async fn hands_out(node: &Node, ctx: &Context, refresh_token: &str) -> Vec<Result<(), Error>> {
    let service = &node.harness.service;
    let audience: Vec<Audience> = vec!["api".parse().unwrap()];
    let session = NewSession {
        subject: "bob".parse().unwrap(),
        audience,
        scope: Scope::default(),
        client: Some(OTHER.parse().unwrap()),
        device: Default::default(),
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        claims: Default::default(),
    };
    vec![
        service.refresh(ctx, refresh_token, None).await.map(drop),
        service.client_credentials(ctx, None).await.map(drop),
        service.open_session(ctx, session).await.map(drop),
        service
            .rotate_secret(ctx, &KEYED.parse().unwrap(), OldSecrets::DropAfter(Duration::from_secs(60)))
            .await
            .map(drop),
    ]
}

#[rstest]
#[tokio::test]
async fn tokens_leave_only_for_a_proof_that_still_counts(
    #[values(Method::Secret, Method::Key, Method::Certificate)] method: Method,
) {
    let node = Node::start().await;
    let opened = node.harness.open_for("alice", KEYED).await;
    let token = text(&opened, "refresh_token");
    let ctx = node.harness.let_in(&node.credentials(method)).await;
    // It was let in; while its request waits, what it came with is taken away.
    match method {
        Method::Secret => assert_eq!(node.drop_secret(KEYED, &node.secret).await.0, 200),
        Method::Key => node.configure(|client| client.keys = vec![Forge::new(0).jwk()]),
        Method::Certificate => node.configure(|client| client.certificates = vec![CertificateHash([8; 32])]),
    }
    for handed in hands_out(&node, &ctx, token).await {
        assert!(matches!(handed, Err(Error::Client)), "{handed:?}");
    }
    // The client has other ways, and has lost nothing.
    let other = if method == Method::Key { Method::Secret } else { Method::Key };
    let ctx = node.harness.let_in(&node.credentials(other)).await;
    let refreshed = node.harness.service.refresh(&ctx, token, None).await;
    assert!(refreshed.is_ok(), "{refreshed:?}");
}

#[rstest]
#[tokio::test]
async fn a_proof_that_still_counts_gets_everything(
    #[values(Method::Secret, Method::Key, Method::Certificate)] method: Method,
) {
    let node = Node::start().await;
    let opened = node.harness.open_for("alice", KEYED).await;
    let ctx = node.harness.let_in(&node.credentials(method)).await;
    node.configure(|_| ());
    for handed in hands_out(&node, &ctx, text(&opened, "refresh_token")).await {
        assert!(handed.is_ok(), "{handed:?}");
    }
}

#[tokio::test]
async fn a_public_client_that_was_given_a_key_gets_nothing_by_its_name_any_more() {
    let node = Node::start().await;
    node.configure(|client| *client = Client::new(client.id.clone()));
    let opened = node.harness.open_for("alice", KEYED).await;
    let ctx = node.harness.let_in(&Credentials::Named(KEYED.into())).await;
    node.configure(|_| ());
    let refreshed = node.harness.service.refresh(&ctx, text(&opened, "refresh_token"), None).await;
    assert!(matches!(refreshed, Err(Error::Client)), "{refreshed:?}");
}

#[rstest]
#[case::all(true, true, true, &["secret", "private_key_jwt", "self_signed_tls_client_auth"])]
#[case::secret(true, false, false, &["secret"])]
#[case::key(false, true, false, &["private_key_jwt"])]
#[case::certificate(false, false, true, &["self_signed_tls_client_auth"])]
#[case::public(false, false, false, &[])]
#[tokio::test]
async fn how_a_client_proves_itself_is_said_as_it_is_judged(
    #[case] secret: bool,
    #[case] key: bool,
    #[case] certificate: bool,
    #[case] methods: &[&str],
) {
    let node = Node::start().await;
    node.configure(|client| {
        client.secrets.truncate(secret.into());
        client.keys.truncate(key.into());
        client.certificates.truncate(certificate.into());
    });
    assert_eq!(node.shown().await["methods"], json!(methods));
    for (method, can) in [(Method::Secret, secret), (Method::Key, key), (Method::Certificate, certificate)] {
        assert_eq!(methods.contains(&method.name()), can);
        // A public client may connect with any certificate: then its name lets it in.
        let by_name = method == Method::Certificate && methods.is_empty();
        assert_eq!(node.is_let_in(&node.credentials(method)).await, can || by_name, "{method:?}");
    }
    assert_eq!(node.is_let_in_by_name().await, methods.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_client_that_has_moved_on_can_drop_its_last_secret(#[values(Method::Key, Method::Certificate)] kept: Method) {
    let mut node = Node::start().await;
    let (_, made) = node.harness.post(&format!("/v1/clients/{KEYED}/secrets"), APP, &json!({"drop_old": true})).await;
    let last = text(&made, "client_secret").to_owned();
    let moved = |client: &mut Client| {
        client.secrets.clear();
        client.keys.truncate((kept == Method::Key).into());
        client.certificates.truncate((kept == Method::Certificate).into());
    };
    node.configure(moved);
    assert_eq!(node.shown().await["methods"], json!(["secret", kept.name()]));
    let (status, shown) = node.drop_secret(KEYED, &last).await;
    assert_eq!((status, &shown["methods"], &shown["secrets"]), (200, &json!([kept.name()]), &json!([])), "{shown}");
    let by_secret = Credentials::Secret(KEYED.into(), last.clone().into());
    assert!(!node.is_let_in(&by_secret).await && node.is_let_in(&node.credentials(kept)).await);
    assert!(!node.is_let_in_by_name().await);
    node.harness = node.harness.restart(|_, _| ()).await;
    node.configure(moved);
    assert!(!node.is_let_in(&by_secret).await && node.is_let_in(&node.credentials(kept)).await, "also after a restart");
    // Who loses the keys in the configuration must not find it public.
    node.configure(|client| *client = Client::new(client.id.clone()));
    assert!(!node.is_let_in_by_name().await, "a client that had a secret does not become public");
    assert_eq!(node.shown().await["methods"], json!(["secret"]));
}

#[tokio::test]
async fn the_last_secret_of_a_client_with_nothing_else_stays() {
    let node = Node::start().await;
    node.configure(|client| {
        client.keys.clear();
        client.certificates.clear();
    });
    let (status, problem) = node.drop_secret(KEYED, &node.secret).await;
    assert_eq!((status, &problem["code"]), (409, &json!("last_secret")), "{problem}");
    assert!(node.is_let_in(&node.credentials(Method::Secret)).await);
}

#[rstest]
#[case::by_its_name(None)]
#[case::by_a_new_one(Some(json!({"drop_old": true})))]
#[case::in_no_time(Some(json!({"drop_old_after": "0"})))]
#[tokio::test]
async fn what_was_dropped_at_once_stays_dropped_whatever_the_clock_says(#[case] by: Option<Value>) {
    let mut node = Node::start().await;
    let dropped = match by {
        None => node.drop_secret(KEYED, &node.secret).await,
        Some(order) => node.harness.post(&format!("/v1/clients/{KEYED}/secrets"), APP, &order).await,
    };
    assert!(dropped.0 < 300, "{dropped:?}");
    let old = node.credentials(Method::Secret);
    for _ in 0..3 {
        assert!(!node.is_let_in(&old).await);
        node.harness.clock.jump_back(Duration::from_secs(86_400));
    }
    node.harness = node.harness.restart(|_, _| ()).await;
    assert!(!node.is_let_in(&old).await);
}
