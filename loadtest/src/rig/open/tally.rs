//! Counts while a run goes on, phase by phase.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::queue::Try;
use super::report::{self, OpenReport};
use crate::limits::{ERROR_KINDS_MAX, LATE_AFTER, LATENCY_MAX_US, SECONDS_MAX};
use crate::rig::RigError;
use crate::rig::answer::{Answer, ReservationId};
use crate::rig::connection::Broken;
use crate::rig::plan::OpenPlan;

/// What the visitors saw: the other half of what the oracle needs.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Each 201: which visitor, and which reservation.
    pub grants: Vec<(u64, ReservationId)>,
    /// Visitors of whose tries one ended without an answer, or with `outcome-unknown`: they may have
    /// a reservation that nobody told them of.
    pub unknown: HashSet<u64>,
    /// 201 without a reservation in it.
    pub nameless: u64,
    /// How many came.
    pub visitors: u64,
}

#[derive(Debug)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
pub(super) struct Counts {
    pub phases: Vec<PhaseCounts>,
    /// From a visitor's first intention to the 201.
    pub visits: Histogram<u64>,
    /// By second: 201, other answers.
    pub seconds: Vec<(u64, u64)>,
    pub errors: BTreeMap<&'static str, u64>,
    pub body_bytes: u64,
    pub last: Instant,
    pub seen: Seen,
}

#[derive(Debug)]
pub(super) struct PhaseCounts {
    pub sent: u64,
    pub late: u64,
    pub latest: Duration,
    pub dropped: u64,
    pub retries: u64,
    pub unanswered: u64,
    pub accepted: Histogram<u64>,
    pub others: Histogram<u64>,
    pub refused: Vec<(u16, String, u64)>,
}

impl PhaseCounts {
    fn new() -> Result<Self, RigError> {
        let (accepted, others) = (histogram()?, histogram()?);
        Ok(Self {
            sent: 0,
            late: 0,
            latest: Duration::ZERO,
            dropped: 0,
            retries: 0,
            unanswered: 0,
            accepted,
            others,
            refused: Vec::new(),
        })
    }

    fn refuse(&mut self, status: u16, code: &str) {
        let room = self.refused.len() < ERROR_KINDS_MAX;
        let known = self.refused.iter_mut().find(|known| known.0 == status && known.1 == code);
        match known {
            Some(known) => known.2 += 1,
            None if room => self.refused.push((status, code.to_owned(), 1)),
            None => {}
        }
    }
}

pub(super) fn histogram() -> Result<Histogram<u64>, RigError> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
        .map_err(|bad| RigError::Histogram(bad.to_string()))
}

impl Tally {
    pub(super) fn new(phases: usize) -> Result<Self, RigError> {
        let phases = (0..phases).map(|_| PhaseCounts::new()).collect::<Result<_, _>>()?;
        let counts = Counts {
            phases,
            visits: histogram()?,
            seconds: Vec::new(),
            errors: BTreeMap::new(),
            body_bytes: 0,
            last: Instant::now(),
            seen: Seen::default(),
        };
        Ok(Self { counts: Mutex::new(counts) })
    }

    /// A request goes out, so much after it was due.
    pub(super) fn sent(&self, phase: usize, late: Duration) {
        let mut counts = self.lock();
        let Some(phase) = counts.phases.get_mut(phase) else { return };
        phase.sent += 1;
        phase.late += u64::from(late > LATE_AFTER);
        phase.latest = phase.latest.max(late);
    }

    /// Requests that were due and are never sent.
    pub(super) fn dropped(&self, phase: usize, times: u64) {
        if let Some(phase) = self.lock().phases.get_mut(phase) {
            phase.dropped += times;
        }
    }

    pub(super) fn answered(&self, done: &Try, answer: &Answer, began: Instant) {
        let now = Instant::now();
        let latency = micros(now.saturating_duration_since(done.due));
        let mut counts = self.lock();
        let second = usize::try_from((now - began).as_secs()).unwrap_or(usize::MAX);
        let second = second.min(SECONDS_MAX - 1);
        if counts.seconds.len() <= second {
            counts.seconds.resize(second + 1, (0, 0));
        }
        counts.last = counts.last.max(now);
        counts.body_bytes += answer.body_bytes as u64;
        let won = answer.status == 201;
        counts.seconds[second].0 += u64::from(won);
        counts.seconds[second].1 += u64::from(!won);
        match answer.reservation {
            Some(id) if won => counts.seen.grants.push((done.visitor, id)),
            None if won => counts.seen.nameless += 1,
            Some(_) | None => {}
        }
        if answer.code == "outcome-unknown" {
            counts.seen.unknown.insert(done.visitor);
        }
        let Some(phase) = counts.phases.get_mut(done.phase) else { return };
        phase.retries += u64::from(done.tries > 1);
        if won {
            phase.accepted.saturating_record(latency);
        } else {
            phase.others.saturating_record(latency);
            phase.refuse(answer.status, &answer.code);
        }
    }

    /// A visitor has what they came for.
    pub(super) fn served(&self, done: &Try) {
        let took = micros(done.first_due.elapsed());
        self.lock().visits.saturating_record(took);
    }

    pub(super) fn unanswered(&self, done: &Try, broken: &Broken) {
        let mut counts = self.lock();
        *counts.errors.entry(broken.kind()).or_insert(0) += 1;
        if broken.may_have_been_served() {
            counts.seen.unknown.insert(done.visitor);
        }
        let Some(phase) = counts.phases.get_mut(done.phase) else { return };
        phase.retries += u64::from(done.tries > 1);
        phase.unanswered += 1;
    }

    /// Workers that hung at the end.
    pub(super) fn cut_off(&self, workers: u64) {
        if workers > 0 {
            *self.lock().errors.entry("cut off at the end").or_insert(0) += workers;
        }
    }

    /// How it goes, in a few words.
    pub(super) fn line(&self) -> String {
        let counts = self.lock();
        let (won, others) = counts.seconds.last().copied().unwrap_or_default();
        let dropped: u64 = counts.phases.iter().map(|phase| phase.dropped).sum();
        format!("{won} times 201, {others} other answers this second; {dropped} dropped")
    }

    pub(super) fn report(
        &self,
        plan: &OpenPlan,
        began: Instant,
        left: u64,
    ) -> Result<(OpenReport, Seen), RigError> {
        let mut counts = self.lock();
        let mut seen = std::mem::take(&mut counts.seen);
        seen.visitors = plan.arrivals();
        Ok((report::of(&counts, plan, began, left)?, seen))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, LATENCY_MAX_US)
}
