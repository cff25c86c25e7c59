//! A circuit breaker: who does not answer is not waited for.
//!
//! Closed, it lets every call through. Once calls have failed in a row, often and for a while, it opens
//! and refuses at once. After a pause it is half open: one call at a time is let through, and if that
//! one is answered it closes; if it fails, the next pause begins.
//!
//! All it knows is in one word, changed by compare-and-exchange, so that no two callers are both let
//! through as the one and no failure is lost. `loom/tests/breaker.rs` tries every order of that.

use std::time::Duration;

use crate::clock::Millis;
use crate::limits;
use crate::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

/// A breaker in front of one backend. It does no I/O and reads no clock.
#[derive(Debug, Default)]
pub struct Breaker(AtomicU64);

/// The right to make one call. To be settled with what came of it; dropped, it says nothing.
#[derive(Debug)]
#[must_use = "a call that was let through is settled"]
pub struct Pass<'b> {
    breaker: &'b Breaker,
    /// The breaker has opened so often: what was let through before it last did says nothing any more.
    round: u64,
    probe: bool,
    settled: bool,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend has decided, yes or no.
    Answered,
    /// The backend was not there, or not in time.
    Failed,
    /// Nothing that speaks for or against the backend.
    Mute,
}

/// What a verdict did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that anybody has to know.
    None,
    /// It refuses from now on.
    Opened,
    /// It lets everything through again.
    Closed,
}

/// Where a breaker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Calls go through.
    #[default]
    Closed,
    /// One call tries whether the backend is back.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl Condition {
    /// The word in `/readyz?verbose`.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Closed => "closed",
            Condition::HalfOpen => "half-open",
            Condition::Open => "open",
        }
    }

    /// The number in metrics.
    pub fn number(self) -> u8 {
        match self {
            Condition::Closed => 0,
            Condition::HalfOpen => 1,
            Condition::Open => 2,
        }
    }
}

impl Breaker {
    /// Asks to make a call. `None`: it would be waited for in vain.
    pub fn admit(&self, now: Millis) -> Option<Pass<'_>> {
        let mut word = self.0.load(Acquire);
        loop {
            let state = State::of(word);
            let probe = match state.condition {
                Condition::Closed => false,
                Condition::Open if state.is_over(now) => true,
                Condition::Open | Condition::HalfOpen => return None,
            };
            if probe {
                let half = State { condition: Condition::HalfOpen, ..state };
                if let Err(meanwhile) = self.0.compare_exchange(word, half.word(), AcqRel, Acquire)
                {
                    word = meanwhile;
                    continue;
                }
            }
            return Some(Pass { breaker: self, round: state.round, probe, settled: false });
        }
    }

    /// Whether a call would be refused now.
    pub fn is_refusing(&self, now: Millis) -> bool {
        let state = State::of(self.0.load(Acquire));
        match state.condition {
            Condition::Closed => false,
            Condition::HalfOpen => true,
            Condition::Open => !state.is_over(now),
        }
    }

    /// Where it is.
    pub fn condition(&self) -> Condition {
        State::of(self.0.load(Acquire)).condition
    }

    fn settle(&self, round: u64, probe: bool, verdict: Verdict, now: Millis) -> Change {
        let mut word = self.0.load(Acquire);
        loop {
            let state = State::of(word);
            let next = if probe {
                state.after_probe(verdict, now)
            } else if state.condition == Condition::Closed && state.round == round {
                state.after_call(verdict, now)
            } else {
                return Change::None;
            };
            if next == state {
                return Change::None;
            }
            match self.0.compare_exchange(word, next.word(), AcqRel, Acquire) {
                Ok(_) => return state.change_to(next),
                Err(meanwhile) => word = meanwhile,
            }
        }
    }
}

