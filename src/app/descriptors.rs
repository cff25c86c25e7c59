//! File descriptors: as many as the process may have, and how many of them connections get.
//!
//! A process that runs out of them can neither accept nor open a journal. So the connections of both
//! listeners are bounded such that the ledger and the books always find what they need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Settings;
use crate::limits;
use crate::runtimes;

/// How many connections each listener may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Buyers.
    pub public: usize,
    /// Operators and probes.
    pub ops: usize,
}

/// Raises the process's soft limit to its hard one. Where that fails the soft one holds.
pub fn raise() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of descriptors stays as it is");
    }
}

/// What connections get of the descriptors that this process may have now.
pub fn share(settings: &Settings) -> Share {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    share_of(limit, settings)
}

/// As many as all connections and everything else want together.
pub fn wanted(settings: &Settings) -> u64 {
    let all = settings.http.connections_max + limits::OPS_CONNECTIONS_MAX + reserved(settings);
    u64::try_from(all).unwrap_or(u64::MAX)
}

fn share_of(limit: usize, settings: &Settings) -> Share {
    // With none to spare a few connections are still better than no gateway.
    let spare = limit.saturating_sub(reserved(settings)).max(limits::OPS_SHARE);
    let ops = (spare / limits::OPS_SHARE).min(limits::OPS_CONNECTIONS_MAX);
    Share { public: (spare - ops).min(settings.http.connections_max), ops }
}

/// For everything but connections.
fn reserved(settings: &Settings) -> usize {
    let lanes = usize::from(settings.ledger.lanes);
    let ledger = match settings.redis_url {
        Some(_) => lanes * (settings.ledger.in_flight + limits::REDIS_CONNECTIONS_BESIDE),
        None => lanes * limits::DESCRIPTORS_PER_LANE,
    };
    let store = match settings.database_url {
        Some(_) => limits::STORE_WRITERS + settings.store.connections,
        None => 0,
    };
    // An environment that says nonsense has kept the gateway from starting before.
    let runtimes = runtimes::wanted().unwrap_or(1) * limits::DESCRIPTORS_PER_RUNTIME;
    limits::DESCRIPTORS_RESERVED + ledger + store + runtimes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that connections never get what the rest needs, that both listeners get some of few,
    /// and no more than they may of many.
    #[test]
    fn shares() {
        let settings = Settings::default();
        for limit in [0, 64, 128, 256, 1_024, 20_000, usize::MAX] {
            let Share { public, ops } = share_of(limit, &settings);
            assert!(public > 0 && ops > 0, "{limit}");
            assert!(public <= limits::CONNECTIONS_MAX && ops <= limits::OPS_CONNECTIONS_MAX);
            if limit >= 256 {
                assert!(public + ops + reserved(&settings) <= limit, "{limit}");
            }
        }
        let full = usize::try_from(wanted(&settings)).unwrap();
        let most = Share { public: limits::CONNECTIONS_MAX, ops: limits::OPS_CONNECTIONS_MAX };
        assert_eq!(share_of(full, &settings), most);
    }
}
