//! What a server must be like for the store to be safe on it, and what it had better be like. Asked at each connection
//! and again from time to time.

use std::fmt;

use super::{
    acl,
    answers::{Info, text},
    cluster,
    map::{self, Map},
    server::Checked,
    wire::{Lost, Value, Wire, told},
};
use crate::store::redis::{layout::Bucket, url::Place};

/// Pings between two looks at a server: half a minute.
pub(super) const EVERY_PINGS: u32 = 120;
/// The same while something stands against it: one second.
pub(super) const EVERY_PINGS_WHILE_REFUSED: u32 = 4;

/// The code of the finding that a server is a replica.
pub(super) const REPLICA: &str = "replica";

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// For programs: a word that stays.
    pub code: &'static str,
    /// What is wrong, where, and why it matters.
    pub sentence: String,
    /// The command that mends it, if there is one.
    pub mend: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The store is safe, and could be safer.
    Warn,
    /// The store would not be safe: nothing is asked of it.
    Refuse,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        self.mend.as_ref().map_or(Ok(()), |mend| write!(f, "; mend it with: {mend}"))
    }
}

/// What is wanted of a server.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) prefix: Box<str>,
    pub(super) user: Box<str>,
    pub(super) replicas: u16,
    pub(super) cluster: bool,
    pub(super) tls: bool,
}

/// Findings about one server, as they are collected.
struct Found<'a> {
    place: &'a Place,
    all: Vec<Finding>,
}

impl Found<'_> {
    fn refuse(&mut self, code: &'static str, sentence: &str, mend: Option<String>) {
        self.add(Severity::Refuse, code, sentence, mend);
    }

    fn warn(&mut self, code: &'static str, sentence: &str, mend: Option<String>) {
        self.add(Severity::Warn, code, sentence, mend);
    }

    fn add(&mut self, severity: Severity, code: &'static str, sentence: &str, mend: Option<String>) {
        let sentence = format!("{}: {sentence}", self.place);
        self.all.push(Finding { severity, code, sentence, mend });
    }
}

/// What is known of a server that did not let itself be looked at.
pub(super) fn forbidden(why: &Lost, wanted: &Wanted) -> Checked {
    if !acl::forbids(&why.0) {
        return Checked::NotYet;
    }
    let sentence = format!("the user {} may not ask what must be asked: {}", wanted.user, why.0);
    let mend = acl::named_in(&why.0).map(|name| format!("ACL SETUSER {} +{name}", wanted.user));
    Checked::Found([Finding { severity: Severity::Refuse, code: "acl", sentence, mend }].into())
}

/// Looks at a server.
pub(super) async fn server(wire: &Wire, place: &Place, wanted: &Wanted) -> Result<Vec<Finding>, Lost> {
    let mut found = Found { place, all: Vec::new() };
    found.network(wanted);
    let info = match Info::ask(wire, &["server", "replication", "memory", "persistence"]).await {
        Ok(info) => info,
        Err(Lost(said)) if acl::forbids(&said) => {
            found.missing(acl::named_in(&said).unwrap_or("info"), &said, wanted);
            return Ok(found.all);
        }
        Err(why) => return Err(why),
    };
    if !found.mode(&info, wanted) {
        return Ok(found.all);
    }
    found.version(&info);
    found.replication(&info, wanted);
    found.memory(&info);
    found.persistence(wire, &info).await?;
    // A replica refuses what is tried next, for that reason.
    if info.get("role") == "master" {
        found.rights(wire, wanted).await?;
    }
    Ok(found.all)
}

