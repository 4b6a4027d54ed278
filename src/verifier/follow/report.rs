//! Tells the issuer who asks, beside a question that is asked anyway, so that it knows how far this verifier is. It
//! decides nothing here, and an issuer that does not take it answers the question all the same.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::http::basic;
use crate::{
    model::{
        ClientId, VerifierName,
        feed::KeysVersion,
        report::{KEYS, NAME, OUTCOME, Reported},
    },
    verifier::Misuse,
};

/// For how long nothing is reported after the first report that was not taken; doubled by each that follows. Whoever is
/// refused again and again looks like a guesser of secrets.
const REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// As whom a verifier reports.
pub(crate) struct ReportAs {
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) secret: Zeroizing<String>,
}

/// Who reports, and whether that is of any use.
pub(crate) struct Reporter {
    name: HeaderValue,
    authorization: HeaderValue,
    refusals: u32,
    rests_until: Duration,
}

impl Reporter {
    /// # Errors
    /// [`Misuse`]: the name or the client is none.
    pub(crate) fn new(who: ReportAs) -> Result<Self, Misuse> {
        let ReportAs { name, client_id, secret } = who;
        let name: VerifierName = name.parse().map_err(|_| Misuse::ReportName)?;
        let name = HeaderValue::from_str(name.as_str()).map_err(|_| Misuse::ReportName)?;
        let client: ClientId = client_id.parse().map_err(|_| Misuse::ReportClient)?;
        if secret.is_empty() || secret.chars().any(char::is_control) {
            return Err(Misuse::ReportClient);
        }
        let authorization = basic(client.as_str(), &secret);
        Ok(Self { name, authorization, refusals: 0, rests_until: Duration::ZERO })
    }

    /// What goes with a question. None: the last reports were not taken, and it is not time to try again.
    pub(super) fn headers(&self, keys: Option<KeysVersion>, now: Duration) -> Option<HeaderMap> {
        if now < self.rests_until {
            return None;
        }
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(NAME, self.name.clone());
        if let Some(keys) = keys.and_then(|keys| HeaderValue::from_str(&keys.to_string()).ok()) {
            headers.insert(KEYS, keys);
        }
        Some(headers)
    }

    /// What became of a report. None: that cannot be told, because the question was not answered.
    pub(super) fn hear(&mut self, status: u16, headers: &HeaderMap, now: Duration) -> Option<Reported> {
        let outcome = match status {
            200 => Reported::read(headers.get(OUTCOME).and_then(|said| said.to_str().ok())),
            // Something on the way may refuse the question because of the credentials: it is asked without them.
            401 | 403 | 407 | 431 => Reported::Unauthenticated,
            400 => Reported::Malformed,
            _ => return None,
        };
        if outcome == Reported::Taken {
            self.refusals = 0;
        } else {
            self.rests_until = now + (REST * 2_u32.saturating_pow(self.refusals.min(16))).min(LONGEST_REST);
            self.refusals = self.refusals.saturating_add(1);
        }
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporter(name: &str, client: &str, secret: &str) -> Result<Reporter, Misuse> {
        Reporter::new(ReportAs { name: name.into(), client_id: client.into(), secret: Zeroizing::new(secret.into()) })
    }

    #[test]
    fn whoever_is_not_heard_asks_less_and_less_often() {
        let mut reporter = reporter("orders-7", "orders", "secret").unwrap();
        let (mut now, mut rests) = (Duration::from_secs(1000), Vec::new());
        let none = HeaderMap::new();
        for _ in 0..8 {
            assert!(reporter.headers(None, now).is_some());
            assert_eq!(reporter.hear(200, &none, now), Some(Reported::Ignored));
            let rest = (1..).find(|s| reporter.headers(None, now + Duration::from_secs(*s)).is_some()).unwrap();
            rests.push(rest);
            now += Duration::from_secs(rest);
        }
        assert_eq!(rests, [30, 60, 120, 240, 480, 600, 600, 600]);
        assert_eq!(reporter.hear(503, &none, now), None, "an outage is no refusal");
        let mut taken = HeaderMap::new();
        taken.insert(OUTCOME, HeaderValue::from_static("taken"));
        assert_eq!(reporter.hear(200, &taken, now), Some(Reported::Taken));
        assert!(reporter.headers(None, now).is_some());
        assert_eq!(reporter.hear(401, &none, now), Some(Reported::Unauthenticated));
        assert!(reporter.headers(None, now + Duration::from_secs(29)).is_none());
        assert!(reporter.headers(None, now + Duration::from_secs(30)).is_some(), "it begins anew");
    }

    #[test]
    fn what_no_service_could_read_is_not_sent() {
        let long = "n".repeat(65);
        for name in ["", "a b", "a\r\nX-Evil: 1", "é", &long] {
            assert_eq!(reporter(name, "orders", "secret").err(), Some(Misuse::ReportName), "{name:?}");
        }
        for (client, secret) in [("", "secret"), ("a b", "secret"), ("orders", ""), ("orders", "one\ntwo")] {
            assert_eq!(reporter("orders-7", client, secret).err(), Some(Misuse::ReportClient), "{client:?} {secret:?}");
        }
        let reporter = reporter("orders-7", "a:b", "s+c").unwrap();
        let headers = reporter.headers(None, Duration::ZERO).unwrap();
        // RFC 6749 §2.3.1: form-encoded first, so that a colon in the id is none.
        assert_eq!(headers[AUTHORIZATION], "Basic YSUzQWI6cyUyQmM=");
        assert!(headers[AUTHORIZATION].is_sensitive() && !format!("{headers:?}").contains("YSUz"));
    }
}
