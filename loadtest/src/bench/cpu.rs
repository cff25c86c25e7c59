//! CPU time, as the kernel counts it: of a process, and of the machine what others took from it.

use std::time::Duration;

use crate::cli::Failure;

/// Ticks per second in `/proc`: `USER_HZ`, which is 100 on every Linux that this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time that a process and its threads, living or gone, have used.
///
/// # Errors
///
/// No such process.
pub fn of_process(id: u32) -> Result<Duration, Failure> {
    let path = format!("/proc/{id}/stat");
    let text =
        std::fs::read_to_string(&path).map_err(|bad| Failure::Failed(format!("{path}: {bad}")))?;
    parse(&text).ok_or_else(|| Failure::Failed(format!("{path} cannot be read: {text}")))
}

/// The same of a process and its children: nginx and PostgreSQL work in those.
///
/// # Errors
///
/// No such process.
pub fn of_family(id: u32) -> Result<Duration, Failure> {
    let children = children(id).into_iter();
    // A child that ends meanwhile has its time lost; those of servers stay.
    let theirs: Duration = children.filter_map(|child| of_process(child).ok()).sum();
    Ok(of_process(id)? + theirs)
}

/// Memory that a process and its children hold, in bytes.
///
/// # Errors
///
/// No such process.
pub fn rss(id: u32) -> Result<u64, Failure> {
    let of = |id: u32| {
        let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    let own = of(id).ok_or_else(|| Failure::Failed(format!("/proc/{id}/status")))?;
    Ok(own + children(id).into_iter().filter_map(of).sum::<u64>())
}

fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn parse(text: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything, brackets and spaces too: count behind the last one.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1_000 / TICKS_PER_SECOND)))
}

/// CPU time of the whole machine since it started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    total: u64,
    stolen: u64,
    idle: u64,
}

impl Machine {
    /// The time until now.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn now() -> Result<Self, Failure> {
        let text = std::fs::read_to_string("/proc/stat")
            .map_err(|bad| Failure::Failed(format!("/proc/stat: {bad}")))?;
        Self::parse(&text).ok_or_else(|| Failure::Failed("/proc/stat cannot be read".to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        // The times of guests, which come ninth and tenth, are within the first ones.
        let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(Self { total: ticks.iter().sum(), stolen: *ticks.get(7)?, idle })
    }

    /// The share of the time since then in which the host let others run although this machine had
    /// work, 0 to 1. Always 0 on a machine that is not virtual.
    pub fn stolen_since(self, then: Self) -> f64 {
        let total = self.total.saturating_sub(then.total).max(1);
        self.stolen.saturating_sub(then.stolen) as f64 / total as f64
    }

    /// The share of the time since then that neither was idle or stolen nor went to those who used
    /// `known` of it, 0 to 1: what else ran on this machine.
    pub fn others_since(self, then: Self, known: Duration) -> f64 {
        let total = self.total.saturating_sub(then.total).max(1);
        let away = (self.stolen + self.idle).saturating_sub(then.stolen + then.idle);
        let known = known.as_secs_f64() * TICKS_PER_SECOND as f64;
        ((total.saturating_sub(away) as f64 - known) / total as f64).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Machine, of_process, parse};

    /// Proves that stolen time is told apart, and nothing counted twice.
    #[test]
    fn stolen_time() {
        let then = Machine::parse("cpu  10 0 10 70 5 0 0 5 3 3\ncpu0 1 2 3\n").unwrap();
        assert_eq!(then, Machine { total: 100, stolen: 5, idle: 75 });
        let now = Machine { total: 200, stolen: 30, idle: 95 };
        assert!((now.stolen_since(then) - 0.25).abs() < 1e-9);
        // Of the other 55 ticks 40 are known.
        let others = now.others_since(then, Duration::from_millis(400));
        assert!((others - 0.15).abs() < 1e-9, "{others}");
        assert_eq!(Machine::parse("intr 1"), None);
        assert!(Machine::now().is_ok());
    }

    /// Proves that the right fields are added, whatever the process is called.
    #[test]
    fn reads_stat() {
        let line = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1 2 3";
        assert_eq!(parse(line), Some(Duration::from_secs(3)));
        assert_eq!(parse("nothing"), None);
        assert!(of_process(std::process::id()).is_ok());
    }
}
