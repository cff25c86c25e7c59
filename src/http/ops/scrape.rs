//! `GET /metrics`: what is counted, and what is looked up when somebody asks.

use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::Ops;
use crate::http::answer::{self, Answer};
use crate::ledger::Health;
use crate::logs;

impl Ops {
    pub(super) async fn scrape(&self) -> Answer {
        self.look_up_stock();
        self.look_up_lanes();
        self.metrics.counter("floodgate_log_lines_dropped_total", &[]).absolute(logs::dropped());
        let up = |backend: &str, up: bool| {
            let labels = [("backend", backend.to_owned())];
            self.metrics.gauge("floodgate_backend_up", &labels).set(f64::from(u8::from(up)));
        };
        up("ledger", self.ledger_works());
        up("store", !self.progress.is_failing() && self.store_answers().await);
        for (backend, condition) in self.breakers() {
            let labels = [("backend", backend.to_owned())];
            let gauge = self.metrics.gauge("floodgate_breaker_state", &labels);
            gauge.set(f64::from(condition.number()));
        }
        let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer::of(StatusCode::OK, media, self.metrics.render())
    }

    fn look_up_stock(&self) {
        for (sale, card) in self.gate.catalog().sales().iter() {
            for (item, units) in card.definition().items.iter().zip(card.items()) {
                let states = [
                    ("available", units.available()),
                    ("held", units.held()),
                    ("confirmed", units.confirmed()),
                ];
                for (state, units) in states {
                    let labels = [
                        ("sale", sale.to_string()),
                        ("item", item.id.to_string()),
                        ("state", state.to_owned()),
                    ];
                    self.metrics.gauge("floodgate_stock_units", &labels).set(units as f64);
                }
            }
        }
    }

    fn look_up_lanes(&self) {
        for lane in self.gate.lane_statuses() {
            let labels = [("lane", lane.lane.to_string())];
            let gauge = |name, value| self.metrics.gauge(name, &labels).set(value);
            gauge("floodgate_lane_queue_depth", lane.gauge.waiting as f64);
            gauge("floodgate_lane_wait_seconds", lane.gauge.wait.as_secs_f64());
            let abandoned = self.metrics.counter("floodgate_lane_abandoned_total", &labels);
            abandoned.absolute(lane.gauge.abandoned);
            gauge("floodgate_outbox_entries", lane.undigested as f64);
            gauge("floodgate_writer_lag_seconds", lane.lag.as_secs_f64());
            let fenced = lane.health == Health::Fenced;
            gauge("floodgate_lane_fenced", f64::from(u8::from(fenced)));
        }
    }
}
