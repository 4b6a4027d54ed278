//! What must hold of any body that is sent as a form.

use super::form::Form;

/// Each parameter once, none without a value, and the same when it is written down and read again.
pub(crate) fn form(body: &[u8]) {
    let Ok(form) = Form::read(body) else { return };
    let pairs = form.pairs();
    assert!(pairs.len() <= 64 && pairs.iter().all(|(_, value)| !value.is_empty()));
    let mut again = form_urlencoded::Serializer::new(String::new());
    again.extend_pairs(&pairs);
    let Ok(again) = Form::read(again.finish().as_bytes()) else { panic!("what was a form is one") };
    assert_eq!(again.pairs(), pairs);
}
