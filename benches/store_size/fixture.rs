//! The family that is weighed.

use rescind::model::{
    Subject, Timestamp,
    audit::{Draft, Origin},
    session::{Device, Identity},
};

const ADDRESS: &str = "203.0.113.7";
const USER_AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 (a user agent of 100 bytes..)";

/// The `number`th session. Its nonce and its end are set by the one who opens it.
pub(crate) fn identity(number: usize) -> Identity {
    assert_eq!(USER_AGENT.len(), 100);
    Identity {
        subject: subject(number),
        client: "web".parse().expect("a client id"),
        audience: vec!["api".parse().expect("an audience")],
        scope: "read".parse().expect("a scope"),
        claims: r#"{"org":"acme-corporation","role":"member"}"#.into(),
        device: Device {
            label: Some("Firefox on Linux".into()),
            ip: Some(ADDRESS.into()),
            user_agent: Some(USER_AGENT.into()),
        },
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        absolute_until: Timestamp::from_millis(0),
        nonce: [0; 16],
    }
}

/// What the service writes into its audit log about it.
pub(crate) fn draft(number: usize) -> Draft {
    let web = "web".parse().ok();
    let origin = Origin { ip: Some(ADDRESS.into()), user_agent: Some(USER_AGENT.into()) };
    Draft { actor: web.clone(), client: web, subject: Some(subject(number)), origin }
}

/// 40 bytes.
fn subject(number: usize) -> Subject {
    format!("urn:example:people:{number:021}").parse().expect("a subject")
}
