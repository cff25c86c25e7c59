//! Every bound of this crate in one place, and what happens when it is reached.

use std::time::Duration;

/// How long a client waits for one answer; afterwards the outcome is unknown.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// For how long a server may be at a request after its client gave up: what is answered meanwhile under the
/// same key says nothing of it.
pub const REQUEST_UNDER_WAY: Duration = Duration::from_secs(3);

/// The largest answer a client takes; a longer one is a fault with unknown outcome.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Connections of a crowd, unless the plan says otherwise.
pub const CONNECTIONS_DEFAULT: usize = 128;

/// The most connections that a plan may ask for; more is refused as a bad plan.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How often a buyer sends one request before giving up; then the last answer stands.
pub const TRIES_MAX_DEFAULT: u32 = 10;

/// The longest a buyer waits between two tries, whatever `Retry-After` says.
pub const BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(2);

/// The first wait after a transport fault; it doubles up to the longest.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// Waves of second chances after the burst; then the crowd goes home.
pub const WAVES_MAX_DEFAULT: u32 = 40;

/// Waves in a row that sold nothing, after which the crowd goes home.
pub const IDLE_WAVES_MAX: u32 = 10;

/// Waves in which a winner may still cancel: later ones only buy, so that a sale ends sold out.
pub const CANCEL_WAVES_MAX: u32 = 4;

/// For how long a returned unit may stay unseen before the crowd believes that all is sold.
pub const RETURN_WINDOW: Duration = Duration::from_millis(1_500);

/// How often the crowd looks whether units came back.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Desks at which winners pay, each with a connection of its own to the ops listener.
pub const CASHIERS: usize = 4;

/// Winners that queue at one desk; a full queue makes the next winner wait.
pub const CASHIER_QUEUE: usize = 64;

/// Connections over which unknown outcomes are asked for again.
pub const RESOLVERS_MAX: usize = 32;

/// Anomalies that are described; further ones are only counted.
pub const ANOMALIES_MAX: usize = 64;

/// Offenders that one check of the oracle names; further ones are only counted.
pub const OFFENDERS_NAMED_MAX: usize = 5;

/// Smaller cases that are tried; then the smallest so far is shown.
pub const SHRINK_TRIES_MAX: usize = 500;

/// Entries of a smallest case that a report shows.
pub const CASE_ENTRIES_MAX: usize = 40;

/// Events of one item beyond which no line of time is looked for: the search may take for ever. Its units are
/// counted all the same.
pub const LINEAR_REQUESTS_MAX: usize = 4_000;

/// Events that such a search looks at, again and again, before it gives up.
pub const LINEAR_LOOKS_MAX: usize = 50_000_000;

/// By the contract a returned unit is for sale again, on every gateway, within this time: so old may be
/// what "sold out" was said from.
pub const LATCH_REOPENS_WITHIN: Duration = Duration::from_secs(1);

/// A gateway that shares its ledger may know so late who won at another.
pub const SHARED_BEHIND: Duration = Duration::from_millis(250);

/// A request whose outcome is unknown may still be on its way from a gateway to a ledger that others share, and
/// come true so late.
pub const LATE_CALL: Duration = Duration::from_secs(3);

/// By so much the ledger's clock and a client's may differ over a hold: milliseconds are cut off, and machines
/// set their clocks little by little.
pub const CLOCK_SLACK: Duration = Duration::from_millis(100);

/// A hold that ran out is over in the books within this time, once nothing is wrong: a sweep, a batch of the
/// writer, and a busy machine.
pub const HOLD_ENDS_WITHIN: Duration = Duration::from_secs(3);

/// Payments of one reservation that are noted for a refund, by the contract; further ones are refused alike.
pub const LATE_PAYMENTS_NOTED_MAX: usize = 8;

/// How often the oracle looks at the writer's backlog.
pub const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the oracle reads counters and books again until both are of one moment.
pub const STEADY_TRIES_MAX: u32 = 40;

/// Units of lines in one reservation, by the contract.
pub const LINES_MAX: usize = 16;

/// The largest head of an answer that the generator takes; a longer one is a protocol error.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Connect attempts in a row that fail before a generator's connection gives up.
pub const RECONNECTS_MAX: u32 = 20;

/// How long requests in flight may take after the end of a run; then they count as errors.
pub const GRACE: Duration = Duration::from_secs(5);

/// The pacer of the open loop releases what is due this often.
pub const PACE_EVERY: Duration = Duration::from_micros(200);

/// The longest latency that a histogram keeps, in microseconds; longer ones count as this.
pub const LATENCY_MAX_US: u64 = 60_000_000;

/// Different error texts that a run of the generator keeps apart; others count as "other".
pub const ERROR_KINDS_MAX: usize = 32;

/// Seconds of a run for which requests per second are kept apart; later ones count to the last.
pub const SECONDS_MAX: usize = 3_600;

/// Connections that the bare server keeps open at once; further ones wait in the backlog.
pub const BARE_CONNECTIONS_MAX: usize = 4_096;

/// How long the bench waits for a server to become ready.
pub const READY_WITHIN: Duration = Duration::from_secs(20);

/// Visitors of one open loop; a plan with more is refused.
pub const OPEN_VISITS_MAX: u64 = 50_000_000;

/// Requests that are due and wait for a connection; further ones are dropped, and counted.
pub const OPEN_QUEUE_MAX: usize = 2_000_000;

/// How long a request that is due waits for a connection, unless the plan says otherwise; then it is
/// dropped, and counted.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(10);

/// A request that is sent so much after it was due is counted as late.
pub const LATE_AFTER: Duration = Duration::from_millis(10);

/// Requests under way on one connection of HTTP/2, unless the plan says otherwise.
pub const STREAMS_DEFAULT: usize = 16;

/// How often a progress bar is drawn.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);

/// For how long a scenario's capacity is measured.
pub const CAPACITY_SECONDS: Duration = Duration::from_secs(3);

/// Gateways that the simulation of capacity tries at most.
pub const CAPACITY_GATEWAYS_MAX: u64 = 1_024;

/// Connections that an open loop opens at once before it begins.
pub const CONNECTING_MAX: usize = 128;
