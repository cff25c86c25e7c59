//! The engine, the model and the auditor, side by side.

use super::auditor::Auditor;
use super::commands::{Speaker, Step};
use super::model::Model;
use super::world::{START, USERS, user};
use crate::clock::Millis;
use crate::engine::{Actor, Command, Event, State, apply};
use crate::sale::{Outcome, Refusal, Reservation, SaleDefinition, SaleReport, Status};

/// One engine at work, and everything that watches it.
pub struct Run {
    pub state: State,
    pub world: Vec<SaleDefinition>,
    pub journal: Vec<(Millis, Vec<Event>)>,
    /// Every command, and what the clock showed.
    pub asked: Vec<(Millis, Command)>,
    model: Model,
    auditor: Auditor,
    speaker: Speaker,
}

/// All that can be seen of a state from outside.
#[derive(Debug, PartialEq)]
pub struct Seen {
    seq: u64,
    now: Millis,
    sales: Vec<SaleReport>,
    reservations: Vec<Reservation>,
    /// Units by sale, user and item; the last of each row is the sum.
    taken: Vec<Vec<u32>>,
}

pub fn seen(state: &State) -> Seen {
    let mut reservations: Vec<_> = state.reservations().cloned().collect();
    reservations.sort_by_key(|reservation| reservation.id);
    let users: Vec<_> = (0..USERS).map(user).collect();
    let pairs = state.sales().flat_map(|(_, sale)| users.iter().map(move |user| (sale, user)));
    Seen {
        seq: state.position().seq,
        now: state.now(),
        sales: state.sales().map(|(_, sale)| sale.report()).collect(),
        reservations,
        taken: pairs
            .map(|(sale, user)| {
                let items = 0..sale.counters().len();
                let each = items.map(|item| sale.taken_of_item(user, item));
                each.chain([sale.taken(user)]).collect()
            })
            .collect(),
    }
}

impl Run {
    /// An engine that knows the world's first `known` sales.
    pub fn new(world: Vec<SaleDefinition>, known: usize) -> Self {
        let mut run = Self {
            state: State::new(1),
            world,
            journal: Vec::new(),
            asked: Vec::new(),
            model: Model::default(),
            auditor: Auditor::default(),
            speaker: Speaker::default(),
        };
        for n in 0..known {
            let (definition, actor) = (run.world[n].clone().into(), Actor::from("operator"));
            run.command(Millis(START), &Command::CreateSale { definition, actor });
        }
        run
    }

    pub fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    pub fn step(&mut self, step: &Step) -> Outcome {
        let (clock, command) = self.speaker.say(step, &self.world, &self.model);
        self.command(clock, &command)
    }

    /// Runs one command, and checks everything that can be checked.
    pub fn command(&mut self, clock: Millis, command: &Command) -> Outcome {
        self.asked.push((clock, command.clone()));
        let (expected, expected_events) = self.model.apply(clock, command);
        let mut events = Vec::new();
        let outcome = apply(&mut self.state, clock, command, &mut events);
        assert_eq!(outcome, expected, "answer to {command:?}");
        assert_eq!(events, expected_events, "events of {command:?}");
        self.auditor.hear(self.state.now(), &events);
        check_refusal(&outcome, &events);
        self.check_state();
        self.check_deadline(command);
        if !events.is_empty() {
            self.journal.push((self.state.now(), events));
        }
        self.check_idempotence(clock, command, &outcome);
        outcome
    }

    /// The state is what the model and the auditor say.
    fn check_state(&self) {
        assert_eq!(self.state.now(), self.model.at());
        assert_eq!(self.state.position().seq, self.auditor.seq, "events are numbered gaplessly");
        for sale in &self.model.sales {
            let definition = &sale.definition;
            let known = self.state.sale(&definition.id).expect("what was created is known");
            assert_eq!(known.report(), self.model.report(sale));
            for (at, item) in definition.items.iter().enumerate() {
                let there = known.counters()[at];
                let sum = there.available + there.held + there.confirmed;
                assert_eq!(sum, there.stock, "conservation of {}", item.id);
                let left = self.auditor.left(&definition.id, &item.id);
                assert_eq!(i128::from(there.available), left, "events tell of {}", item.id);
                for user in (0..USERS).map(user) {
                    let taken = known.taken_of_item(&user, at);
                    let counted = self.model.taken(&definition.id, &user, Some(&item.id));
                    assert_eq!(i128::from(taken), counted, "{user} has of {}", item.id);
                    assert!(item.per_user_limit.is_none_or(|limit| taken <= limit));
                }
            }
            for user in (0..USERS).map(user) {
                let taken = known.taken(&user);
                assert_eq!(i128::from(taken), self.model.taken(&definition.id, &user, None));
                assert!(definition.per_user_limit.is_none_or(|limit| taken <= limit));
            }
        }
        assert_eq!(self.state.sales_len(), self.model.sales.len());
        assert_eq!(self.state.reservations().count(), self.model.booked.len());
        for booked in &self.model.booked {
            assert_eq!(self.state.reservation(&booked.id), Some(&self.model.record(booked)));
        }
    }

    /// Whoever waits for the next deadline misses none, and does not wake for nothing forever.
    fn check_deadline(&self, command: &Command) {
        let held = self.model.booked.iter().filter(|booked| booked.status() == Status::Held);
        let first = held.map(|booked| Millis(booked.deadline)).min();
        let next = self.state.next_deadline();
        if let Some(first) = first {
            assert!(next.is_some_and(|next| next <= first), "{next:?} is later than {first:?}");
        }
        if matches!(command, Command::Sweep) {
            assert!(first.is_none_or(|at| at > self.state.now()), "due, and not swept");
        }
    }

    /// Asking again, at once, changes nothing and is answered as before.
    fn check_idempotence(&mut self, clock: Millis, command: &Command, first: &Outcome) {
        let before = seen(&self.state);
        let mut events = Vec::new();
        let again = apply(&mut self.state, clock, command, &mut events);
        assert_eq!(events, [], "events of {command:?}, asked twice");
        assert_eq!(again, repeated(first), "answer to {command:?}, asked twice");
        assert_eq!(seen(&self.state), before);
        if matches!(command, Command::Sweep) {
            let now = self.state.now();
            assert!(self.state.next_deadline().is_none_or(|next| next > now), "wakes forever");
        }
    }
}

/// The answer to a command that was answered so before.
fn repeated(first: &Outcome) -> Outcome {
    match first.clone() {
        Outcome::Reserved { reservation, .. } => Outcome::Reserved { reservation, replayed: true },
        Outcome::Sale { report, .. } => Outcome::Sale { report, created: false },
        Outcome::Swept { .. } => Outcome::Swept { expired: 0, more: false },
        same @ (Outcome::Confirmed { .. }
        | Outcome::Cancelled(_)
        | Outcome::Found(_)
        | Outcome::Refused(_)) => same,
    }
}

/// A refusal takes nothing. It may tell that a hold has run out, and that money has to go back.
fn check_refusal(outcome: &Outcome, events: &[Event]) {
    let Outcome::Refused(refusal) = outcome else {
        return;
    };
    let ended = matches!(
        refusal,
        Refusal::ReservationExpired | Refusal::ReservationCancelled | Refusal::ReservationConfirmed
    );
    for event in events {
        let told = matches!(event, Event::Expired(_) | Event::RefundNeeded { .. });
        assert!(ended && told, "{refusal:?} went with {event:?}");
    }
}
