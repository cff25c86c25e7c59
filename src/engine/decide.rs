//! Decisions: check everything, then let events write everything.

mod ending;
mod reserve;
mod sales;

use super::command::Command;
use super::event::Event;
use super::state::State;
use crate::clock::Millis;
use crate::limits;
use crate::sale::{Outcome, Refusal};

use sales::Restock;

/// Decides one command at `now`, changes `state` accordingly, and appends what happened to `events`.
///
/// A refusal takes nothing; all that it may append is that a hold has run out, or that money which
/// came too late has to go back. Time never steps back: an earlier `now` than the
/// lane has seen counts as the latest. Cost: a few hash look-ups per line.
///
/// # Panics
/// Where an event that was just decided contradicts the state. That is a defect of the engine, and
/// going on could oversell.
pub fn apply(
    state: &mut State,
    now: Millis,
    command: &Command,
    events: &mut Vec<Event>,
) -> Outcome {
    state.advance(now);
    let mut step = Step { state, events };
    let decided = match command {
        Command::Reserve(reserve) => step.reserve(reserve),
        Command::Confirm { id, payment } => step.confirm(*id, payment),
        Command::Cancel { id, by } => step.cancel(*id, by),
        Command::Find { id, owner } => step.find(*id, owner.as_ref()),
        Command::CreateSale { definition, actor } => step.create_sale(definition, actor),
        Command::MoveSale { sale, step: wanted, actor } => step.move_sale(sale, *wanted, actor),
        Command::Restock { sale, item, delta, key, reason, actor } => {
            let restock = Restock { sale, item, delta: *delta, key, reason, actor };
            step.restock(&restock)
        }
        Command::Inspect { sale } => step.inspect(sale),
        Command::Sweep => Ok(step.sweep()),
    };
    decided.unwrap_or_else(Outcome::Refused)
}

/// One decision under way: the state, and what has happened in it so far.
struct Step<'a> {
    state: &'a mut State,
    events: &'a mut Vec<Event>,
}

/// What a decision comes to.
type Decided = Result<Outcome, Refusal>;

impl Step<'_> {
    /// Makes `event` true.
    fn happen(&mut self, event: Event) {
        if let Err(impossible) = self.state.evolve(&event) {
            // Every caller has checked what `evolve` checks again.
            panic!("the engine decided what cannot be: {impossible}: {event:?}");
        }
        self.events.push(event);
    }

    fn sweep(&mut self) -> Outcome {
        let (due, more) = self.state.due(limits::SWEEP_MAX);
        let expired = due.len();
        for returned in due {
            self.happen(Event::Expired(returned));
        }
        Outcome::Swept { expired, more }
    }
}
