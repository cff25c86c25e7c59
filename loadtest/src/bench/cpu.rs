//! CPU time of a process, as the kernel counts it.

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

fn parse(text: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything, brackets and spaces too: count behind the last one.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1_000 / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{of_process, parse};

    /// Proves that the right fields are added, whatever the process is called.
    #[test]
    fn reads_stat() {
        let line = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1 2 3";
        assert_eq!(parse(line), Some(Duration::from_secs(3)));
        assert_eq!(parse("nothing"), None);
        assert!(of_process(std::process::id()).is_ok());
    }
}
