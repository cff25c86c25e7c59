//! The client's address: the peer's, or what trusted proxies say it is.
//!
//! A header is looked at only if the peer is a trusted proxy, and from the right: each hop writes the
//! address of the one before it at the end, so the rightmost entry is the peer's word, and an entry is
//! worth reading only if the hop that wrote it is trusted. The first address that is not a trusted
//! proxy's is the client's. What stands to the left of it is the client's own invention.

pub mod forwarded;

use std::net::IpAddr;

use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;
use metrics::Counter;
use serde::{Deserialize, Serialize};

use self::forwarded::{Hops, walk};
use crate::metrics::Metrics;

/// Which header names the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAddress {
    /// Whichever of the two is there. Where both are and disagree, one of them is not the proxy's word
    /// but the client's, so neither counts.
    #[default]
    Auto,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// None: a peer that is a trusted proxy names no client.
    Peer,
}

/// What is known of a client's address, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The peer itself: it is no trusted proxy.
    Peer(IpAddr),
    /// A trusted proxy says so.
    Named(IpAddr),
    /// The trusted proxies name nobody, or one of their own.
    Unnamed,
    /// The header is broken. The address is the last trusted hop's: whoever breaks headers shares its
    /// bucket with others who do.
    Invalid(IpAddr),
    /// Two headers disagree. The address is the peer's, for the same reason.
    Contradicted(IpAddr),
}

impl Client {
    /// The address by which the client is limited.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Client::Peer(address)
            | Client::Named(address)
            | Client::Invalid(address)
            | Client::Contradicted(address) => Some(address),
            Client::Unnamed => None,
        }
    }
}

/// Finds clients' addresses, and counts how.
pub(super) struct Clients {
    mode: ClientAddress,
    trusted: Vec<IpNet>,
    peer: Counter,
    named: Counter,
    unnamed: Counter,
    invalid: Counter,
    contradicted: Counter,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Clients {
    pub(super) fn new(mode: ClientAddress, trusted: Vec<IpNet>, metrics: &Metrics) -> Self {
        let counter = |source: &str| {
            metrics.counter("floodgate_client_address_total", &[("source", source.to_owned())])
        };
        Self {
            mode,
            trusted,
            peer: counter("peer"),
            named: counter("named"),
            unnamed: counter("unnamed"),
            invalid: counter("invalid"),
            contradicted: counter("contradicted"),
        }
    }

    /// The address by which the sender of a request is limited, if there is one.
    pub(super) fn address(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let client = resolve(self.mode, &self.trusted, peer, headers);
        let counter = match client {
            Client::Peer(_) => &self.peer,
            Client::Named(_) => &self.named,
            Client::Unnamed => &self.unnamed,
            Client::Invalid(_) => &self.invalid,
            Client::Contradicted(_) => &self.contradicted,
        };
        counter.increment(1);
        client.address()
    }
}

/// Whose request it is, by its peer and its headers.
pub fn resolve(
    mode: ClientAddress,
    trusted: &[IpNet],
    peer: IpAddr,
    headers: &HeaderMap,
) -> Client {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(peer) {
        return Client::Peer(peer);
    }
    let by = |name: &HeaderName, hops: Hops| {
        let lines = headers.get_all(name).iter().rev().map(|line| line.as_bytes());
        walk(peer, is_trusted, lines.flat_map(|line| hops.of(line)))
    };
    let forwarded = || by(&FORWARDED, Hops::Forwarded);
    let x_forwarded_for = || by(&X_FORWARDED_FOR, Hops::XForwardedFor);
    match mode {
        ClientAddress::Peer => Client::Unnamed,
        ClientAddress::Forwarded => forwarded(),
        ClientAddress::XForwardedFor => x_forwarded_for(),
        ClientAddress::Auto if !headers.contains_key(FORWARDED) => x_forwarded_for(),
        ClientAddress::Auto if !headers.contains_key(X_FORWARDED_FOR) => forwarded(),
        ClientAddress::Auto => {
            let client = forwarded();
            if client == x_forwarded_for() { client } else { Client::Contradicted(peer) }
        }
    }
}

#[cfg(test)]
mod tests;
