//! Lets requests go when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::thread;
use std::time::{Duration, Instant};

use super::Run;
use super::queue::Try;
use crate::limits::{GRACE, PACE_EVERY};
use crate::rig::plan::Phase;

/// Releases what is due until everybody has gone home, or is given up.
pub(super) fn pace<R>(run: &Run<R>) {
    let mut arrivals = Arrivals::new(&run.plan.phases, run.began);
    let mut waiting: BinaryHeap<Reverse<(Instant, u64, u32)>> = BinaryHeap::new();
    let mut returning = std::collections::HashMap::new();
    let mut due = Vec::new();
    let gives_up = run.began + run.plan.time() + run.plan.deadline + GRACE;
    loop {
        let now = Instant::now();
        while let Some(arrival) = arrivals.next_until(now) {
            run.queue.enter();
            due.push(arrival);
        }
        run.queue.coming(|again| {
            waiting.push(Reverse((again.due, again.visitor, again.tries)));
            returning.insert(again.visitor, again);
        });
        while let Some(Reverse((_, visitor, _))) = waiting.peek().filter(|next| next.0.0 <= now) {
            if let Some(mut again) = returning.remove(visitor) {
                again.phase = arrivals.phase_at(again.due);
                due.push(again);
            }
            waiting.pop();
        }
        if !due.is_empty() {
            let phase = arrivals.phase_at(now);
            let surplus = run.queue.release(&mut due);
            run.tally.dropped(phase, surplus);
            (0..surplus).for_each(|_| run.queue.leave());
        }
        if (arrivals.done() && run.queue.left() == 0) || now >= gives_up {
            break;
        }
        thread::sleep(PACE_EVERY);
    }
    run.queue.close();
}

/// Who arrives when.
#[derive(Debug)]
struct Arrivals<'a> {
    phases: &'a [Phase],
    /// When each phase begins.
    begins: Vec<Instant>,
    phase: usize,
    /// Arrivals of this phase that were let go.
    gone: u64,
    visitor: u64,
}

impl<'a> Arrivals<'a> {
    fn new(phases: &'a [Phase], began: Instant) -> Self {
        let mut at = began;
        let mut begins = Vec::with_capacity(phases.len());
        for phase in phases {
            begins.push(at);
            at += phase.time;
        }
        Self { phases, begins, phase: 0, gone: 0, visitor: 0 }
    }

    fn done(&self) -> bool {
        self.phase >= self.phases.len()
    }

    /// The next one that is due by `now`.
    fn next_until(&mut self, now: Instant) -> Option<Try> {
        while let Some(phase) = self.phases.get(self.phase) {
            if self.gone >= phase.arrivals() {
                self.phase += 1;
                self.gone = 0;
                continue;
            }
            let offset = Duration::from_secs_f64(self.gone as f64 / phase.rate);
            let due = self.begins[self.phase] + offset;
            if due > now {
                return None;
            }
            let (visitor, phase) = (self.visitor, self.phase);
            self.gone += 1;
            self.visitor += 1;
            return Some(Try { visitor, tries: 1, phase, due, first_due: due });
        }
        None
    }

    /// The phase of a moment; what comes after the end belongs to the last.
    fn phase_at(&self, at: Instant) -> usize {
        self.begins.partition_point(|begin| *begin <= at).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Arrivals;
    use crate::rig::plan::Phase;

    /// Proves that every phase lets go as many as its rate says, at even times, and in order.
    #[test]
    fn arrivals_are_even() {
        let ms = Duration::from_millis;
        let phase = |rate, time| Phase { name: String::new(), rate, time: ms(time) };
        let phases = [phase(100.0, 50), phase(1_000.0, 10)];
        let began = Instant::now();
        let mut arrivals = Arrivals::new(&phases, began);
        assert_eq!(arrivals.next_until(began).unwrap().due, began);
        assert_eq!(arrivals.next_until(began + ms(9)), None);
        let mut rest = Vec::new();
        while let Some(next) = arrivals.next_until(began + ms(60)) {
            rest.push(next);
        }
        assert!(arrivals.done());
        assert_eq!(rest.len(), 14);
        assert_eq!((rest[0].due - began, rest[0].phase), (ms(10), 0));
        assert_eq!((rest[4].due - began, rest[4].phase), (ms(50), 1));
        assert_eq!((rest[13].due - began, rest[13].visitor), (ms(59), 14));
        assert_eq!(arrivals.phase_at(began + ms(500)), 1);
    }
}
