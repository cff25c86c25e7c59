//! What the rounds come to: ratios, their median and their spread.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use floodgate_loadtest::rig::Stats;
use serde::Serialize;

/// A round in which the host took no more than this share of the CPU time away is quiet.
///
/// A thread that the host does not let run holds up all that wait for it. What takes three threads
/// to answer suffers more from that than what takes one, so such a round says little of either.
const STOLEN_MAX: f64 = 0.05;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// CPU of the server while the load went on.
    pub server: Duration,
    /// The same until the writer had digested everything.
    pub with_writer: Option<Duration>,
    /// CPU of the generator.
    pub generator: Duration,
    /// The share of the machine's CPU time that the host gave to others.
    pub stolen: f64,
}

/// One run of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Answers.
    pub requests: u64,
    /// Answers per second.
    pub requests_per_second: f64,
    /// CPU of the server per answer, while the load went on.
    pub cpu_us_per_request: f64,
    /// The same until the writer had digested everything.
    pub cpu_us_per_request_digested: Option<f64>,
    /// CPU of the generator per answer.
    pub generator_cpu_us_per_request: f64,
    /// The share of the machine's CPU time that the host gave to others, 0 to 1.
    pub stolen: f64,
    /// Median latency.
    pub p50_us: f64,
    /// 99 of 100 answers took at most this.
    pub p99_us: f64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by cause.
    pub errors: BTreeMap<String, u64>,
}

/// Both servers in a row.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The bare server.
    pub bare: Sample,
    /// The real one.
    pub floodgate: Sample,
    /// Answers per second, real by bare.
    pub throughput_ratio: f64,
    /// CPU per answer, real by bare.
    pub cpu_ratio: f64,
}

/// A median with its spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// All rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    connections: usize,
    seconds: f64,
    rounds: Vec<Round>,
    quiet_rounds: usize,
    quiet_throughput_ratio: Spread,
    quiet_cpu_ratio: Spread,
    throughput_ratio: Spread,
    cpu_ratio: Spread,
    bare_requests_per_second: Spread,
    floodgate_requests_per_second: Spread,
    bare_cpu_us: Spread,
    floodgate_cpu_us: Spread,
}

impl Sample {
    pub fn new(stats: &Stats, costs: Costs) -> Self {
        let requests: u64 = stats.status_code_distribution.values().sum();
        let per_request = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (requests.max(1) as f64);
        Self {
            requests,
            requests_per_second: stats.summary.requests_per_sec,
            cpu_us_per_request: per_request(costs.server),
            cpu_us_per_request_digested: costs.with_writer.map(per_request),
            generator_cpu_us_per_request: per_request(costs.generator),
            stolen: costs.stolen,
            p50_us: stats.latency_percentiles.p50 * 1e6,
            p99_us: stats.latency_percentiles.p99 * 1e6,
            statuses: stats.status_code_distribution.clone(),
            errors: stats.error_distribution.clone(),
        }
    }

    /// Requests that were not answered by a 201.
    fn other_than_created(&self) -> u64 {
        let others = self.statuses.iter().filter(|(status, _)| **status != 201);
        others.map(|(_, count)| count).sum::<u64>() + self.errors.values().sum::<u64>()
    }
}

impl Round {
    pub fn new(bare: Sample, floodgate: Sample) -> Self {
        let throughput_ratio = floodgate.requests_per_second / bare.requests_per_second;
        let cpu_ratio = floodgate.cpu_us_per_request / bare.cpu_us_per_request;
        Self { bare, floodgate, throughput_ratio, cpu_ratio }
    }

