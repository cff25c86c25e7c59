//! Commands of steps: numbers become what they name in the state of the model.

use std::sync::Arc;

use super::{By, Op, Step, Twist, Wait};
use crate::clock::Millis;
use crate::engine::proof::model::Model;
use crate::engine::proof::world::{item_id, payment, reservation_id, restock_key, sale_id, user};
use crate::engine::{Actor, Authority, Command, OrderedLine, Reserve};
use crate::sale::{ReservationId, SaleDefinition, UserId};

/// Makes commands of steps; remembers the reserves for those that come again.
#[derive(Default)]
pub struct Speaker {
    reserves: Vec<Reserve>,
}

impl Speaker {
    /// The command that `step` means in the state of `model`, and what the clock shows then.
    pub fn say(
        &mut self,
        step: &Step,
        world: &[SaleDefinition],
        model: &Model,
    ) -> (Millis, Command) {
        let clock = match step.wait {
            Wait::None => model.now,
            Wait::For(ms) => model.now + ms,
            Wait::Edge { nth, offset } => {
                let edges = model.edges();
                let edge = edges.get(nth % edges.len().max(1)).copied().unwrap_or(model.now);
                edge.saturating_add_signed(offset)
            }
            Wait::Behind(ms) => model.now.saturating_sub(ms),
        };
        (Millis(clock), self.command(&step.op, world, model))
    }

    fn command(&mut self, op: &Op, world: &[SaleDefinition], model: &Model) -> Command {
        let actor: Actor = "operator".into();
        match op {
            Op::Reserve { sale, user: who, lines } => {
                let asked = |(item, quantity): &(usize, u32)| OrderedLine {
                    item: item_id(*item),
                    quantity: *quantity,
                };
                let id = reservation_id(self.reserves.len());
                let lines = lines.iter().map(asked).collect();
                let asked = Reserve { id, sale: sale_id(*sale), user: user(*who), lines };
                self.reserves.push(asked.clone());
                Command::Reserve(asked)
            }
            Op::Again { nth, twist } => {
                let earlier = self.reserves.get(nth % self.reserves.len().max(1));
                earlier.map_or(Command::Sweep, |earlier| {
                    Command::Reserve(twisted(earlier.clone(), *twist))
                })
            }
            Op::Confirm { nth, payment: which } => {
                let (id, _) = pick(model, *nth);
                Command::Confirm { id, payment: payment(*which) }
            }
            Op::Cancel { nth, by } => {
                let (id, owner) = pick(model, *nth);
                let by = match by {
                    By::Owner => Authority::Owner(owner),
                    By::User(n) => Authority::Owner(user(*n)),
                    By::Operator { restock } => Authority::Operator { actor, restock: *restock },
                };
                Command::Cancel { id, by }
            }
            Op::Find { nth, by } => {
                let (id, owner) = pick(model, *nth);
                let owner = match by {
                    By::Owner => Some(owner),
                    By::User(n) => Some(user(*n)),
                    By::Operator { .. } => None,
                };
                Command::Find { id, owner }
            }
            Op::Create { sale, altered } => {
                let mut definition = world[sale % world.len()].clone();
                definition.hold_seconds += u32::from(*altered);
                Command::CreateSale { definition: Arc::new(definition), actor }
            }
            Op::Move { sale, step } => {
                Command::MoveSale { sale: sale_id(*sale), step: *step, actor }
            }
            Op::Restock { sale, item, delta, key } => Command::Restock {
                sale: sale_id(*sale),
                item: item_id(*item),
                delta: *delta,
                key: restock_key(*key),
                reason: "a reason".into(),
                actor,
            },
            Op::Inspect { sale } => Command::Inspect { sale: sale_id(*sale) },
            Op::Sweep => Command::Sweep,
        }
    }
}

/// A reservation that exists, nine times out of ten; and whose it is.
fn pick(model: &Model, nth: usize) -> (ReservationId, UserId) {
    let known = model.booked.get(nth % model.booked.len().max(1));
    match known.filter(|_| nth % 10 != 9) {
        Some(booked) => (booked.id, booked.user.clone()),
        None => (reservation_id(usize::MAX), user(0)),
    }
}

fn twisted(mut asked: Reserve, twist: Twist) -> Reserve {
    match twist {
        Twist::None => {}
        Twist::User => asked.user = user(usize::from(asked.user == user(0))),
        Twist::Sale => asked.sale = sale_id(usize::from(asked.sale == sale_id(0))),
        Twist::Quantity => {
            if let Some(line) = asked.lines.first_mut() {
                line.quantity ^= 3;
            }
        }
        Twist::Order => asked.lines.reverse(),
        Twist::Fewer => {
            asked.lines = asked.lines.iter().skip(1).cloned().collect();
        }
    }
    asked
}
