//! The journal alone: what it gives back, and what it gives away when it is damaged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::commands::any_steps;
use super::run::{Run, seen};
use super::world::any_world;
use crate::clock::Millis;
use crate::engine::{Command, Event, Impossible, Position, State, apply};
use crate::sale::Status;

/// What a start does: folds batch by batch, each at its time.
fn rebuilt(journal: &[(Millis, Vec<Event>)]) -> State {
    let mut state = State::new(1);
    for (at, events) in journal {
        state.advance(*at);
        for event in events {
            state.evolve(event).expect("what happened can happen again");
        }
    }
    state
}

/// Sweeps until nothing is due and no stale entry is in front.
fn swept(state: &mut State, now: Millis) -> Vec<Event> {
    let mut events = Vec::new();
    apply(state, now, &Command::Sweep, &mut events);
    apply(state, now, &Command::Sweep, &mut events);
    events
}

proptest! {
    /// A state made of events alone is the state that made them, and stays so under further commands.
    #[test]
    fn events_give_the_state_back(
        world in any_world(),
        before in any_steps(50),
        after in any_steps(20),
        late in 0_u64..20_000,
    ) {
        let mut run = Run::new(world, 2);
        run.steps(&before);
        let mut state = rebuilt(&run.journal);
        state.advance(run.state.now());
        prop_assert_eq!(seen(&state), seen(&run.state));
        prop_assert_eq!(state.position(), Position { epoch: 1, seq: run.state.position().seq });
        // The run goes on with the rebuilt state; its model and its auditor never notice.
        std::mem::swap(&mut run.state, &mut state);
        run.steps(&after);
        // And both, rebuilt once more, come to the same end.
        let mut again = rebuilt(&run.journal);
        let now = Millis(run.state.now().0 + late);
        again.advance(run.state.now());
        prop_assert_eq!(swept(&mut again, now), swept(&mut run.state, now));
        prop_assert_eq!(seen(&again), seen(&run.state));
        prop_assert_eq!(again.next_deadline(), run.state.next_deadline());
    }

    /// A journal with an event too few, too many or elsewhere is refused, or folds into a state in
    /// which every unit is still in exactly one place. It never panics.
    #[test]
    fn damage_is_refused_or_harmless(
        world in any_world(),
        steps in any_steps(60),
        damage in prop::collection::vec(any_damage(), 1..=3),
    ) {
        let mut run = Run::new(world, 2);
        run.steps(&steps);
        let mut events = flat(&run.journal);
        for damage in damage {
            damage.strike(&mut events);
        }
        let mut state = State::new(1);
        for (at, event) in &events {
            state.advance(*at);
            let seq = state.position().seq;
            match state.evolve(event) {
                Ok(()) => prop_assert_eq!(state.position().seq, seq + 1),
                Err(Impossible { seq: refused, .. }) => {
                    prop_assert_eq!(refused, seq + 1);
                    prop_assert_eq!(state.position().seq, seq, "what was refused is not counted");
                    break;
                }
            }
            check_places(&state)?;
        }
    }

    /// Whatever is told twice in a row is refused the second time.
    #[test]
    fn an_echo_is_refused(world in any_world(), steps in any_steps(40)) {
        let mut run = Run::new(world, 2);
        run.steps(&steps);
        let mut state = State::new(1);
        for (at, event) in flat(&run.journal) {
            state.advance(at);
            state.evolve(&event).unwrap();
            let before = seen(&state);
            prop_assert!(state.evolve(&event).is_err(), "{:?} happened twice", event);
            prop_assert_eq!(seen(&state), before, "refusing {:?} changed something", event);
        }
    }
}

fn flat(journal: &[(Millis, Vec<Event>)]) -> Vec<(Millis, Event)> {
    journal.iter().flat_map(|(at, events)| events.iter().map(|e| (*at, e.clone()))).collect()
}

#[derive(Clone, Debug)]
enum Damage {
    Dropped(Index),
    Doubled(Index, Index),
    Swapped(Index, Index),
    Moved(Index, Index),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let two = || (any::<Index>(), any::<Index>());
    prop_oneof![
        any::<Index>().prop_map(Damage::Dropped),
        two().prop_map(|(from, to)| Damage::Doubled(from, to)),
        two().prop_map(|(a, b)| Damage::Swapped(a, b)),
        two().prop_map(|(from, to)| Damage::Moved(from, to)),
    ]
}

impl Damage {
    fn strike(&self, events: &mut Vec<(Millis, Event)>) {
        let len = events.len();
        if len < 2 {
            return;
        }
        match self {
            Damage::Dropped(at) => drop(events.remove(at.index(len))),
            Damage::Doubled(from, to) => {
                let event = events[from.index(len)].clone();
                events.insert(to.index(len), event);
            }
            Damage::Swapped(a, b) => events.swap(a.index(len), b.index(len)),
            Damage::Moved(from, to) => {
                let event = events.remove(from.index(len));
                events.insert(to.index(len), event);
            }
        }
    }
}

/// Every unit is in one place, and the counters are the sums of the reservations.
fn check_places(state: &State) -> Result<(), TestCaseError> {
    let mut out: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for reservation in state.reservations() {
        for line in &reservation.lines {
            let sums = out.entry((reservation.sale.clone(), line.item.clone())).or_default();
            match reservation.status {
                Status::Held => sums.0 += u64::from(line.quantity),
                Status::Confirmed => sums.1 += u64::from(line.quantity),
                Status::Cancelled | Status::Expired => {}
            }
        }
    }
    for (id, sale) in state.sales() {
        for named in sale.report().items {
            let there = named.counters;
            let sums = out.get(&(id.clone(), named.item)).copied().unwrap_or_default();
            prop_assert_eq!((there.held, there.confirmed), sums);
            prop_assert_eq!(there.available + there.held + there.confirmed, there.stock);
        }
    }
    Ok(())
}
