//! The traps of selling few things to many, by name. Every step also passes the model.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the one answer it wants")]

mod ending;
mod taking;

use super::run::Run;
use super::world::{START, item_id, payment, reservation_id, restock_key, sale_id, user};
use crate::clock::Millis;
use crate::engine::{Authority, Command, OrderedLine, Reserve};
use crate::sale::{Counters, Move, Outcome, Refusal, Reservation, SaleDefinition};

/// A shop with one sale, and short words for what can be done in it, so many milliseconds after it
/// opened.
struct Shop {
    run: Run,
}

impl Shop {
    fn new(sale: SaleDefinition) -> Self {
        Self { run: Run::new(vec![sale], 1) }
    }

    fn ask(&mut self, ms: u64, command: Command) -> Outcome {
        self.run.command(Millis(START + ms), &command)
    }

    /// The `id`th reservation is asked for: (item, units) each.
    fn reserve(&mut self, ms: u64, id: usize, who: usize, lines: &[(usize, u32)]) -> Outcome {
        let line = |(item, quantity): &(usize, u32)| OrderedLine {
            item: item_id(*item),
            quantity: *quantity,
        };
        let lines = lines.iter().map(line).collect();
        let (id, sale, user) = (reservation_id(id), sale_id(0), user(who));
        self.ask(ms, Command::Reserve(Reserve { id, sale, user, lines }))
    }

    fn confirm(&mut self, ms: u64, id: usize, with: usize) -> Outcome {
        self.ask(ms, Command::Confirm { id: reservation_id(id), payment: payment(with) })
    }

    fn cancel(&mut self, ms: u64, id: usize, who: usize) -> Outcome {
        let by = Authority::Owner(user(who));
        self.ask(ms, Command::Cancel { id: reservation_id(id), by })
    }

    fn refund(&mut self, ms: u64, id: usize, restock: bool) -> Outcome {
        let by = Authority::Operator { actor: "operator".into(), restock };
        self.ask(ms, Command::Cancel { id: reservation_id(id), by })
    }

    fn step(&mut self, ms: u64, step: Move) -> Outcome {
        self.ask(ms, Command::MoveSale { sale: sale_id(0), step, actor: "operator".into() })
    }

    fn restock(&mut self, ms: u64, key: usize, delta: i64) -> Outcome {
        let (sale, item, key) = (sale_id(0), item_id(0), restock_key(key));
        let (reason, actor) = ("a reason".into(), "operator".into());
        self.ask(ms, Command::Restock { sale, item, delta, key, reason, actor })
    }

    fn sweep(&mut self, ms: u64) -> usize {
        match self.ask(ms, Command::Sweep) {
            Outcome::Swept { expired, more: false } => expired,
            other => panic!("{other:?}"),
        }
    }

    fn counters(&self, item: usize) -> Counters {
        self.run.state.sale(&sale_id(0)).unwrap().counters()[item]
    }

    fn available(&self, item: usize) -> u64 {
        self.counters(item).available
    }

    fn refunds(&self) -> usize {
        let events = self.run.journal.iter().flat_map(|(_, events)| events);
        events.filter(|e| matches!(e, crate::engine::Event::RefundNeeded { .. })).count()
    }
}

fn taken(outcome: Outcome) -> Reservation {
    match outcome {
        Outcome::Reserved { reservation, replayed: false } => reservation,
        other => panic!("not taken: {other:?}"),
    }
}

fn paid(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Confirmed { rebooked, .. } => rebooked,
        other => panic!("not paid: {other:?}"),
    }
}

fn refused(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
