//! What the compose file puts together, without its containers: its Redis, two nodes with its environment, and nginx with its
//! file, as it stands but for addresses and places. No engine is on the machines that test this.

use std::{fs, path::Path, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    proxied::{Site, nginx_file},
    support::{PROGRAM, command, free, good, text, until},
};

const RECIPE: &str = "deploy/compose/compose.yaml";
/// Where they are among the children of the site.
const A: usize = 1;
const B: usize = 2;

/// The words of the list that the recipe gives the service of this name as its command.
fn recipes_command(service: &str) -> Vec<String> {
    let recipe = text(RECIPE);
    let of = recipe.split(&format!("\n  {service}:\n")).nth(1).expect("the recipe has the service");
    let list = of.split("    command: [").nth(1).and_then(|rest| rest.split("]\n").next()).expect("it has a command");
    list.split(", ").map(|word| word.trim_matches('"').to_owned()).collect()
}

/// What the recipe sets for a node: each variable, with the value that it has here.
fn node(config: &Path, listen: &str) -> Command {
    let mut node = command(PROGRAM);
    for (variable, theirs, ours) in [
        ("RESCIND_LISTEN", "0.0.0.0:8080", listen),
        ("RESCIND_BEHIND_TLS_PROXY", "\"true\"", "true"),
        ("RESCIND_PROXIES__TRUSTED", "172.30.80.0/24", "127.0.0.0/8"),
    ] {
        assert!(text(RECIPE).contains(&format!("    {variable}: {theirs}\n")), "{variable} is set there");
        node.env(variable, ours);
    }
    let [operations, _] = free();
    node.env("RESCIND_OPERATIONS_LISTEN", operations).args(["serve", "--config"]);
    node.arg(config.join("rescind.toml"));
    node
}

struct Deployed {
    site: Site,
    listen: [String; 2],
}

impl Deployed {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ([front, redis], listen) = (free(), free());
        let port = redis.rsplit(':').next().unwrap();
        let words = recipes_command("redis");
        let mut server = command(&words[0]);
        server.args(&words[1..]).args(["--port", port, "--bind", "127.0.0.1", "--dir"]).arg(dir.path());
        let base = format!("https://{}", front.replace("127.0.0.1", "localhost"));
        let mut site = Site { dir, base, children: vec![server.stdout(std::process::Stdio::null()).spawn().unwrap()] };
        until("Redis answers", || {
            command("redis-cli").args(["-p", port, "ping"]).output().unwrap().stdout == b"PONG\n"
        });
        let (a, b) = (site.dir.path().join("a"), site.dir.path().join("b"));
        let mut init = command(PROGRAM);
        init.arg("init").arg(&a).args(["--store", &format!("redis://{redis}/0"), "--issuer", &site.base]);
        good(init.arg("--secret-file").arg(site.dir.path().join("operator")));
        let config = fs::read_to_string(a.join("rescind.toml")).unwrap();
        fs::write(a.join("rescind.toml"), config + "\n[[clients]]\nid = \"app\"\n").unwrap();
        fs::create_dir(&b).unwrap();
        for file in ["rescind.toml", "shared.key"] {
            assert!(recipes_command("copy").iter().any(|word| word.contains(&format!("/a/{file} "))), "{file}");
            fs::copy(a.join(file), b.join(file)).unwrap();
        }
        for (dir, listen) in [(&a, &listen[0]), (&b, &listen[1])] {
            site.children.push(node(dir, listen).spawn().unwrap());
            until("the node serves", || answers(listen));
        }
        let services = [("a:8080", listen[0].clone()), ("b:8080", listen[1].clone())];
        let file = nginx_file("deploy/compose/nginx.conf", site.dir.path(), &front, &services);
        let pid = site.dir.path().join("nginx.pid").display().to_string();
        fs::write(site.dir.path().join("nginx.conf"), file.replace("/run/nginx.pid", &pid)).unwrap();
        site.begin_nginx();
        Self { site, listen }
    }

    fn kill(&mut self, which: usize) {
        let child = &mut self.site.children[which];
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn start_again(&mut self, which: usize) {
        let (name, listen) = if which == A { ("a", &self.listen[0]) } else { ("b", &self.listen[1]) };
        self.site.children[which] = node(&self.site.dir.path().join(name), listen).spawn().unwrap();
        until("the node serves again", || answers(listen));
    }

    fn operate(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.site.operate(path, body);
        assert_eq!(status, "201", "{answer}");
        body_of(&answer)
    }

    /// Through nginx, as a client does.
    fn refresh(&self, token: &str) -> (String, Value) {
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
        let (status, answer) = self.site.ask("/oauth2/token", &["--data", &form]);
        (status, body_of(&answer))
    }

    /// So many exchanges, one after the other, each of which has to be answered. Gives the last token.
    fn refresh_often(&self, token: &str, times: usize) -> String {
        (0..times).fold(token.to_owned(), |token, _| {
            let (status, answer) = self.refresh(&token);
            assert_eq!(status, "200", "{answer}");
            text_of(&answer, "refresh_token")
        })
    }

    /// The same token until it is exchanged, as a client does that is told to come again.
    fn refresh_patiently(&self, token: &str) -> String {
        let mut last = Value::Null;
        until("the same token is exchanged", || {
            let (status, answer) = self.refresh(token);
            assert!(matches!(&*status, "200" | "503"), "{status}: {answer}");
            last = answer;
            status == "200"
        });
        text_of(&last, "refresh_token")
    }
}

