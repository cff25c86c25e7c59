//! Buyers with broken clients: they give up, ask again at another gateway, ask twice at once, cancel, pay
//! late. Each writes down what they saw.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use floodgate_loadtest::history::{
    Entry, Level, Line, Op, Receipt, Seen, digest, is_transient, known,
};
use tokio::time::sleep;

use super::world::{SALE, World};
use crate::clock::{Clock, Millis, SystemClock};
use crate::engine::OrderedLine;
use crate::gate::{Denied, Purchase};
use crate::sale::{IdempotencyKey, ItemId, PaymentRef, Reservation, ReservationId, UserId};

/// What somebody wants, under a key.
#[derive(Clone, Debug)]
pub struct Wish {
    pub user: Arc<str>,
    pub key: Arc<str>,
    pub item: Arc<str>,
    pub quantity: u32,
}

/// One buyer's life.
pub async fn live(world: Arc<World>, number: usize, mut rng: Rng) {
    let user: Arc<str> = format!("u{number}").into();
    sleep(Duration::from_millis(rng.u64(0..1_500))).await;
    for purchase in 0..rng.usize(1..=3) {
        let item = rng.usize(0..world.scenario.stock.len());
        let wish = Wish {
            user: Arc::clone(&user),
            key: format!("k{purchase}").into(),
            item: format!("i{item}").into(),
            quantity: rng.u32(1..=2),
        };
        if rng.f32() < 0.2 {
            // The same request twice at once, wherever.
            let (one, other) = (rng.usize(..), rng.usize(..));
            tokio::join!(reserve(&world, &wish, one, 900), reserve(&world, &wish, other, 900));
        }
        if let Some(won) = insist(&world, &wish, &mut rng, 5).await {
            enjoy(&world, &wish, &won, &mut rng).await;
        }
        sleep(Duration::from_millis(rng.u64(0..300))).await;
    }
}

/// Asks under the same key until there is a definite answer, or patience ends.
pub async fn insist(
    world: &World,
    wish: &Wish,
    rng: &mut Rng,
    tries: usize,
) -> Option<Reservation> {
    for _ in 0..tries {
        let patience = *[250, 900, 2_500].get(rng.usize(0..3)).unwrap_or(&900);
        let (seen, won) = reserve(world, wish, rng.usize(..), patience).await;
        match seen {
            Seen::Ok => return won,
            // A no is a no, also one that asks to come again: who believes it must not be wrong.
            Seen::No(code) if rng.f32() < if is_transient(&code) { 0.2 } else { 0.7 } => {
                return None;
            }
            Seen::No(_) | Seen::Unknown(_) | Seen::Invoke => {}
        }
        sleep(Duration::from_millis(rng.u64(5..400))).await;
    }
    None
}

/// What a winner does with it.
async fn enjoy(world: &World, wish: &Wish, won: &Reservation, rng: &mut Rng) {
    match rng.u8(0..10) {
        0..=2 => {
            for _ in 0..3 {
                sleep(Duration::from_millis(rng.u64(0..400))).await;
                if !is_open(&cancel(world, &wish.user, won.id, rng.usize(..)).await) {
                    break;
                }
            }
        }
        3..=6 => {
            if rng.f32() < 0.3 && world.scenario.hold_seconds < 5 {
                // Just before the end, just after, or at it.
                let late = won.expires_at.since(SystemClock.now());
                sleep(
                    (late + Duration::from_millis(rng.u64(0..3)))
                        .saturating_sub(Duration::from_millis(1)),
                )
                .await;
            }
            for _ in 0..3 {
                if !is_open(&confirm(world, &wish.user, won.id, rng.usize(..)).await) {
                    break;
                }
                sleep(Duration::from_millis(rng.u64(0..400))).await;
            }
        }
        _ => {
            // Once more, though it was answered: soon, or when everybody has heard of it.
            sleep(Duration::from_millis(rng.u64(0..600))).await;
            reserve(world, wish, rng.usize(..), 900).await;
        }
    }
}

fn is_open(seen: &Seen) -> bool {
    match seen {
        Seen::Ok => false,
        Seen::No(code) => is_transient(code),
        Seen::Invoke | Seen::Unknown(_) => true,
    }
}