    /// Whether the machine was this one's own.
    fn is_quiet(&self) -> bool {
        self.bare.stolen.max(self.floodgate.stolen) <= STOLEN_MAX
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => at(middle),
            _ => f64::midpoint(at(middle.saturating_sub(1)), at(middle)),
        };
        Self { median, min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

impl Summary {
    pub fn new(connections: usize, seconds: f64, rounds: Vec<Round>) -> Self {
        let of = |value: fn(&Round) -> f64| Spread::of(rounds.iter().map(value));
        let quiet: Vec<&Round> = rounds.iter().filter(|round| round.is_quiet()).collect();
        Self {
            connections,
            seconds,
            quiet_rounds: quiet.len(),
            quiet_throughput_ratio: Spread::of(quiet.iter().map(|round| round.throughput_ratio)),
            quiet_cpu_ratio: Spread::of(quiet.iter().map(|round| round.cpu_ratio)),
            throughput_ratio: of(|round| round.throughput_ratio),
            cpu_ratio: of(|round| round.cpu_ratio),
            bare_requests_per_second: of(|round| round.bare.requests_per_second),
            floodgate_requests_per_second: of(|round| round.floodgate.requests_per_second),
            bare_cpu_us: of(|round| round.bare.cpu_us_per_request),
            floodgate_cpu_us: of(|round| round.floodgate.cpu_us_per_request),
            rounds,
        }
    }

    /// Why the figures mean little: answers that were no 201.
    pub fn fault(&self) -> Option<String> {
        let samples = self.rounds.iter().flat_map(|round| [&round.bare, &round.floodgate]);
        let others: u64 = samples.map(Sample::other_than_created).sum();
        (others > 0).then(|| format!("{others} requests were not answered by a 201"))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bare, floodgate) = (&self.bare, &self.floodgate);
        write!(
            f,
            "{:.0} of {:.0} answers/s ({:.2}), {:.1} by {:.1} µs CPU ({:.2})",
            floodgate.requests_per_second,
            bare.requests_per_second,
            self.throughput_ratio,
            floodgate.cpu_us_per_request,
            bare.cpu_us_per_request,
            self.cpu_ratio
        )
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median >= 1_000.0 { 0 } else { 2 };
        let Self { median, min, max } = self;
        write!(f, "{median:.digits$} ({min:.digits$} - {max:.digits$})")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} connections, {} s a run", self.connections, self.seconds)?;
        writeln!(
            f,
            "{:<5} {:<9} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>8} {:>8}",
            "round",
            "server",
            "answers/s",
            "CPU µs",
            "digested",
            "load CPU",
            "p50 µs",
            "p99 µs",
            "not 201",
            "stolen"
        )?;
        for (number, round) in self.rounds.iter().enumerate() {
            for (name, sample) in [("bare", &round.bare), ("floodgate", &round.floodgate)] {
                let digested = sample.cpu_us_per_request_digested;
                writeln!(
                    f,
                    "{:<5} {name:<9} {:>9.0} {:>10.2} {:>10} {:>9.2} {:>9.0} {:>9.0} {:>8} {:>7.1}%",
                    number + 1,
                    sample.requests_per_second,
                    sample.cpu_us_per_request,
                    digested.map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
                    sample.generator_cpu_us_per_request,
                    sample.p50_us,
                    sample.p99_us,
                    sample.other_than_created(),
                    sample.stolen * 100.0
                )?;
            }
        }
        let quiet = self.quiet_rounds;
        writeln!(f, "median (least - most) of all rounds; quiet: {quiet} with at most 5 % stolen")?;
        for (name, spread) in [
            ("answers/s, bare", self.bare_requests_per_second),
            ("answers/s, floodgate", self.floodgate_requests_per_second),
            ("answers/s, floodgate by bare", self.throughput_ratio),
            ("CPU µs, bare", self.bare_cpu_us),
            ("CPU µs, floodgate", self.floodgate_cpu_us),
            ("CPU µs, floodgate by bare", self.cpu_ratio),
            ("answers/s by bare, quiet", self.quiet_throughput_ratio),
            ("CPU µs by bare, quiet", self.quiet_cpu_ratio),
        ] {
            writeln!(f, "  {name:<30} {spread}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    /// Proves the median of odd and even series, and that nothing gives zeros.
    #[test]
    fn medians() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(of(&[]), Spread { median: 0.0, min: 0.0, max: 0.0 });
    }
}
