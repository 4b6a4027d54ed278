//! Which address a request comes from when proxies stand in between.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use super::forwarded;

/// Addresses that one header may name. Who writes more is no client's proxy.
const MAX_HOPS: usize = 32;

/// Which header a proxy names its client in. Only the one that the proxies are known to write is read: the other would be
/// whatever the client sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Whose word about the client's address is taken.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// The networks of proxies.
    pub trusted: Vec<IpNet>,
    /// Which header they write.
    pub header: AddressHeader,
}

impl Proxies {
    /// Whether this is the address of a proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The client's address: from the peer on back, each proxy's word about the one before it, for as long as it is a
    /// proxy that says so. Words that are no address end it at the last that was one.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut at = peer.to_canonical();
        if !self.trusts(at) {
            return at;
        }
        for hop in self.hops(headers).into_iter().rev().take(MAX_HOPS) {
            let Some(address) = hop else { return at };
            at = address;
            if !self.trusts(at) {
                return at;
            }
        }
        at
    }

    /// What the header says, the client first; none for what is no address.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        let (name, read) = match self.header {
            AddressHeader::XForwardedFor => (X_FORWARDED_FOR, forwarded::x_forwarded_for as forwarded::Reader),
            AddressHeader::Forwarded => (header::FORWARDED, forwarded::forwarded as forwarded::Reader),
        };
        // Several lines are one list (RFC 9110 §5.3). One that is no text is one hop that cannot be read.
        headers.get_all(name).iter().flat_map(|line| line.to_str().map_or_else(|_| vec![None], read)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: AddressHeader, peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|n| n.parse().unwrap()).to_vec();
        let mut headers = HeaderMap::new();
        let name = if header == AddressHeader::Forwarded { "forwarded" } else { "x-forwarded-for" };
        for line in lines {
            headers.append(name, axum::http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Proxies { trusted, header }.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_address_is_counted_from_the_right_past_trusted_proxies() {
        for (peer, lines, expected) in [
            // A stranger's word counts for nothing.
            ("192.0.2.9", &["198.51.100.1"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // What the client claimed lies further left.
            ("10.0.0.1", &["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.7, 198.51.100.1, 10.1.1.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.7", "198.51.100.1,10.1.1.1"], "198.51.100.1"),
            // Garbage ends it at the last hop that can be trusted.
            ("10.0.0.1", &["198.51.100.1, 300.0.0.1"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, unknown, 10.1.1.1"], "10.1.1.1"),
            ("10.0.0.1", &["198.51.100.1,"], "10.0.0.1"),
            ("10.0.0.1", &["\u{e4}"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
            // Ports, brackets, mapped addresses.
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8:2::7]:4711"], "2001:db8:2::7"),
            ("10.0.0.1", &["2001:db8:2::7"], "2001:db8:2::7"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, ::ffff:10.9.9.9"], "198.51.100.1"),
            ("2001:db8:1::1", &["198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(client(AddressHeader::XForwardedFor, peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (lines, expected) in [
            (&["for=198.51.100.1"][..], "198.51.100.1"),
            (&["For=\"198.51.100.1:80\";proto=https;by=10.0.0.1"], "198.51.100.1"),
            (&["for=203.0.113.7, for=198.51.100.1;host=\"a,b;for=6.6.6.6\""], "198.51.100.1"),
            (&["for=\"[2001:db8:2::7]:4711\""], "2001:db8:2::7"),
            (&["for=\"[2001:db8:2::7]\""], "2001:db8:2::7"),
            (&["for=198.51.100.1, for=_hidden"], "10.0.0.1"),
            (&["for=198.51.100.1, for=unknown"], "10.0.0.1"),
            (&["for=198.51.100.1, proto=https"], "10.0.0.1"),
            (&["for=198.51.100.1, for=\"6.6.6.6"], "10.0.0.1"),
            (&["for=198.51.100.1;for=6.6.6.6"], "10.0.0.1"),
            (&["for=198.51.100.1", "for=10.2.2.2"], "198.51.100.1"),
        ] {
            assert_eq!(client(AddressHeader::Forwarded, "10.0.0.1", lines), expected, "{lines:?}");
        }
        let unread = client(AddressHeader::XForwardedFor, "10.0.0.1", &["for=198.51.100.1"]);
        assert_eq!(unread, "10.0.0.1");
    }
}