fn answers(listen: &str) -> bool {
    let mut curl = command("curl");
    curl.args(["--silent", "--fail", "--output", "/dev/null"]);
    curl.arg(format!("http://{listen}/.well-known/jwks.json")).status().unwrap().success()
}

fn body_of(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

fn text_of(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_else(|| panic!("{field}: {answer}")).to_owned()
}

#[test]
fn the_nodes_of_the_compose_file_stand_in_for_each_other_behind_its_nginx() {
    let mut deployed = Deployed::start();
    let opened = deployed.operate("/v1/sessions", r#"{"subject":"alice","audience":["api"],"client_id":"app"}"#);
    let stolen = deployed.operate("/v1/sessions", r#"{"subject":"mallory","audience":["api"],"client_id":"app"}"#);
    let token = deployed.refresh_often(&text_of(&opened, "refresh_token"), 4);
    // One node is killed: its requests go to the other, and nobody is told.
    deployed.kill(A);
    let token = deployed.refresh_often(&token, 6);
    deployed.operate("/v1/revocations", r#"{"kind":"subject","id":"mallory"}"#);
    // The one that was away knows what was taken back meanwhile, and serves alone: at once, or for whom nginx still takes
    // it for dead, at the second attempt.
    deployed.start_again(A);
    deployed.kill(B);
    let token = deployed.refresh_patiently(&token);
    let token = deployed.refresh_often(&token, 6);
    let (status, refused) = deployed.refresh(&text_of(&stolen, "refresh_token"));
    assert_eq!((status.as_str(), refused["error"].as_str()), ("400", Some("invalid_grant")), "{refused}");
    deployed.start_again(B);
    deployed.refresh_often(&token, 4);
}

#[test]
fn while_its_redis_stands_still_everyone_is_told_to_come_again_and_then_served() {
    let deployed = Deployed::start();
    let opened = deployed.operate("/v1/sessions", r#"{"subject":"alice","audience":["api"],"client_id":"app"}"#);
    let token = text_of(&opened, "refresh_token");
    let redis = Pid::from_child(&deployed.site.children[0]);
    kill_process(redis, Signal::STOP).unwrap();
    let form = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
    let (status, answer) = deployed.site.ask("/oauth2/token", &["--data", &form]);
    assert_eq!(status, "503", "{answer}");
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    kill_process(redis, Signal::CONT).unwrap();
    let token = deployed.refresh_patiently(&token);
    deployed.refresh_often(&token, 4);
}
