//! Prints the hostile tokens of the test suite, made with a fresh key, as JSON: to show them to other verifiers.
//!
//! One object with `issuer`, `audience`, `now`, `jwks` and `vectors`: `[{"name", "token", "expect_code"}]`, where
//! `expect_code` is `accepted` or the code of the reason for which Rescind refuses the token. Times are those of the
//! moment, so show them soon.

#[path = "../tests/common/hostile.rs"]
mod hostile;

use std::io::Write;

use hostile::forge::{AUDIENCE, Forge, ISSUER};
use rescind::{
    clock::{Clock, SystemClock},
    verifier::Rejection,
};
use serde_json::json;

fn main() -> std::io::Result<()> {
    let f = Forge::new(SystemClock::default().now().seconds());
    let code = |expect: &Option<Rejection>| expect.as_ref().map_or("accepted", Rejection::code);
    let vectors: Vec<_> = hostile::table(&f)
        .iter()
        .map(|v| json!({ "name": v.name, "token": v.token, "expect_code": code(&v.expect) }))
        .collect();
    let all = json!({ "issuer": ISSUER, "audience": AUDIENCE, "now": f.now, "jwks": f.jwks(), "vectors": vectors });
    writeln!(std::io::stdout().lock(), "{all:#}")
}
