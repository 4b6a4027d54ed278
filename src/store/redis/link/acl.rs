//! The rights that a user of the store needs, and no more.

use super::wire::Value;

/// Commands that our scripts call, each with harmless arguments behind the key: that is how the right to it is tried.
pub(super) const INSIDE: &[(&str, &[&str])] = &[
    ("get", &[]),
    ("set", &["x", "PXAT", "4102444800000"]),
    ("del", &[]),
    ("exists", &[]),
    ("hget", &["x"]),
    ("hgetall", &[]),
    ("hkeys", &[]),
    ("hexists", &["x"]),
    ("hmget", &["x"]),
    ("hset", &["x", "1"]),
    ("hdel", &["x"]),
    ("hincrby", &["x", "1"]),
    ("hscan", &["0"]),
    ("rpush", &["x"]),
    ("lrange", &["0", "0"]),
    ("lindex", &["0"]),
    ("lset", &["0", "x"]),
    ("ltrim", &["0", "-1"]),
    ("lpop", &[]),
    ("zadd", &["0", "x"]),
    ("zrem", &["x"]),
    ("zcard", &[]),
    ("zscore", &["x"]),
    ("zrange", &["0", "0"]),
    ("zrangebyscore", &["-inf", "+inf", "LIMIT", "0", "1"]),
    ("zrangebylex", &["-", "+", "LIMIT", "0", "1"]),
    ("xadd", &["1-0", "e", "x"]),
    ("xdel", &["1-0"]),
    ("xtrim", &["MINID", "0"]),
    ("xrange", &["-", "+", "COUNT", "1"]),
];

/// Commands that are sent as they are, with harmless arguments; `KEY` stands for a key.
pub(super) const OUTSIDE: &[(&str, &[&str])] = &[
    ("ping", &[]),
    ("time", &[]),
    ("wait", &["0", "1"]),
    ("xread", &["COUNT", "1", "STREAMS", "KEY", "0"]),
    ("eval", &["return 1", "1", "KEY"]),
    ("evalsha", &["e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "1", "KEY"]),
];

/// Those of a cluster.
pub(super) const OF_A_CLUSTER: &[(&str, &[&str])] = &[("cluster|slots", &[]), ("cluster|myid", &[]), ("asking", &[])];

/// Without these the service runs, and checks or shows less.
pub(super) const USEFUL: &[&str] = &["config|get", "client|setname"];

/// Rights without which nothing runs, by name.
fn needed(cluster: bool) -> impl Iterator<Item = &'static str> {
    let of_a_cluster = if cluster { OF_A_CLUSTER } else { &[] };
    ["info"].into_iter().chain([OUTSIDE, INSIDE, of_a_cluster].into_iter().flatten().map(|(name, _)| *name))
}

/// The command that makes the user that the service asks as, with the rights that it needs and no others. `PASSWORD`
/// in it is to be replaced. The user of a database other than 0 needs `+select` besides.
#[must_use]
pub fn acl_line(user: &str, prefix: &str, cluster: bool) -> String {
    let mut line = format!("ACL SETUSER {user} on >PASSWORD resetkeys ~{prefix}* resetchannels -@all");
    for right in needed(cluster).chain(USEFUL.iter().copied()) {
        line.push_str(" +");
        line.push_str(right);
    }
    line
}

/// Tries each command of [`INSIDE`] on the one key, and gives the errors with the names.
pub(super) const PROBE: &str = "local bad = {} local i = 1 while i <= #ARGV do local n = tonumber(ARGV[i + 1]) \
     local call = {ARGV[i]} if ARGV[i] ~= 'time' then call[2] = KEYS[1] end \
     for j = 1, n do call[#call + 1] = ARGV[i + 1 + j] end local r = redis.pcall(unpack(call)) \
     if type(r) == 'table' and r.err then bad[#bad + 1] = ARGV[i] bad[#bad + 1] = r.err end i = i + 2 + n end \
     redis.pcall('del', KEYS[1]) return bad";

/// Whether this is said to whoever may not.
pub(super) fn forbids(text: &str) -> bool {
    ["NOPERM", "permission", "can't run"].iter().any(|word| text.contains(word))
}

/// The command that is named in what is said to whoever may not: `… no permissions to run the 'ping' command`.
pub(super) fn named_in(said: &str) -> Option<&str> {
    let name = said.split('\'').nth(1)?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'|' | b'-')).then_some(name)
}

/// What the probe says is forbidden: names, and what was said.
pub(super) fn forbidden(answer: &Value) -> Vec<(String, String)> {
    let Value::Array(parts) = answer else { return Vec::new() };
    let pair = |pair: &[Value]| {
        let [name, said] = pair else { return None };
        Some((super::answers::text(name)?.to_owned(), super::answers::text(said)?.to_owned()))
    };
    parts.chunks(2).filter_map(pair).filter(|(_, said)| forbids(said)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_our_scripts_is_among_the_rights() {
        for script in [include_str!("../look.lua"), include_str!("../commit.lua"), include_str!("../rotate.lua")] {
            for (at, call) in script.match_indices("call('") {
                let name = script[at + call.len()..].split('\'').next().unwrap().to_lowercase();
                assert!(needed(false).any(|right| right == name), "{name}");
            }
        }
    }
}
