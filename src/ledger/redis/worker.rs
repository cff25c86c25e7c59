//! A worker of a lane: takes what waits, makes one call of it, and tells.
//!
//! A lane has a few workers, each a thread with a connection of its own. While one waits for Redis the
//! next batch gathers for another; which of them calls first does not matter, for every call is one
//! atomic step.

use metrics::Histogram;
use std::sync::Arc;
use std::time::Duration;

use super::caller::{Caller, Common, Done};
use super::lane::{Lane, TICK};
use crate::ledger::lane::Tray;
use crate::ledger::postman::Postman;
use crate::ledger::{Answer, Ticket};
use crate::{clock, crash, limits};

pub(super) struct Worker {
    pub(super) caller: Caller,
    pub(super) tray: Tray,
    postman: Postman,
    call_seconds: Histogram,
}

impl Worker {
    pub(super) fn new(lane: Arc<Lane>, tray: Tray, common: Arc<Common>, postman: Postman) -> Self {
        let op = [("op", "batch".to_owned())];
        let call_seconds = common.around.metrics.histogram("floodgate_ledger_call_seconds", &op);
        Self { caller: Caller::new(lane, common), tray, postman, call_seconds }
    }

    /// Works until it is to stop, and serves what waits until then.
    pub(super) fn serve(mut self) {
        let max = self.caller.common.settings.batch_max;
        let mut batch = Vec::with_capacity(max);
        let mut before = 0;
        loop {
            // Whoever cannot serve takes nothing from those who can.
            clock::sleep(self.caller.shut_out());
            if !self.tray.collect_some(&mut batch, max, TICK) {
                break;
            }
            if before >= limits::REDIS_CROWD {
                // In a crowd more come meanwhile, and most of what a small call costs it costs empty, too.
                clock::sleep(Duration::from_micros(limits::REDIS_GATHER_US));
                self.tray.take(&mut batch, max);
            }
            before = batch.len();
            if self.tray.is_over(&mut batch, max, &self.caller.common.stop) {
                break;
            }
            if !batch.is_empty() {
                self.serve_batch(&mut batch);
            }
        }
    }

    pub(super) fn serve_batch(&mut self, batch: &mut Vec<Ticket>) {
        let started = clock::instant();
        let called = self.caller.call(batch, None, started);
        let common = &self.caller.common;
        common.around.metrics.ledger_batch_size.record(batch.len() as f64);
        self.call_seconds.record(clock::elapsed(started).as_secs_f64());
        self.tray.served(batch.len(), common.settings.batch_max, started);
        match called {
            Ok(Done { head, outcomes, .. }) => {
                let position = head.position;
                let told = batch.drain(..).zip(outcomes);
                let mail = told.map(|(ticket, outcome)| {
                    (ticket.reply, outcome.map(|outcome| Answer { outcome, position }))
                });
                self.postman.take(mail.collect());
                crash::point("redis: told");
            }
            Err(fault) => {
                self.postman
                    .take(batch.drain(..).map(|ticket| (ticket.reply, Err(fault))).collect());
            }
        }
    }
}
