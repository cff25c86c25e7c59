//! What the gateway counts, under the names of the contract.
//!
//! Handles are made once and kept where they are used: the hot path pays an atomic addition, never a
//! look-up. Every gateway has a recorder of its own, so that several can run in one process.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Buckets of durations, in seconds: 50 µs to 10 s.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    2.0, 5.0, 10.0,
];
/// Buckets of sizes.
const SIZES: [f64; 12] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 8_192.0];

/// The recorder of one gateway, and the handles that belong to no other part.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    /// Commands in a ledger batch.
    pub ledger_batch_size: Histogram,
    /// Events in a writer batch.
    pub writer_batch_size: Histogram,
    /// Orders that the writer has put into the store.
    pub orders_persisted: Counter,
    /// Events and records that the writer could not digest.
    pub dead_letters: Counter,
}

impl Metrics {
    /// A recorder with the contract's buckets and descriptions.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let buckets = |builder: PrometheusBuilder, suffix: &str, buckets: &[f64]| {
            let matcher = Matcher::Suffix(suffix.to_owned());
            // Safe: the only error is an empty list of buckets.
            #[expect(clippy::expect_used, reason = "see above")]
            builder.set_buckets_for_metric(matcher, buckets).expect("buckets are given")
        };
        let builder = buckets(builder, "_seconds", &SECONDS);
        let recorder = buckets(builder, "_batch_size", &SIZES).build_recorder();
        let handle = recorder.handle();
        let process = metrics_process::Collector::default();
        let (ledger_batch_size, writer_batch_size, orders_persisted, dead_letters) =
            with_local_recorder(&recorder, || {
                describe();
                process.describe();
                metrics::gauge!("floodgate_build_info", "version" => env!("CARGO_PKG_VERSION"))
                    .set(1.0);
                (
                    metrics::histogram!("floodgate_ledger_batch_size"),
                    metrics::histogram!("floodgate_writer_batch_size"),
                    metrics::counter!("floodgate_orders_persisted_total"),
                    metrics::counter!("floodgate_dead_letters_total"),
                )
            });
        Self {
            recorder,
            handle,
            process,
            ledger_batch_size,
            writer_batch_size,
            orders_persisted,
            dead_letters,
        }
    }

    /// A counter under its labels. For start-up and rare events: keep the handle otherwise.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, String)]) -> Counter {
        with_local_recorder(&self.recorder, || metrics::counter!(name, labels))
    }

    /// A gauge under its labels. For start-up and scrapes: keep the handle otherwise.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, String)]) -> Gauge {
        with_local_recorder(&self.recorder, || metrics::gauge!(name, labels))
    }

    /// A histogram under its labels. For start-up: keep the handle otherwise.
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, String)]) -> Histogram {
        with_local_recorder(&self.recorder, || metrics::histogram!(name, labels))
    }

    /// Folds what histograms have gathered into their buckets. To be called every few seconds: between
    /// calls each sample waits in memory.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// How often [`Metrics::upkeep`] wants to be called.
    pub const UPKEEP_EVERY: Duration = Duration::from_secs(2);

    /// Everything, in Prometheus's text format.
    pub fn render(&self) -> String {
        with_local_recorder(&self.recorder, || self.process.collect());
        self.handle.render()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("floodgate_requests_total", "Requests answered, by route and status.");
    describe_histogram!(
        "floodgate_request_duration_seconds",
        Unit::Seconds,
        "From the request's head to its answer."
    );
    describe_counter!(
        "floodgate_log_lines_dropped_total",
        "Log lines that nobody took from standard error in time."
    );
    describe_gauge!("floodgate_connections", "Connections that are open, by listener.");
    describe_counter!(
        "floodgate_connections_refused_total",
        "Connections that were closed before their first request, by listener and reason."
    );
    describe_counter!(
        "floodgate_connections_malformed_total",
        "Connections that ended with bytes that are no request in HTTP/1.1, by listener."
    );
    describe_gauge!(
        "floodgate_tls_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the public listener's certificate ends, since 1970."
    );
    describe_counter!("floodgate_reservations_total", "Reservations asked for, by outcome.");
    describe_counter!("floodgate_admission_total", "Decisions of each gate before the ledger.");
    describe_gauge!("floodgate_admission_keys", "Buckets of each limit that are not full.");
    describe_counter!("floodgate_client_address_total", "Requests, by how the client was named.");
    describe_gauge!("floodgate_stock_units", "Units of an item, by where they are.");
    describe_gauge!("floodgate_lane_queue_depth", "Commands that wait for a lane.");
    describe_gauge!(
        "floodgate_lane_wait_seconds",
        Unit::Seconds,
        "How long a new reservation would wait for its lane; 0 where there is no crowd."
    );
    describe_counter!(
        "floodgate_lane_abandoned_total",
        "Reservations that were not made because their client had gone before they were taken."
    );
    describe_histogram!("floodgate_ledger_batch_size", "Commands in one step of a lane.");
    describe_histogram!(
        "floodgate_ledger_call_seconds",
        Unit::Seconds,
        "One step of a lane, from its first command to its durability."
    );
    describe_gauge!("floodgate_outbox_entries", "Events that the store has not digested yet.");
    describe_gauge!(
        "floodgate_writer_lag_seconds",
        Unit::Seconds,
        "Age of the oldest event that the store has not digested yet."
    );
    describe_histogram!("floodgate_writer_batch_size", "Events in one transaction of the writer.");
    describe_counter!(
        "floodgate_ledger_asked_again_total",
        "Commands whose answer was lost, and which were asked again with the same ids."
    );
    describe_counter!(
        "floodgate_ledger_lost_events_total",
        "Events that were answered, and that neither Redis nor the books have any more."
    );
    describe_counter!("floodgate_orders_persisted_total", "Orders written to the store.");
    describe_counter!("floodgate_cart_cache_total", "Carts asked for, by whether memory had them.");
    describe_counter!("floodgate_dead_letters_total", "Events that the writer could not digest.");
    describe_counter!(
        "floodgate_admin_auth_failures_total",
        "Requests for operators without a token that is known."
    );
    describe_gauge!("floodgate_backend_up", "1 while the backend answers.");
    describe_gauge!(
        "floodgate_breaker_state",
        "Circuit breaker: 0 closed, 1 half-open, 2 open; of the worst lane."
    );
    describe_counter!("floodgate_breaker_opened_total", "How often a circuit breaker opened.");
    describe_gauge!("floodgate_switch", "1 while the degradation switch is on.");
    describe_counter!("floodgate_switch_changes_total", "How often a switch was switched.");
    describe_gauge!("floodgate_lane_fenced", "1 while the lane does not sell until reconciled.");
    describe_gauge!(
        "floodgate_config_last_reload_successful",
        "1 while the configuration was taken over whole when it was read last."
    );
    describe_gauge!(
        "floodgate_config_last_reload_success_timestamp_seconds",
        Unit::Seconds,
        "When the configuration was last taken over whole, since 1970."
    );
    describe_gauge!("floodgate_build_info", "Always 1; the labels say which build this is.");
}
