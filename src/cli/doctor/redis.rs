//! The Redis that the configuration names, as the service would find it.

use std::{path::Path, sync::Arc, time::Duration};

use super::{super::config::Config, Check};
use crate::{
    clock::SystemClock,
    store::redis::link::{Link, OpenError, Severity},
};

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing where the store is another one, or the configuration cannot be read, which is told elsewhere.
pub(super) async fn examine(config: &Path) -> Vec<Check> {
    let Ok(config) = Config::read(config) else { return Vec::new() };
    let url = match config.redis() {
        Ok(Some(url)) => url,
        Ok(None) => return Vec::new(),
        Err(problem) => return vec![Check::fail("redis", problem.to_string(), "mend what it names")],
    };
    let mut options = config.redis_options();
    if let Some(prefix) = url.prefix() {
        options.prefix = prefix.into();
    }
    let link = match Link::open(&url, &options, Arc::<SystemClock>::default()) {
        Ok(link) => link,
        Err(e) => return vec![Check::fail("redis", e.to_string(), "mend store.url, or the file that it names")],
    };
    // What stands against it is among the findings.
    if let Err(e @ OpenError::Away(_)) = link.ready(PATIENCE).await {
        return vec![Check::fail("redis", e.to_string(), "does Redis run there, and does this machine reach it?")];
    }
    let findings = link.findings();
    if findings.is_empty() {
        return vec![Check::ok("redis", format!("{url} is as it should be"))];
    }
    let check = |finding: &crate::store::redis::link::Finding| {
        let mend = finding.mend.clone().unwrap_or_else(|| "see docs/redis.md".into());
        match finding.severity {
            Severity::Refuse => Check::fail("redis", finding.sentence.clone(), mend),
            Severity::Warn => Check::warn("redis", finding.sentence.clone(), mend),
        }
    };
    findings.iter().map(check).collect()
}
