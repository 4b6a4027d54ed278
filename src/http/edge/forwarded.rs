//! The two ways in which proxies write down addresses. One entry per hop; none for what is no address.

use std::net::{IpAddr, SocketAddr};

/// Reads one line of a header.
pub(super) type Reader = fn(&str) -> Vec<Option<IpAddr>>;

/// `203.0.113.7, 198.51.100.1`; ports are there with some proxies.
pub(super) fn x_forwarded_for(line: &str) -> Vec<Option<IpAddr>> {
    line.split(',').map(|hop| address(hop.trim())).collect()
}

/// `for=203.0.113.7;proto=https, for="[2001:db8::1]:4711"` (RFC 7239 §4).
pub(super) fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    let Some(elements) = split(line, ',') else { return vec![None] };
    elements.into_iter().map(named).collect()
}

/// The node that an element names, if it names exactly one.
fn named(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';')?;
    let mut found = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = found.next()?;
    if found.next().is_some() {
        return None;
    }
    // No escapes: an address needs none (RFC 7239 §6).
    let bare = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    address(bare)
}

/// Splits outside of quoted strings. None if one does not end.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == at && !quoted => {
                parts.push(&text[from..i]);
                from = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    (!quoted).then_some(parts)
}

fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|at| at.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}
