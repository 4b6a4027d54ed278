//! What a redis-server uses memory for.

use std::{collections::BTreeMap, io};

use crate::redis::Redis;

/// Goes on through the keys from a cursor. Gives the next, then for each kind of key: its name, how many, how many bytes.
const PAGE: &str = "local found = redis.call('SCAN', ARGV[1], 'COUNT', 20000) \
    local count, bytes = {}, {} \
    for _, key in ipairs(found[2]) do \
      local kind = (string.match(key, '{hub}:%a+') or string.match(key, '}:(%a+)') or 'other') \
      count[kind] = (count[kind] or 0) + 1 \
      bytes[kind] = (bytes[kind] or 0) + (redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '0') or 0) \
    end \
    local out = {found[1]} \
    for kind, n in pairs(count) do out[#out + 1] = kind .. ' ' .. n .. ' ' .. string.format('%d', bytes[kind]) end \
    return out";

/// What is used, and by which kind of key: how many there are, and their bytes.
pub(crate) struct Weight {
    used: f64,
    kinds: BTreeMap<String, (f64, f64)>,
}

impl Weight {
    /// More than `empty`.
    pub(crate) fn take(redis: &Redis, empty: f64) -> io::Result<Self> {
        let used = redis.number("memory", "used_memory")? - empty;
        let mut kinds: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let page = redis.cli(&["EVAL", PAGE, "0", &cursor])?;
            let mut lines = page.lines();
            lines.next().unwrap_or("0").trim().clone_into(&mut cursor);
            for line in lines {
                let [kind, count, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
                let sum = kinds.entry(kind.to_owned()).or_default();
                sum.0 += count.parse().unwrap_or(0.0);
                sum.1 += bytes.parse().unwrap_or(0.0);
            }
            if cursor == "0" {
                return Ok(Self { used, kinds });
            }
        }
    }

    /// What has come since.
    pub(crate) fn less(&self, before: &Self) -> Self {
        let mut kinds = self.kinds.clone();
        for (kind, (count, bytes)) in &before.kinds {
            if let Some(now) = kinds.get_mut(kind) {
                *now = (now.0 - count, now.1 - bytes);
            }
        }
        Self { used: self.used, kinds }
    }

    pub(crate) fn of_each(&self, count: usize) -> f64 {
        self.used / count as f64
    }

    pub(crate) fn print(&self, count: usize, what: &str) {
        println!("{:6.1} bytes of used_memory for each {what}, all in", self.of_each(count));
        let mut kinds: Vec<_> = self.kinds.iter().filter(|(_, (_, bytes))| *bytes != 0.0).collect();
        kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (kind, (keys, bytes)) in kinds {
            println!("    {kind:16} {keys:9.0} keys {:7.1}", bytes / count as f64);
        }
        let keys: f64 = self.kinds.values().map(|(_, bytes)| bytes).sum();
        println!("    {:16} {:>9}      {:7.1}", "all else", "", (self.used - keys) / count as f64);
    }
}
