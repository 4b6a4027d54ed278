//! Verifiers that are not ours, and for how long each holds a key set: the one table for the command line and for the
//! documents. None of them hears of a revocation; what they do with a key that has been given up follows from it alone.

use std::time::Duration;

/// A kind of verifier.
pub(super) struct Foreign {
    /// As people know it.
    pub(super) name: &'static str,
    /// For how long it holds a key set, if nobody has told it otherwise. None: there is no default to speak of.
    pub(super) holds: Option<Duration>,
    /// What says so.
    pub(super) setting: &'static str,
    /// What it does with a token of a key that is not in the set it holds.
    pub(super) unknown: &'static str,
    /// How it is made to fetch the set now.
    pub(super) sooner: &'static str,
}

const fn minutes(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n * 60))
}

/// All that we know of.
pub(super) const FOREIGN: &[Foreign] = &[
    Foreign {
        name: "PyJWT, PyJWKClient",
        holds: minutes(5),
        setting: "lifespan; with cache_keys=True a key is held until the process ends",
        unknown: "fetches the set at once",
        sooner: "restart the process",
    },
    Foreign {
        name: "jose, createRemoteJWKSet",
        holds: minutes(10),
        setting: "cacheMaxAge",
        unknown: "fetches the set, once in 30s (cooldownDuration)",
        sooner: "restart the process, or call reload()",
    },
    Foreign {
        name: "Envoy, remote_jwks",
        holds: minutes(10),
        setting: "cache_duration",
        unknown: "refuses it until the set is fetched again",
        sooner: "restart it",
    },
    Foreign {
        name: "nginx, auth_jwt_key_request",
        holds: None,
        setting: "auth_jwt_key_cache, and proxy_cache_valid of the location",
        unknown: "refuses it until the set is fetched again",
        sooner: "reload it, and empty its cache",
    },
    Foreign {
        name: "anything else",
        holds: None,
        setting: "its own settings, or the max-age of the key set",
        unknown: "see its manual",
        sooner: "restart it",
    },
];

#[cfg(test)]
mod tests {
    use super::FOREIGN;
    use crate::keyring::Timing;

    #[test]
    fn keys_are_published_long_enough_for_each_of_them() {
        let timing = Timing::default();
        for foreign in FOREIGN {
            assert!(foreign.holds.is_none_or(|holds| holds <= timing.client_cache), "{}", foreign.name);
            assert!(foreign.holds.is_none_or(|holds| 2 * holds <= timing.publish_ahead), "{}", foreign.name);
        }
    }
}
