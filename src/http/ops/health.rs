//! `GET /readyz`: whether this gateway should get traffic. With `?verbose` each reason by name.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Ops, State};
use crate::admission::Condition;
use crate::http::answer::{self, Answer};
use crate::http::request::Head;
use crate::ledger::Health;
use crate::limits;
use crate::switches::Switch;

/// A store that does not answer a trivial question in this time does not count as ready.
const PING: Duration = Duration::from_millis(500);

impl Ops {
    /// Whether the store answers, and soon.
    pub(super) async fn store_answers(&self) -> bool {
        matches!(tokio::time::timeout(PING, self.store.ping()).await, Ok(Ok(())))
    }

    /// Whether every lane decides.
    pub(super) fn ledger_works(&self) -> bool {
        let lanes = self.gate.lane_statuses();
        !*self.failed.borrow() && lanes.iter().all(|lane| lane.health == Health::Up)
    }

    /// The circuit breakers. An open one is no reason not to get traffic: without any it never closes.
    pub(super) fn breakers(&self) -> [(&'static str, Condition); 2] {
        [("ledger", self.gate.breaker()), ("store", self.store_guard.condition())]
    }

    pub(super) async fn ready(&self, head: &Head) -> Answer {
        let serving = *self.state.borrow() == State::Serving;
        let ledger = self.ledger_works();
        let store = self.store_answers().await;
        let undigested: u64 = self.gate.lane_statuses().iter().map(|lane| lane.undigested).sum();
        let lag = undigested <= limits::BACKLOG_EVENTS_MAX;
        let writer = !self.progress.is_failing();
        let checks = [
            ("serving", serving),
            ("ledger", ledger),
            ("store", store),
            ("writer", writer),
            ("lag", lag),
        ];
        let ready = checks.iter().all(|(_, ok)| *ok);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let word = |ok: bool| if ok { "ok" } else { "failing" };
        let mut body = json!({ "status": if ready { "ready" } else { "not ready" } });
        if head.uri.query().is_some_and(|query| query.split('&').any(|p| p.starts_with("verbose")))
        {
            let named = checks.iter().map(|(name, ok)| ((*name).to_owned(), json!(word(*ok))));
            body["checks"] = Value::Object(named.collect());
            body["outbox_length"] = json!(undigested);
            let breakers = self.breakers().map(|(name, at)| (name.to_owned(), json!(at.as_str())));
            body["breakers"] = Value::Object(breakers.into_iter().collect());
            let on =
                |switch: Switch| (switch.as_str().to_owned(), self.switches.is_on(switch).into());
            body["switches"] = Value::Object(Switch::ALL.map(on).into_iter().collect());
        }
        answer::value(status, &body)
    }
}
