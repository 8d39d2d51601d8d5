//! Where a request comes from, which ranges of a scope and the audit log go by.

use crate::accept::Peer;
use crate::config::Http;
use http::HeaderName;
use http::request::Parts;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The caller's address: the connection's other end, or, when that is one of `http.trusted_proxies`, the last address in
/// `X-Forwarded-For` that is not. Each proxy appends whom it saw, so what stands before the first one that nobody trusts
/// is anybody's word. A list that can't be read is nobody's word, and the proxy itself counts as the caller.
pub fn address(head: &Parts, http: &Http) -> Option<IpAddr> {
    let peer = head.extensions.get::<Peer>()?.0.to_canonical();
    let trusted = |address: &IpAddr| http.trusted_proxies.iter().any(|range: &IpNet| range.contains(address));
    if !trusted(&peer) {
        return Some(peer);
    }
    let mut claimed = Vec::new();
    for value in head.headers.get_all(FORWARDED_FOR) {
        let Ok(text) = value.to_str() else { return Some(peer) };
        for part in text.split(',') {
            let Some(address) = parse(part.trim()) else { return Some(peer) };
            claimed.push(address);
        }
    }
    let caller = claimed.iter().rev().find(|address| !trusted(address)).or(claimed.first());
    Some(caller.copied().unwrap_or(peer))
}

/// With or without a port, as some proxies write it.
fn parse(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, forwarded: &[&str]) -> String {
        let mut http = crate::config::Config::load(None).unwrap().http;
        http.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut request = http::Request::builder();
        for value in forwarded {
            request = request.header(FORWARDED_FOR, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.extensions.insert(Peer(peer.parse().unwrap()));
        address(&head, &http).unwrap().to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_is_believed() {
        assert_eq!(from("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(from("::ffff:10.0.0.1", &["::ffff:198.51.100.1"]), "198.51.100.1");
        assert_eq!(from("fd00::1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_of_ours_counts() {
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["1.1.1.1", "198.51.100.1,10.9.9.9"]), "198.51.100.1", "two fields are one list");
        assert_eq!(from("10.0.0.1", &["10.0.0.7, 10.0.0.2"]), "10.0.0.7", "a caller among the proxies");
        assert_eq!(from("10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
    }

    #[test]
    fn a_list_that_can_not_be_read_counts_for_nothing() {
        for malformed in ["", "unknown", "198.51.100.1,", "198.51.100.1, _hidden", "198.51.100.256", "1.2.3.4;5.6.7.8"]
        {
            assert_eq!(from("10.0.0.1", &[malformed]), "10.0.0.1", "{malformed:?}");
        }
    }
}
