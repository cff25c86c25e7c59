//! How much is needed for how many: a small simulation of a sale's first seconds, by what an answer was
//! measured to cost.
//!
//! Time goes in milliseconds. Work waits in two queues, the gateways' and the ledger's; whoever would
//! wait longer for the ledger than the gateways allow is turned away, and comes back. No randomness: the
//! same figures give the same table.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::limits::{CAPACITY_GATEWAYS_MAX, LATENCY_MAX_US};

/// What things cost, as they were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// CPU of a gateway for an answer that needs no ledger: sold out, turned away. In µs.
    pub answer_us: f64,
    /// CPU of a gateway for a reservation.
    pub reserve_us: f64,
    /// CPU of the ledger for a reservation; one sale is in one lane, and a lane on one core.
    pub ledger_us: f64,
    /// Orders that the writer gets into the store in a second.
    pub orders_per_second: f64,
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How many.
    pub buyers: u64,
    /// Over how long, evenly, in milliseconds.
    pub over_ms: u64,
    /// Units, one for each.
    pub stock: u64,
}

/// What answers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Gateways.
    pub gateways: u64,
    /// Cores of each that are its own.
    pub cores: u64,
    /// How long a reservation may wait for its lane, in milliseconds.
    pub budget_ms: u64,
    /// After how long those come back who were turned away: this and up to a second more.
    pub retry_after_ms: u64,
}

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// When the last unit was taken, in milliseconds; `None` if some were left.
    pub sold_out_ms: Option<u64>,
    /// Answers that turned somebody away for the time being.
    pub shed: u64,
    /// When the last answer was given.
    pub done_ms: u64,
    /// Half of all answers took at most so long, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers.
    pub p99_ms: f64,
    /// When the last order was in the store.
    pub digested_ms: u64,
}

/// What waits at one moment, in µs of work.
#[derive(Debug, Default)]
struct Waiting {
    gateways: f64,
    ledger: f64,
}

/// Plays a sale. `None` where figures make no sense: no cores, no time.
#[must_use]
pub fn simulate(costs: &Costs, crowd: &Crowd, fleet: &Fleet) -> Option<Course> {
    let power = (fleet.gateways * fleet.cores) as f64 * 1e3;
    if power <= 0.0 || crowd.over_ms == 0 {
        return None;
    }
    let mut latency = Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_US, 3).ok()?;
    let mut waiting = Waiting::default();
    let mut returning: VecDeque<u64> = VecDeque::new();
    let (mut came, mut left, mut shed, mut sold_out_ms) = (0, crowd.stock, 0, None);
    let mut ms = 0;
    loop {
        let due = u128::from(crowd.buyers) * u128::from((ms + 1).min(crowd.over_ms));
        let due = u64::try_from(due / u128::from(crowd.over_ms)).unwrap_or(u64::MAX);
        let asking = due - came + returning.pop_front().unwrap_or(0);
        came = due;
        let at_gateway = waiting.gateways / power;
        let at_ledger = waiting.ledger / 1e3;
        let taken = if left == 0 || at_ledger > fleet.budget_ms as f64 {
            0
        } else {
            // As many as keep the queue within its bound.
            let room = (fleet.budget_ms as f64 + 1.0 - at_ledger) * 1e3 / costs.ledger_us;
            asking.min(left).min(room as u64)
        };
        let turned_away = if left > taken { asking - taken } else { 0 };
        waiting.gateways +=
            taken as f64 * costs.reserve_us + (asking - taken) as f64 * costs.answer_us;
        waiting.ledger += taken as f64 * costs.ledger_us;
        let micros = |ms: f64| ((ms * 1e3) as u64).clamp(1, LATENCY_MAX_US);
        latency.saturating_record_n(micros(at_gateway + at_ledger + 1.0), taken);
        latency.saturating_record_n(micros(at_gateway + 1.0), asking - taken);
        come_back(&mut returning, turned_away, fleet.retry_after_ms);
        shed += turned_away;
        left -= taken;
        if left == 0 && sold_out_ms.is_none() {
            let decided = at_gateway + waiting.ledger / 1e3;
            sold_out_ms = Some(ms + decided as u64);
        }
        waiting.gateways = (waiting.gateways - power).max(0.0);
        waiting.ledger = (waiting.ledger - 1e3).max(0.0);
        ms += 1;
        let quiet = waiting.gateways <= 0.0 && waiting.ledger <= 0.0;
        if ms >= crowd.over_ms && quiet && returning.iter().all(|count| *count == 0) {
            break;
        }
    }
    let sold = crowd.stock - left;
    let written = (sold as f64 / costs.orders_per_second * 1e3) as u64;
    Some(Course {
        sold_out_ms,
        shed,
        done_ms: ms,
        p50_ms: latency.value_at_quantile(0.5) as f64 / 1e3,
        p99_ms: latency.value_at_quantile(0.99) as f64 / 1e3,
        digested_ms: written.max(sold_out_ms.unwrap_or(ms)),
    })
}

