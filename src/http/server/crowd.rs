//! How many connections each address has open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

/// Counts connections by address, and refuses those that are too many. Bounded by the connections
/// that are open at all.
#[derive(Debug)]
pub(super) struct Crowd {
    max: usize,
    /// Proxies bring everybody's connections: they are not counted.
    trusted: Vec<IpNet>,
    open: Mutex<HashMap<Origin, usize>>,
}

/// Where connections come from: an IPv4 address, or the network that is one customer's in IPv6 (/64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Origin::V4(address.octets()),
            IpAddr::V6(address) => {
                let octets = address.octets();
                Origin::V6(std::array::from_fn(|index| octets[index]))
            }
        }
    }
}

/// A connection's place in the crowd, given back when dropped. Empty for those that are not counted.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Crowd>, Origin)>);

impl Crowd {
    pub(super) fn new(max: usize, trusted: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { max, trusted, open: Mutex::default() })
    }

    /// Whether this peer may speak for others.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// A place for one more connection of an address; `None` where it has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if self.trusts(address) {
            return Some(Place(None));
        }
        let origin = Origin::of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(origin).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place(Some((Arc::clone(self), origin))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((crowd, origin)) = self.0.take() else { return };
        let mut open = crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(origin) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Proves that addresses are bounded apart, IPv6 by /64, an IPv4 address in either notation as
    /// one; that places come back; that proxies are not bounded; and that nothing is kept of those
    /// who have gone.
    #[test]
    fn places() {
        let crowd = Crowd::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let places: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2:1"]
            .iter()
            .map(|text| crowd.admit(ip(text)).unwrap())
            .collect();
        for full in ["192.0.2.1", "2001:db8::ffff"] {
            assert!(crowd.admit(ip(full)).is_none(), "{full}");
        }
        for other in ["192.0.2.2", "2001:db8:0:1::1"] {
            assert!(crowd.admit(ip(other)).is_some(), "{other}");
        }
        let proxied: Vec<_> = (0..9).map(|_| crowd.admit(ip("10.1.2.3")).unwrap()).collect();
        drop((places, proxied));
        assert!(crowd.admit(ip("192.0.2.1")).is_some());
        assert!(crowd.open.lock().unwrap().is_empty());
    }
}
