//! The HTTP client of the command line: that of the verifiers, with errors as the command line has them.

use anyhow::Result;
use reqwest::{Client, Response, Url};

use crate::verifier::follow::http;

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
