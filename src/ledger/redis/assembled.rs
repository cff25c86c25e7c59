//! A ledger whose threads a simulation runs, instead of the system.

use std::sync::Arc;
use std::time::Duration;

use super::caller::Common;
use super::lane::Lane;
use super::recovery;
use super::server::Server;
use super::watcher::Watcher;
use super::worker::Worker;
use super::{Around, RedisLedger, Settings, inbox, postman};
use crate::clock;
use crate::limits;
use crate::sale::LaneId;

/// One of its threads, which has not begun.
pub(crate) struct Idle(Kind);

enum Kind {
    Serves(Worker),
    Watches(Watcher),
}

/// The ledger, and who is to work for it.
pub(crate) fn assemble(
    server: &Arc<Server>,
    settings: Settings,
    around: &Around,
    name: String,
) -> (RedisLedger, Vec<Idle>) {
    let common = Arc::new(Common {
        server: Arc::clone(server),
        settings,
        around: around.clone(),
        stop: Arc::default(),
    });
    let gateway = recovery::Gateway { name, lanes: settings.lanes };
    let (mut lanes, mut threads) = (Vec::new(), Vec::new());
    for id in (0..settings.lanes).map(LaneId) {
        let (inbox, tray) = inbox(limits::LANE_INBOX);
        let lane = Arc::new(Lane::new(id, gateway.clone()));
        let watcher = Watcher::new(Arc::clone(&lane), Arc::clone(&common));
        threads.push(Idle(Kind::Watches(watcher)));
        for _ in 0..settings.in_flight {
            let (lane, common) = (Arc::clone(&lane), Arc::clone(&common));
            let worker = Worker::new(lane, tray.clone(), common, postman::start(&around.runtimes));
            threads.push(Idle(Kind::Serves(worker)));
        }
        lanes.push((inbox, lane));
    }
    (RedisLedger { lanes }, threads)
}

impl Idle {
    /// Works for ever. `rests` returns when there may be something to do, or after the time that it is given.
    pub(crate) fn work(self, rests: impl Fn(Duration)) {
        match self.0 {
            Kind::Watches(watcher) => watcher.watch(),
            Kind::Serves(worker) => serve(worker, rests),
        }
    }
}

/// As a worker serves by itself, but for who keeps it while there is nothing to do.
fn serve(mut worker: Worker, rests: impl Fn(Duration)) {
    let max = worker.caller.common.settings.batch_max;
    let mut batch = Vec::with_capacity(max);
    loop {
        clock::sleep(worker.caller.shut_out());
        worker.tray.take(&mut batch, max);
        if batch.is_empty() {
            rests(Duration::from_millis(limits::REDIS_TICK_MS));
        } else {
            worker.serve_batch(&mut batch);
        }
    }
}
