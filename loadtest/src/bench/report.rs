//! What a suite has measured: samples, or figures with a name.

use std::fmt;

use serde::Serialize;

use super::sample::Sample;
use super::spread::Spread;

/// What a suite has measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Its name.
    pub suite: String,
    /// How it was measured, in a sentence.
    pub how: String,
    /// Every measurement, where contenders were compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Figures, each over all rounds.
    pub figures: Vec<Figure>,
    /// Values over time, or over something else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// What was broken, if anything: then the figures mean nothing.
    pub fault: Option<String>,
}

/// A figure with its bound, if one is set.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Over all rounds.
    pub value: Spread,
    /// What it is to be.
    pub bound: Option<Bound>,
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// Values over time, or over something else.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// Places and values.
    pub points: Vec<(f64, f64)>,
}

impl Figure {
    /// One without a bound.
    pub fn new(name: impl Into<String>, values: impl Iterator<Item = f64>) -> Self {
        Self { name: name.into(), value: Spread::of(values), bound: None }
    }

    /// The same with a bound.
    pub fn within(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// Whether the median keeps its bound.
    pub fn is_kept(&self) -> bool {
        match self.bound {
            Some(Bound::AtLeast(bound)) => self.value.median >= bound,
            Some(Bound::AtMost(bound)) => self.value.median <= bound,
            None => true,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::AtMost(bound) => write!(f, "at most {bound}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.suite, self.how)?;
        if !self.samples.is_empty() {
            self.table(f)?;
        }
        for figure in &self.figures {
            let Figure { name, value, bound } = figure;
            write!(f, "  {name:<52} {value:<28}")?;
            match bound {
                Some(bound) if figure.is_kept() => writeln!(f, " {bound}: kept")?,
                Some(bound) => writeln!(f, " {bound}: MISSED")?,
                None => writeln!(f)?,
            }
        }
        match &self.fault {
            Some(fault) => writeln!(f, "BROKEN: {fault}"),
            None => Ok(()),
        }
    }
}

impl Report {
    /// Contenders in the order in which they came first.
    pub fn contenders(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !names.contains(&sample.contender.as_str()) {
                names.push(&sample.contender);
            }
        }
        names
    }

    /// A value of a contender over all rounds.
    pub fn spread(&self, contender: &str, value: impl Fn(&Sample) -> Option<f64>) -> Spread {
        let of = self.samples.iter().filter(|sample| sample.contender == contender);
        Spread::of(of.filter_map(value))
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>22} {:>9} {:>11} {:>7} {:>7} {:>7} {:>18} {:>9} {:>9} {:>9} {:>7} {:>8} {:>7} {:>7}",
            "medians",
            "accepted/s",
            "refused/s",
            "persisted/s",
            "p50 ms",
            "p99 ms",
            "p99.9",
            "CPU µs",
            "Redis µs",
            "PG µs",
            "load µs",
            "MiB",
            "B/res",
            "stolen",
            "others"
        )?;
        for name in self.contenders() {
            let of = |value: fn(&Sample) -> Option<f64>| self.spread(name, value);
            let maybe = |value: fn(&Sample) -> Option<f64>, digits: usize| {
                let there = self.samples.iter().any(|s| s.contender == name && value(s).is_some());
                if there { format!("{:.digits$}", of(value).median) } else { "-".to_owned() }
            };
            let accepted = of(|s| Some(s.accepted_per_second));
            let cpu = of(|s| Some(s.cpu_us));
            writeln!(
                f,
                "{name:<10} {:>22} {:>9} {:>11} {:>7} {:>7} {:>7} {:>18} {:>9} {:>9} {:>9} {:>7} {:>8} {:>6}% {:>6}%",
                format!("{:.0} ({:.0}-{:.0})", accepted.median, accepted.min, accepted.max),
                maybe(|s| Some(s.refused_per_second), 0),
                maybe(|s| s.persisted_per_second, 0),
                maybe(|s| Some(s.p50_ms), 2),
                maybe(|s| Some(s.p99_ms), 2),
                maybe(|s| Some(s.p999_ms), 2),
                format!("{:.1} ({:.1}-{:.1})", cpu.median, cpu.min, cpu.max),
                maybe(|s| s.redis_cpu_us, 2),
                maybe(|s| s.postgres_cpu_us, 2),
                maybe(|s| Some(s.generator_cpu_us), 1),
                maybe(|s| Some(s.rss_mib), 0),
                maybe(|s| s.redis_bytes, 0),
                maybe(|s| Some(s.stolen * 100.0), 1),
                maybe(|s| Some(s.others * 100.0), 1),
            )?;
        }
        Ok(())
    }
}