/// One request for units.
pub async fn reserve(
    world: &World,
    wish: &Wish,
    where_to: usize,
    patience_ms: u64,
) -> (Seen, Option<Reservation>) {
    let line = Line { item_id: Arc::clone(&wish.item), quantity: wish.quantity };
    let blank = Entry {
        key: Some(Arc::clone(&wish.key)),
        lines: vec![line].into(),
        ..blank(Op::Reserve, &wish.user)
    };
    let at = world.invoke(blank);
    let purchase = Purchase {
        user: UserId::parse(&wish.user).unwrap(),
        client: None,
        key: Some(IdempotencyKey::parse(&wish.key).unwrap()),
        lines: Box::new([OrderedLine {
            item: ItemId::parse(&wish.item).unwrap(),
            quantity: wish.quantity,
        }]),
    };
    let asked = world.at(where_to, patience_ms, async |gate| {
        let granted = gate.reserve(SALE, purchase).await?;
        // As it would be told.
        Ok((granted, Level::parse(gate.durability().as_str())))
    });
    match asked.await {
        Ok((granted, level)) => {
            let reservation = granted.reservation;
            world.end(at, Seen::Ok, |entry| {
                entry.replayed = granted.replayed;
                entry.reservation = Some(reservation.id.to_string().into());
                entry.receipt = Some(Box::new(receipt(&reservation, level)));
            });
            (Seen::Ok, Some(reservation))
        }
        Err(seen) => {
            world.end(at, seen.clone(), |_| {});
            (seen, None)
        }
    }
}

/// A buyer gives units back.
pub async fn cancel(world: &World, user: &Arc<str>, id: ReservationId, where_to: usize) -> Seen {
    let reservation = Some(id.to_string().into());
    let at = world.invoke(Entry { reservation, ..blank(Op::Cancel, user) });
    let owner = UserId::parse(user).unwrap();
    let asked = world.at(where_to, 900, async |gate| gate.cancel(owner, id).await).await;
    let seen = asked.map_or_else(|seen| seen, |_| Seen::Ok);
    world.end(at, seen.clone(), |_| {});
    seen
}

/// A payment arrives.
pub async fn confirm(world: &World, user: &Arc<str>, id: ReservationId, where_to: usize) -> Seen {
    let payment = format!("pay-{id}");
    let at = world.invoke(Entry {
        reservation: Some(id.to_string().into()),
        payment_ref: Some(payment.clone().into()),
        ..blank(Op::Confirm, user)
    });
    let payment = PaymentRef::parse(&payment).unwrap();
    let asked = world.at(where_to, 900, async |gate| gate.confirm(id, payment).await).await;
    let seen = asked.map_or_else(|seen| seen, |_| Seen::Ok);
    world.end(at, seen.clone(), |_| {});
    seen
}

/// What a client makes of a refusal.
pub fn seen(denied: &Denied) -> Seen {
    match denied {
        Denied::OutcomeUnknown => Seen::Unknown(known("outcome-unknown")),
        Denied::Refused(_)
        | Denied::RateLimited(_)
        | Denied::Overloaded
        | Denied::LedgerUnavailable
        | Denied::LedgerFenced => Seen::No(known(denied.code())),
    }
}

fn receipt(reservation: &Reservation, level: Option<Level>) -> Receipt {
    let ms = |at: Millis| i64::try_from(at.0).unwrap_or(i64::MAX);
    let line = |line: &crate::sale::Line| Line {
        item_id: line.item.to_string().into(),
        quantity: line.quantity,
    };
    let Reservation { id, held_at, expires_at, lines, .. } = reservation;
    Receipt {
        sale_id: SALE.into(),
        lines: lines.iter().map(line).collect(),
        total: i64::try_from(reservation.total()).unwrap_or(i64::MAX),
        held_at_ms: ms(*held_at),
        expires_at_ms: ms(*expires_at),
        body_digest: digest(format!("{id} {held_at} {expires_at} {lines:?}").as_bytes()),
        level,
    }
}

fn blank(op: Op, user: &Arc<str>) -> Entry {
    Entry {
        seq: 0,
        op,
        user: Arc::clone(user),
        key: None,
        payment_ref: None,
        lines: [].into(),
        clock: 0,
        start_us: 0,
        end_us: 0,
        seen: Seen::Invoke,
        replayed: false,
        reservation: None,
        receipt: None,
    }
}
