//! Who a buyer is: what they want and which habits they have. Drawn from the plan's seed, so that
//! it does not depend on how the tasks were scheduled.

use fastrand::Rng;

use super::plan::CrowdPlan;
use crate::limits::CANCEL_WAVES_MAX;

/// How often the first request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Once,
    /// Twice at the same time, on two connections.
    TwiceAtOnce,
    /// Twice, the second time after the answer.
    TwiceInARow,
}

/// What a winner does in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Cancels,
    PaysAtOnce,
    Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Persona {
    /// Which of the wave's items is wanted; the basket takes the next one as well.
    pub item: usize,
    pub basket: bool,
    pub sending: Sending,
    pub repeats: bool,
    pub misuses: bool,
    pub looks: bool,
    pub ending: Ending,
}

impl Persona {
    /// The buyer with number `n`, in a wave in which `items` items are for sale.
    pub(super) fn draw(plan: &CrowdPlan, n: u64, wave: u32, items: usize) -> Self {
        let mut rng = Rng::with_seed(mix(plan.seed, n, wave));
        let habits = &plan.habits;
        let item = rng.usize(..items.max(1));
        let sending = if rng.f64() >= habits.duplicate_ratio {
            Sending::Once
        } else if rng.bool() {
            Sending::TwiceAtOnce
        } else {
            Sending::TwiceInARow
        };
        let cancels = rng.f64() < habits.cancel_ratio && wave < CANCEL_WAVES_MAX;
        let pays = rng.f64() < habits.confirm_ratio && plan.ops.is_some();
        Self {
            item,
            // Second chances are for single units: a basket may never fit what came back.
            basket: rng.f64() < habits.basket_ratio && items > 1 && wave == 0,
            sending,
            repeats: rng.f64() < habits.retry_ratio,
            misuses: rng.f64() < habits.reuse_ratio,
            looks: rng.f64() < habits.look_ratio,
            ending: match (cancels, pays) {
                (true, _) => Ending::Cancels,
                (false, true) => Ending::PaysAtOnce,
                (false, false) => Ending::Waits,
            },
        }
    }
}

/// One seed from three numbers (the finalizer of SplitMix64): neighbours are not alike.
fn mix(seed: u64, n: u64, wave: u32) -> u64 {
    let mut mixed = seed
        .wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(u64::from(wave).wrapping_mul(0xd1b5_4a32_d192_ed03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::{CANCEL_WAVES_MAX, CrowdPlan, Ending, Persona, Sending};

    fn plan() -> CrowdPlan {
        CrowdPlan::new(([127, 0, 0, 1], 1).into(), "s", &["a", "b"], 10)
    }

    /// Proves that a persona depends on nothing but seed, number and wave.
    #[test]
    fn same_seed_same_persona() {
        for n in 0..100 {
            assert_eq!(Persona::draw(&plan(), n, 0, 2), Persona::draw(&plan(), n, 0, 2));
        }
    }

    /// Proves that habits come about as often as the plan says, within four standard deviations.
    #[test]
    fn shares_are_kept() {
        let mut plan = plan();
        plan.habits.duplicate_ratio = 0.5;
        let crowd: Vec<_> = (0..10_000).map(|n| Persona::draw(&plan, n, 0, 2)).collect();
        let count = |holds: fn(&Persona) -> bool| crowd.iter().filter(|p| holds(p)).count();
        assert!((4_800..=5_200).contains(&count(|p| p.sending == Sending::Once)));
        assert!((2_300..=2_700).contains(&count(|p| p.sending == Sending::TwiceAtOnce)));
        assert!((4_800..=5_200).contains(&count(|p| p.item == 1)));
        assert!((410..=590).contains(&count(|p| p.ending == Ending::Cancels)));
    }

    /// Proves that late waves do not cancel, so that the sale ends sold out.
    #[test]
    fn late_waves_only_buy() {
        let mut plan = plan();
        plan.habits.cancel_ratio = 1.0;
        assert_eq!(Persona::draw(&plan, 1, 0, 2).ending, Ending::Cancels);
        assert_eq!(Persona::draw(&plan, 1, CANCEL_WAVES_MAX, 2).ending, Ending::Waits);
    }
}
