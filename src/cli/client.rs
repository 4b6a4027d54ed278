//! The HTTP client of the command line: that of the verifiers, with errors as the command line has them.

use std::time::Duration;

use anyhow::Result;
use reqwest::{Client, Response, Url};

use super::Failure;
use crate::verifier::{Verifier, follow::http};

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) fn client_for(issuer: &Url) -> Result<Client> {
    Ok(http::client_for(issuer)?)
}

pub(super) fn check_transport(url: &Url) -> Result<bool> {
    Ok(http::check_transport(url)?)
}

pub(super) async fn body(answer: Response) -> Result<Vec<u8>> {
    Ok(http::body(answer, MAX_ANSWER).await?)
}

/// The address of `--issuer`, if it can be asked.
pub(super) fn issuer(text: &str) -> Result<Url, Failure> {
    let no_url = |_| Failure::usage(format!("--issuer `{text}`: not a URL; write it as https://auth.example"));
    let url = Url::parse(text).map_err(no_url)?;
    check_transport(&url).map(|_| url).map_err(|e| Failure::usage(format!("--issuer: {e}")))
}

/// How long an issuer is given to say what its keys are and what is revoked.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it is given after it could not be asked.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

/// Returns once a verifier has heard of all keys and revocations; else why it has not, if that is known.
pub(super) async fn heard(verifier: &Verifier) -> Result<(), Option<String>> {
    let failed = async {
        tokio::time::sleep(SECOND_CHANCE).await;
        while verifier.health().last_error.is_none() {
            tokio::time::sleep(SECOND_CHANCE).await;
        }
    };
    tokio::select! {
        () = verifier.ready() => return Ok(()),
        () = failed => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
    Err(verifier.health().last_error.map(Into::into))
}
