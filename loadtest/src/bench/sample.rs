//! One measurement of one contender.

use std::collections::BTreeMap;
use std::time::Duration;

use floodgate_loadtest::rig::Stats;
use serde::Serialize;

use super::contender::Running;
use super::cpu::{self, Machine};
use crate::cli::Failure;

/// One measurement of one contender.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Whose.
    pub contender: String,
    /// Answers 201 a second.
    pub accepted_per_second: f64,
    /// Other answers a second.
    pub refused_per_second: f64,
    /// Orders written a second, while the load went on.
    pub persisted_per_second: Option<f64>,
    /// Latencies in milliseconds.
    pub p50_ms: f64,
    #[allow(missing_docs)]
    pub p99_ms: f64,
    #[allow(missing_docs)]
    pub p999_ms: f64,
    /// CPU of the server for each answer, in µs, while the load went on.
    pub cpu_us: f64,
    /// The same of Redis.
    pub redis_cpu_us: Option<f64>,
    /// The same of PostgreSQL.
    pub postgres_cpu_us: Option<f64>,
    /// The same of the generator.
    pub generator_cpu_us: f64,
    /// Memory of the server at the end.
    pub rss_mib: f64,
    /// Memory that Redis took for each answer 201.
    pub redis_bytes: Option<f64>,
    /// The share of the machine's CPU time that the host gave to others, 0 to 1.
    pub stolen: f64,
    /// The share of it that went to neither of those above: what else ran here.
    pub others: f64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by cause.
    pub errors: BTreeMap<String, u64>,
}

/// What the kernel and Redis count, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    server: Duration,
    redis: Option<Duration>,
    postgres: Option<Duration>,
    generator: Duration,
    machine: Machine,
    redis_bytes: Option<u64>,
    undigested: Option<u64>,
}

impl Marks {
    /// Now.
    pub async fn now(running: &Running) -> Result<Self, Failure> {
        let undigested = running.undigested().await?;
        Ok(Self {
            server: cpu::of_family(running.id())?,
            redis: running.redis_id().map(cpu::of_family).transpose()?,
            postgres: running.postgres_id().map(cpu::of_family).transpose()?,
            generator: cpu::of_process(std::process::id())?,
            machine: Machine::now()?,
            redis_bytes: running.redis_bytes(),
            undigested,
        })
    }
}

impl Sample {
    /// What happened between two moments.
    pub fn between(
        contender: &str,
        stats: &Stats,
        before: &Marks,
        after: &Marks,
        rss: u64,
    ) -> Self {
        let statuses = &stats.status_code_distribution;
        let answers: u64 = statuses.values().sum();
        let accepted = statuses.get(&201).copied().unwrap_or(0);
        let seconds = stats.summary.total.max(f64::EPSILON);
        let per_answer = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (answers.max(1) as f64);
        let between =
            |after: Option<Duration>, before: Option<Duration>| Some(per_answer(after? - before?));
        let persisted = after.undigested.zip(before.undigested).map(|(after, before)| {
            (accepted as f64 + before as f64 - after as f64).max(0.0) / seconds
        });
        let grown = after.redis_bytes.zip(before.redis_bytes);
        let latency = &stats.latency_percentiles;
        let known = (after.server - before.server)
            + (after.generator - before.generator)
            + after.redis.unwrap_or_default()
            + after.postgres.unwrap_or_default()
            - before.redis.unwrap_or_default()
            - before.postgres.unwrap_or_default();
        Self {
            contender: contender.to_owned(),
            accepted_per_second: accepted as f64 / seconds,
            refused_per_second: (answers - accepted) as f64 / seconds,
            persisted_per_second: persisted,
            p50_ms: latency.p50 * 1e3,
            p99_ms: latency.p99 * 1e3,
            p999_ms: latency.p999 * 1e3,
            cpu_us: per_answer(after.server - before.server),
            redis_cpu_us: between(after.redis, before.redis),
            postgres_cpu_us: between(after.postgres, before.postgres),
            generator_cpu_us: per_answer(after.generator - before.generator),
            rss_mib: rss as f64 / f64::from(1 << 20),
            redis_bytes: grown
                .filter(|_| accepted > 0)
                .map(|(after, before)| after.saturating_sub(before) as f64 / accepted as f64),
            stolen: after.machine.stolen_since(before.machine),
            others: after.machine.others_since(before.machine, known),
            statuses: statuses.clone(),
            errors: stats.error_distribution.clone(),
        }
    }

    /// Answers a second, whatever they were.
    pub fn answers_per_second(&self) -> f64 {
        self.accepted_per_second + self.refused_per_second
    }
}
