//! Random sequences against the model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::commands::any_steps;
use super::run::Run;
use super::world::any_world;
use crate::sale::{Outcome, Refusal};

proptest! {
    /// Whatever is asked, whenever: answers, events and counters are those of the model, the events
    /// satisfy an auditor, limits and conservation hold, and asking twice is asking once.
    #[test]
    fn engine_is_the_model(world in any_world(), steps in any_steps(60)) {
        Run::new(world, 2).steps(&steps);
    }
}

/// The sequences go everywhere: no answer, refusal or event is left out, so that none goes unproven.
#[test]
fn sequences_reach_every_answer() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config { cases: 256, ..Config::default() }, rng);
    for _ in 0..256 {
        let cases = (any_world(), any_steps(60)).new_tree(&mut runner).unwrap();
        let (world, steps) = cases.current();
        let mut run = Run::new(world, 2);
        for step in &steps {
            *met.entry(kind(&run.step(step))).or_default() += 1;
        }
        for event in run.journal.iter().flat_map(|(_, events)| events) {
            let name = format!("{event:?}");
            let name = name.split(['(', ' ']).next().unwrap().to_owned();
            *met.entry(name).or_default() += 1;
        }
    }
    let wanted = [
        "reserved",
        "replayed",
        "confirmed",
        "rebooked",
        "cancelled",
        "found",
        "created",
        "known",
        "swept",
        "KeyReused",
        "UnknownSale",
        "SaleNotOpen",
        "SalePaused",
        "SaleClosed",
        "UnknownItem",
        "InvalidQuantity",
        "LimitReached",
        "SoldOut",
        "UnknownReservation",
        "ReservationConfirmed",
        "ReservationExpired",
        "ReservationCancelled",
        "SaleDiffers",
        "MoveRefused",
        "StockTaken",
        "SaleCreated",
        "SaleMoved",
        "Restocked",
        "Held",
        "Confirmed",
        "Cancelled",
        "Expired",
        "Rebooked",
        "RefundNeeded",
    ];
    for name in wanted {
        let times = met.get(name).copied().unwrap_or(0);
        assert!(times >= 20, "{name}: {times} times; all: {met:#?}");
    }
}

fn kind(outcome: &Outcome) -> String {
    let name = match outcome {
        Outcome::Reserved { replayed: false, .. } => "reserved",
        Outcome::Reserved { replayed: true, .. } => "replayed",
        Outcome::Confirmed { rebooked: false, .. } => "confirmed",
        Outcome::Confirmed { rebooked: true, .. } => "rebooked",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Found(_) => "found",
        Outcome::Sale { created: true, .. } => "created",
        Outcome::Sale { created: false, .. } => "known",
        Outcome::Swept { .. } => "swept",
        Outcome::Refused(refusal) => return refused(refusal),
    };
    name.to_owned()
}

fn refused(refusal: &Refusal) -> String {
    let name = format!("{refusal:?}");
    name.split(['(', ' ']).next().unwrap().to_owned()
}
