//! An API whose routes ask for tokens of an issuer. It verifies them offline, and refuses what is revoked.
//!
//! ```sh
//! cargo run -- dev                                                   # an issuer; it prints its address
//! cargo run --example axum_orders -- --issuer http://127.0.0.1:…     # this; its first line is its own address
//! ```

use std::{io::Write, sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{delete, get, post},
};
use rescind::{
    guard::RequireToken,
    model::claims::Claims,
    verifier::{Verified, Verifier},
};

/// Nobody but the verifier makes a `Verified`: a handler that has one need not check anything again.
async fn list(who: Verified<Claims>) -> String {
    format!("the orders of {}\n", who.subject)
}
async fn place(who: Verified<Claims>) -> String {
    format!("an order for {}\n", who.subject)
}
async fn wipe(who: Verified<Claims>) -> String {
    format!("{} has no orders any more\n", who.subject)
}

fn orders(verifier: Verifier) -> Router {
    let verifier = Arc::new(verifier);
    let token = || RequireToken::new(verifier.clone()).realm("orders");
    Router::new()
        .route("/orders", get(list).layer(token().scope("orders:read")))
        .route("/orders", post(place).layer(token().scope("orders:write")))
        // Who does this has authenticated within the last five minutes (RFC 9470).
        .route("/orders", delete(wipe).layer(token().scope("orders:write").max_age(Duration::from_secs(300))))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let issuer = argument("--issuer").ok_or_else(|| anyhow::anyhow!("usage: axum_orders --issuer URL"))?;
    let audience = argument("--audience").unwrap_or_else(|| "api".into());
    let listen = argument("--listen").unwrap_or_else(|| "127.0.0.1:0".into());
    let max_staleness = argument("--max-staleness").unwrap_or_else(|| "30".into()).parse().map(Duration::from_secs)?;
    // Until it has read the issuer's feed, and whenever it has not heard of it for so long, the answer is 503.
    let verifier = Verifier::builder(issuer).audience(audience).max_staleness(max_staleness).follow()?;
    let listener = tokio::net::TcpListener::bind(listen).await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    axum::serve(listener, orders(verifier)).await?;
    Ok(())
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}