impl Found<'_> {
    fn network(&mut self, wanted: &Wanted) {
        if !wanted.tls && !self.place.is_local() {
            let sentence =
                "what is said to it can be heard and changed on the way; use rediss:// and tls-port in redis.conf";
            self.warn("plain_tcp", sentence, None);
        }
    }

    /// Whether it is what the URL says.
    fn mode(&mut self, info: &Info, wanted: &Wanted) -> bool {
        // Valkey says it by another name.
        let mode = match info.get("redis_mode") {
            "" => info.get("server_mode"),
            mode => mode,
        };
        let (what, form) = match mode {
            "sentinel" => ("a Sentinel", "redis+sentinel://HOSTS/NAME"),
            "cluster" if !wanted.cluster => ("a node of a cluster", "redis+cluster://HOSTS"),
            _ => return true,
        };
        self.refuse("mode", &format!("it is {what}; name it as {form} in the URL"), None);
        false
    }

    fn version(&mut self, info: &Info) {
        if !info.get("valkey_version").is_empty() {
            return;
        }
        let version = info.get("redis_version");
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let known = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if known < (7, 0) {
            let sentence = format!("its version is {version}; 7.0 or later, or Valkey, is needed: install that");
            self.refuse("version", &sentence, None);
        }
    }

    fn replication(&mut self, info: &Info, wanted: &Wanted) {
        if info.get("role") != "master" {
            let (host, port) = (info.get("master_host"), info.get("master_port"));
            let sentence = format!(
                "it is a replica, and what is written must go to its master ({host}:{port}); name that one in the URL, or the \
                 Sentinels: redis+sentinel://"
            );
            return self.refuse(REPLICA, &sentence, None);
        }
        let there = info.number("connected_slaves");
        if there < u64::from(wanted.replicas) {
            let sentence = format!(
                "it has {there} replicas, and {} must have each change before it is acknowledged: until there are as many, \
                 changes are answered 503",
                wanted.replicas
            );
            self.warn("too_few_replicas", &sentence, None);
        } else if there == 0 {
            let sentence = "it has no replica: when its machine is gone, what the nodes did not keep is gone";
            self.warn("no_replica", sentence, None);
        }
        // The line is there only if a number greater than zero is set.
        if there > 0 && info.get("min_slaves_good_slaves").is_empty() {
            let sentence = "min-replicas-to-write is 0: a master that is cut off from its replicas goes on taking changes \
                            that will be lost";
            let mend = "CONFIG SET min-replicas-to-write 1 (and in redis.conf)";
            self.warn("min_replicas", sentence, Some(mend.into()));
        }
    }

    fn memory(&mut self, info: &Info) {
        let policy = info.get("maxmemory_policy");
        if policy == "noeviction" || policy.is_empty() {
            if policy.is_empty() {
                self.warn("policy_unknown", "it does not say its maxmemory-policy; it must be noeviction", None);
            }
            return;
        }
        let when = match info.number("maxmemory") {
            0 => "as soon as somebody sets maxmemory",
            _ => "when maxmemory is reached",
        };
        let sentence = format!(
            "its maxmemory-policy is {policy}: {when} it drops revocations and sessions silently, and a revoked token is good \
             again"
        );
        let mend = "CONFIG SET maxmemory-policy noeviction (and in redis.conf)";
        self.refuse("eviction", &sentence, Some(mend.into()));
    }

    async fn persistence(&mut self, wire: &Wire, info: &Info) -> Result<(), Lost> {
        if info.get("aof_enabled") != "1" {
            let sentence = "appendonly is no: after a crash it has lost all since its last snapshot, and each node must push \
                            again what it knows before anything is answered";
            self.warn("no_aof", sentence, Some("CONFIG SET appendonly yes (and in redis.conf)".into()));
            return Ok(());
        }
        let mut pipe = redis::pipe();
        pipe.cmd("CONFIG").arg("GET").arg("appendfsync");
        let answers = wire.ask_surely(pipe).await?;
        let value = match answers.first() {
            Some(Value::Array(pair)) => pair.get(1).and_then(text),
            _ => None,
        };
        match value {
            Some("no") => {
                let sentence = "appendfsync is no: it may lose half a minute of changes when its machine stops";
                self.warn("no_fsync", sentence, Some("CONFIG SET appendfsync everysec (and in redis.conf)".into()));
            }
            Some(_) => {}
            None => {
                let sentence = "it does not let us ask CONFIG GET, so appendfsync was not checked; it should be everysec or \
                                always";
                self.warn("not_checked", sentence, None);
            }
        }
        Ok(())
    }

    async fn rights(&mut self, wire: &Wire, wanted: &Wanted) -> Result<(), Lost> {
        let key = match wanted.cluster {
            false => format!("{}{{hub}}:probe", wanted.prefix),
            true => match self.slots(wire, wanted).await? {
                Some(key) => key,
                None => return Ok(()),
            },
        };
        let mut pipe = redis::pipe();
        let of_a_cluster = if wanted.cluster { acl::OF_A_CLUSTER } else { &[] };
        let outside: Vec<_> = of_a_cluster.iter().chain(acl::OUTSIDE).collect();
        for (name, args) in &outside {
            let mut words = name.split('|');
            let command = pipe.cmd(words.next().unwrap_or_default());
            for arg in words.chain(args.iter().copied()) {
                command.arg(if arg == "KEY" { &key } else { arg });
            }
        }
        let probe = pipe.cmd("EVAL").arg(acl::PROBE).arg(1).arg(&key);
        for (name, args) in acl::INSIDE.iter().chain(&[("time", &[] as &[&str])]) {
            probe.arg(name).arg(args.len()).arg(*args);
        }
        let answers = wire.ask_surely(pipe).await?;
        for ((name, _), answer) in outside.iter().zip(&answers) {
            if let Value::ServerError(error) = answer {
                let said = told(error);
                if acl::forbids(&said) {
                    self.missing(name, &said, wanted);
                }
            }
        }
        for (name, said) in answers.last().map(acl::forbidden).unwrap_or_default() {
            if !self
                .all
                .iter()
                .any(|finding| finding.mend.as_ref().is_some_and(|mend| mend.ends_with(&format!("+{name}"))))
            {
                self.missing(&name, &said, wanted);
            }
        }
        Ok(())
    }

    /// Whether all slots are covered as this master sees it, and a key of ours in one of its own slots.
    async fn slots(&mut self, wire: &Wire, wanted: &Wanted) -> Result<Option<String>, Lost> {
        let view = match cluster::view(wire, self.place).await {
            Ok(view) => view,
            Err(Lost(said)) if acl::forbids(&said) => {
                let name = if said.contains("myid") { "cluster|myid" } else { "cluster|slots" };
                self.missing(name, &said, wanted);
                return Ok(None);
            }
            Err(why) => return Err(why),
        };
        let uncovered = Map::uncovered(&view.table);
        if uncovered > 0 {
            let sentence =
                format!("{uncovered} of the cluster's slots are served by nobody: what lies in them is not there");
            self.refuse("uncovered", &sentence, Some("redis-cli --cluster fix HOST:PORT".into()));
        }
        let mine = |key: &String| {
            let master = view.table[usize::from(map::slot(key.as_bytes()))];
            view.masters.get(usize::from(master)).is_some_and(|(id, _)| *id == view.me)
        };
        Ok(Bucket::all().map(|b| format!("{}{{{:03x}}}:probe", wanted.prefix, b.0)).find(mine))
    }

    fn missing(&mut self, name: &str, said: &str, wanted: &Wanted) {
        let user = &wanted.user;
        // A command is run, a key is accessed. The name of a user may hold anything but blanks.
        if said.contains("permissions to access") || said.contains("can't access") {
            let sentence = format!("the user {user} may not touch keys that begin with {}", wanted.prefix);
            let mend = format!("ACL SETUSER {user} ~{}*", wanted.prefix);
            if !self.all.iter().any(|finding| finding.mend.as_deref() == Some(&mend)) {
                self.refuse("acl_keys", &sentence, Some(mend));
            }
            return;
        }
        let sentence = format!("the user {user} may not {}", name.replace('|', " ").to_uppercase());
        self.refuse("acl", &sentence, Some(format!("ACL SETUSER {user} +{name}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: fn() -> Wanted =
        || Wanted { prefix: "rescind:".into(), user: "default".into(), replicas: 0, cluster: false, tls: false };

    fn codes(place: &str, look: impl Fn(&mut Found<'_>)) -> Vec<&'static str> {
        let place = Place::Tcp(place.into(), 6379);
        let mut found = Found { place: &place, all: Vec::new() };
        look(&mut found);
        found.all.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn what_is_older_than_our_scripts_need_is_refused_and_valkey_is_not() {
        for (text, taken) in [
            ("redis_version:6.0.16", false),
            ("redis_version:6.2.14", false),
            ("redis_version:7.0.0", true),
            ("redis_version:10.0.0", true),
            ("redis_version:5.0.14", false),
            ("redis_version:", false),
            ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1", true),
        ] {
            let info = Info::read(&[Value::BulkString(text.into())]).unwrap();
            let found = codes("127.0.0.1", |found| found.version(&info));
            assert_eq!(found.is_empty(), taken, "{text}");
        }
    }

    #[test]
    fn what_goes_over_a_network_in_the_clear_is_said() {
        for (host, said) in
            [("127.0.0.1", false), ("::1", false), ("localhost", false), ("10.0.0.1", true), ("cache.example", true)]
        {
            assert_eq!(codes(host, |found| found.network(&WANTED())), ["plain_tcp"][..usize::from(said)], "{host}");
            let tls = Wanted { tls: true, ..WANTED() };
            assert_eq!(codes(host, |found| found.network(&tls)), [""; 0]);
        }
    }
}