impl Pass<'_> {
    /// Says what came of the call.
    pub fn settle(mut self, verdict: Verdict, now: Millis) -> Change {
        self.settled = true;
        self.breaker.settle(self.round, self.probe, verdict, now)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.settled && self.probe {
            // Whoever asked has gone. The next one may try at once.
            self.breaker.settle(self.round, true, Verdict::Mute, Millis(0));
        }
    }
}

/// The word, unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    condition: Condition,
    round: u64,
    /// In a row.
    failures: u64,
    /// Closed: when the first of them was noted. Open: until when.
    at: u64,
}

const AT_BITS: u32 = 48;
const FAILURES_BITS: u32 = 8;
const ROUND_BITS: u32 = 6;

const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl State {
    fn of(word: u64) -> Self {
        let condition = match word >> (AT_BITS + FAILURES_BITS + ROUND_BITS) {
            0 => Condition::Closed,
            1 => Condition::HalfOpen,
            _ => Condition::Open,
        };
        Self {
            condition,
            round: (word >> (AT_BITS + FAILURES_BITS)) & low(ROUND_BITS),
            failures: (word >> AT_BITS) & low(FAILURES_BITS),
            at: word & low(AT_BITS),
        }
    }

    fn word(self) -> u64 {
        let Self { condition, round, failures, at } = self;
        let mut word = u64::from(condition.number());
        for (value, bits) in [(round, ROUND_BITS), (failures, FAILURES_BITS), (at, AT_BITS)] {
            word = (word << bits) | (value & low(bits));
        }
        word
    }

    /// Whether the pause is over. One that seems longer than any is over, too: the clock was set back.
    fn is_over(self, now: Millis) -> bool {
        let rest = Millis(self.at).since(now);
        rest.is_zero() || rest > Duration::from_millis(limits::BREAKER_PAUSE_MS)
    }

    fn after_probe(self, verdict: Verdict, now: Millis) -> Self {
        let pause = Duration::from_millis(limits::BREAKER_PAUSE_MS);
        let open = |at| Self { condition: Condition::Open, at, ..self };
        match verdict {
            Verdict::Answered => Self { condition: Condition::Closed, failures: 0, at: 0, ..self },
            Verdict::Failed => open(now.after(pause).0),
            Verdict::Mute => open(0),
        }
    }

    fn after_call(self, verdict: Verdict, now: Millis) -> Self {
        match verdict {
            Verdict::Answered => Self { failures: 0, at: 0, ..self },
            Verdict::Mute => self,
            Verdict::Failed => {
                let failures = (self.failures + 1).min(low(FAILURES_BITS));
                // A clock that was set back begins anew rather than wait for the instant to come again.
                let at = if self.failures == 0 { now.0 } else { self.at.min(now.0) };
                let counted = Self { failures, at, ..self };
                let long =
                    now.since(Millis(at)) >= Duration::from_millis(limits::BREAKER_FAILING_MS);
                if failures < limits::BREAKER_FAILURES || !long {
                    return counted;
                }
                let pause = Duration::from_millis(limits::BREAKER_PAUSE_MS);
                Self {
                    condition: Condition::Open,
                    round: (self.round + 1) & low(ROUND_BITS),
                    failures: 0,
                    at: now.after(pause).0,
                }
            }
        }
    }

    fn change_to(self, next: Self) -> Change {
        match (self.condition, next.condition) {
            (Condition::Closed, Condition::Open) => Change::Opened,
            (Condition::HalfOpen, Condition::Closed) => Change::Closed,
            (Condition::Closed, Condition::Closed | Condition::HalfOpen)
            | (Condition::HalfOpen, Condition::HalfOpen | Condition::Open)
            | (Condition::Open, _) => Change::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = Millis(1_795_225_445_067);

    fn at(ms: u64) -> Millis {
        START.after(Duration::from_millis(ms))
    }

    fn call(breaker: &Breaker, verdict: Verdict, now: Millis) -> Change {
        breaker.admit(now).expect("it is let through").settle(verdict, now)
    }

    /// Fails until it opens: at what instant.
    fn open(breaker: &Breaker) -> u64 {
        for ms in (0..).step_by(100) {
            if call(breaker, Verdict::Failed, at(ms)) == Change::Opened {
                return ms;
            }
        }
        unreachable!()
    }

    /// Proves that it opens after as many failures in a row as it should and not before they have gone
    /// on for a while, and that an answer in between begins the row anew.
    #[test]
    fn opens_after_a_row_of_failures() {
        let breaker = Breaker::default();
        for _ in 0..1_000 {
            assert_eq!(call(&breaker, Verdict::Failed, at(0)), Change::None, "all at once");
        }
        assert_eq!(call(&breaker, Verdict::Answered, at(10)), Change::None);
        for ms in [500, 700, 900, 1_100] {
            assert_eq!(call(&breaker, Verdict::Failed, at(ms)), Change::None, "too few");
        }
        assert_eq!(call(&breaker, Verdict::Mute, at(1_200)), Change::None);
        assert_eq!(breaker.condition(), Condition::Closed);
        assert_eq!(call(&breaker, Verdict::Failed, at(1_300)), Change::Opened);
        assert_eq!(breaker.condition(), Condition::Open);
        assert!(breaker.is_refusing(at(1_300)) && breaker.admit(at(1_300)).is_none());
    }

    /// Proves that after the pause one call at a time is let through; that a failure of it means another
    /// pause, that one who goes away makes room for the next, and that an answer closes it.
    #[test]
    fn one_probe_after_a_pause() {
        let breaker = Breaker::default();
        let mut now = open(&breaker);
        assert!(breaker.admit(at(now + limits::BREAKER_PAUSE_MS - 1)).is_none(), "too early");
        now += limits::BREAKER_PAUSE_MS;
        let probe = breaker.admit(at(now)).expect("the pause is over");
        assert_eq!(breaker.condition(), Condition::HalfOpen);
        assert!(breaker.admit(at(now)).is_none() && breaker.is_refusing(at(now)), "one at a time");
        assert_eq!(probe.settle(Verdict::Failed, at(now)), Change::None);
        assert!(breaker.admit(at(now + 1)).is_none(), "it pauses again");
        now += limits::BREAKER_PAUSE_MS;
        drop(breaker.admit(at(now)).expect("the pause is over"));
        assert_eq!(breaker.condition(), Condition::Open);
        assert_eq!(call(&breaker, Verdict::Answered, at(now)), Change::Closed);
        assert!(breaker.admit(at(now)).is_some() && breaker.admit(at(now)).is_some());
    }

    /// Proves that calls which were let through before it opened do not count once it has closed again.
    #[test]
    fn late_failures_do_not_count() {
        let breaker = Breaker::default();
        let late: Vec<_> = (0..100).map(|_| breaker.admit(at(0)).unwrap()).collect();
        let now = open(&breaker) + limits::BREAKER_PAUSE_MS;
        assert_eq!(call(&breaker, Verdict::Answered, at(now)), Change::Closed);
        for (ms, pass) in (now..).step_by(100).zip(late) {
            assert_eq!(pass.settle(Verdict::Failed, at(ms)), Change::None);
        }
        assert_eq!(breaker.condition(), Condition::Closed);
    }

    /// Proves that a clock which is set back by an hour neither keeps it open nor keeps it closed.
    #[test]
    fn the_clock_is_set_back() {
        let breaker = Breaker::default();
        open(&breaker);
        let before = Millis(START.0 - 3_600_000);
        assert_eq!(call(&breaker, Verdict::Answered, before), Change::Closed);
        call(&breaker, Verdict::Failed, START);
        let failing = (0..).step_by(100).map(|ms| before.after(Duration::from_millis(ms)));
        let opened =
            failing.take(20).any(|now| call(&breaker, Verdict::Failed, now) == Change::Opened);
        assert!(opened);
    }
}
