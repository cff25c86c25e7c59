//! Requests by route and status, counted without a look-up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use metrics::{Counter, Histogram};

use super::route::{PATTERNS, Route};
use crate::metrics::Metrics;

/// Statuses that the public API answers with; anything else counts as the last.
const STATUSES: [u16; 23] = [
    200, 201, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 415, 422, 429, 503, 431,
    204, 411, 417, 500,
];

/// Handles of all routes.
pub(super) struct Meter {
    routes: Vec<RouteMeter>,
}

/// Handles of one route; counters are made when first needed.
pub(super) struct RouteMeter {
    metrics: Arc<Metrics>,
    route: &'static str,
    seconds: Histogram,
    counters: [OnceLock<Counter>; STATUSES.len()],
}

impl Meter {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        let meter = |route: &'static str| RouteMeter {
            metrics: Arc::clone(metrics),
            route,
            seconds: metrics
                .histogram("floodgate_request_duration_seconds", &[("route", route.to_owned())]),
            counters: Default::default(),
        };
        Self { routes: PATTERNS.into_iter().chain(["other"]).map(meter).collect() }
    }

    pub(super) fn of(&self, route: Option<&Route<'_>>) -> &RouteMeter {
        &self.routes[route.map_or(PATTERNS.len(), Route::index)]
    }
}

impl RouteMeter {
    pub(super) fn record(&self, status: StatusCode, took: Duration) {
        let last = STATUSES.len() - 1;
        let index = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(last);
        let counter = self.counters[index].get_or_init(|| {
            let labels =
                [("route", self.route.to_owned()), ("status", STATUSES[index].to_string())];
            self.metrics.counter("floodgate_requests_total", &labels)
        });
        counter.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}