/// Spreads those who were turned away over the second after they may come again.
fn come_back(returning: &mut VecDeque<u64>, many: u64, after_ms: u64) {
    const SPREAD_MS: u64 = 1_000;
    if many == 0 {
        return;
    }
    let end = usize::try_from(after_ms + SPREAD_MS).unwrap_or(usize::MAX);
    if returning.len() < end {
        returning.resize(end, 0);
    }
    // Every place gets its share, and the remainder goes to the first ones.
    let (share, more) = (many / SPREAD_MS, many % SPREAD_MS);
    let first = end - usize::try_from(SPREAD_MS).unwrap_or(0);
    for (place, count) in returning.iter_mut().skip(first).take(SPREAD_MS as usize).enumerate() {
        *count += share + u64::from((place as u64) < more);
    }
}

/// The least number of gateways with which 99 of 100 answers come within `p99_ms`.
#[must_use]
pub fn gateways_for(
    costs: &Costs,
    crowd: &Crowd,
    fleet: &Fleet,
    p99_ms: f64,
) -> Option<(u64, Course)> {
    (1..=CAPACITY_GATEWAYS_MAX).find_map(|gateways| {
        let course = simulate(costs, crowd, &Fleet { gateways, ..*fleet })?;
        (course.p99_ms <= p99_ms).then_some((gateways, course))
    })
}

#[cfg(test)]
mod tests {
    use super::{Costs, Crowd, Fleet, gateways_for, simulate};

    const COSTS: Costs =
        Costs { answer_us: 10.0, reserve_us: 40.0, ledger_us: 10.0, orders_per_second: 10_000.0 };
    const FLEET: Fleet = Fleet { gateways: 1, cores: 1, budget_ms: 250, retry_after_ms: 1_000 };

    /// Proves the arithmetic where it can be done by hand: nobody waits, and everybody is answered.
    #[test]
    fn a_calm_sale() {
        let crowd = Crowd { buyers: 10_000, over_ms: 1_000, stock: 5_000 };
        let course = simulate(&COSTS, &crowd, &FLEET).unwrap();
        // Ten a millisecond, so the five thousandth comes in the five hundredth.
        assert_eq!((course.sold_out_ms, course.shed, course.done_ms), (Some(499), 0, 1_000));
        assert!(course.p99_ms < 3.0, "{course:?}");
        assert_eq!(course.digested_ms, 500);
    }

    /// Proves that a ledger which is asked for more than it can do turns people away, sells everything all
    /// the same, and that nobody is lost.
    #[test]
    fn more_than_the_ledger_can_do() {
        let crowd = Crowd { buyers: 400_000, over_ms: 1_000, stock: 300_000 };
        let course = simulate(&COSTS, &crowd, &Fleet { gateways: 64, ..FLEET }).unwrap();
        assert!(course.shed > 100_000, "{course:?}");
        // 300,000 of 10 µs each on one core.
        assert!((3_000..5_500).contains(&course.sold_out_ms.unwrap()), "{course:?}");
        assert!(course.p99_ms < 300.0, "{course:?}");
        assert_eq!(course.digested_ms, 30_000);
    }

    /// Proves that more gateways are needed for more people, and how many for a million in a second.
    #[test]
    fn gateways() {
        let crowd = Crowd { buyers: 1_000_000, over_ms: 1_000, stock: 1_000 };
        let (gateways, course) = gateways_for(&COSTS, &crowd, &FLEET, 1_000.0).unwrap();
        // A core gives 100 000 answers in a second, and may be a second behind at the end.
        assert_eq!(gateways, 5, "{course:?}");
        let few = Crowd { buyers: 10_000, ..crowd };
        assert_eq!(gateways_for(&COSTS, &few, &FLEET, 1_000.0).unwrap().0, 1);
        assert!(simulate(&COSTS, &crowd, &Fleet { cores: 0, ..FLEET }).is_none());
    }
}
