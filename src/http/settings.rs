//! The keys of the front end, below `http`: what operators may move, and how far.

use serde::{Deserialize, Serialize};

use super::cors::Cors;
use crate::limits;

/// Keys of the public listener. Those in milliseconds hold for the ops listener as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Open connections. Fewer where the process has not the descriptors.
    pub connections_max: usize,
    /// Open connections of one address, but for trusted proxies; IPv6 by /64.
    pub connections_per_address: usize,
    /// A connection ends with this many answers.
    pub connection_requests: u64,
    /// A connection ends with the first answer after so long.
    pub connection_ms: u64,
    /// From a request's first byte, or the connection's begin, to the end of its head.
    pub head_ms: u64,
    /// Between two requests.
    pub idle_ms: u64,
    /// For a whole body.
    pub body_ms: u64,
    /// An answer of which the peer takes nothing for so long is given up.
    pub write_stall_ms: u64,
    /// Web pages of these origins may call the public API; `*` is every page.
    pub cors_origins: Vec<String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS_MAX,
            connection_requests: limits::CONNECTION_REQUESTS_MAX,
            connection_ms: limits::CONNECTION_MS,
            head_ms: limits::HEAD_READ_MS,
            idle_ms: limits::IDLE_MS,
            body_ms: limits::BODY_READ_MS,
            write_stall_ms: limits::WRITE_STALL_MS,
            cors_origins: Vec::new(),
        }
    }
}

impl HttpSettings {
    /// What is wrong with the keys; each fault names its own.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value) in [
            ("connections_max", self.connections_max),
            ("connections_per_address", self.connections_per_address),
        ] {
            if value == 0 || value > limits::CONNECTIONS_SETTING_MAX {
                let max = limits::CONNECTIONS_SETTING_MAX;
                faults.push(format!("http.{key} must be 1 to {max}"));
            }
        }
        if self.connection_requests == 0 {
            faults.push("http.connection_requests must be at least 1".to_owned());
        }
        let (least, most) = (limits::TIMEOUT_MS_MIN, limits::TIMEOUT_MS_MAX);
        let drained = limits::REQUEST_READ_MS_MAX;
        for (key, value, most) in [
            ("connection_ms", self.connection_ms, most),
            ("head_ms", self.head_ms, drained),
            ("idle_ms", self.idle_ms, most),
            ("body_ms", self.body_ms, drained),
            ("write_stall_ms", self.write_stall_ms, most),
        ] {
            if !(least..=most).contains(&value) {
                faults.push(format!("http.{key} must be {least} to {most}"));
            }
        }
        if let Err(fault) = Cors::of(&self.cors_origins) {
            faults.push(format!("http.cors_origins: {fault}"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that the defaults are fine, and that each key out of its bounds is named.
    #[test]
    fn faults_name_their_keys() {
        assert_eq!(HttpSettings::default().faults(), Vec::<String>::new());
        let bad = HttpSettings {
            connections_max: 0,
            connections_per_address: 0,
            connection_requests: 0,
            connection_ms: 0,
            head_ms: limits::REQUEST_READ_MS_MAX + 1,
            idle_ms: 0,
            body_ms: limits::REQUEST_READ_MS_MAX + 1,
            write_stall_ms: limits::TIMEOUT_MS_MAX + 1,
            cors_origins: vec!["shop.example".to_owned()],
        };
        let faults = bad.faults();
        let keys = serde_json::to_value(&bad).unwrap();
        for key in keys.as_object().unwrap().keys() {
            assert!(faults.iter().any(|fault| fault.contains(&format!("http.{key}"))), "{key}");
        }
        assert_eq!(faults.len(), keys.as_object().unwrap().len(), "{faults:?}");
    }
}
