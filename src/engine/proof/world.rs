//! A world so small that everything collides: three sales, three users, four payments.

use proptest::option;
use proptest::prelude::*;

use crate::clock::Millis;
use crate::sale::{
    IdempotencyKey, ItemDefinition, ItemId, LaneId, PaymentRef, ReservationId, SaleDefinition,
    SaleId, UserId,
};

/// When the first sales open.
pub const START: u64 = 1_000_000;
/// Sales that may come to be known; one more is never created.
pub const SALES: usize = 3;
pub const USERS: usize = 3;
pub const PAYMENTS: usize = 4;

pub fn sale_id(n: usize) -> SaleId {
    SaleId::parse(&format!("sale-{n}")).unwrap()
}

pub fn item_id(n: usize) -> ItemId {
    ItemId::parse(&format!("item-{n}")).unwrap()
}

pub fn restock_key(n: usize) -> IdempotencyKey {
    IdempotencyKey::parse(&format!("restock-{n}")).unwrap()
}

pub fn user(n: usize) -> UserId {
    UserId::parse(&format!("user-{n}")).unwrap()
}

pub fn payment(n: usize) -> PaymentRef {
    PaymentRef::parse(&format!("payment-{n}")).unwrap()
}

pub fn reservation_id(n: usize) -> ReservationId {
    let key = IdempotencyKey::parse(&format!("key-{n}")).unwrap();
    ReservationId::derived(LaneId(0), &user(0), &sale_id(0), &key)
}

/// A sale that is open from `START` on, holds for a second, and limits nothing.
pub fn plain(n: usize, stocks: &[u64]) -> SaleDefinition {
    let item = |(at, stock): (usize, &u64)| ItemDefinition {
        id: item_id(at),
        title: "an item".into(),
        price: 100 + at as u64,
        currency: "EUR".into(),
        stock: *stock,
        per_user_limit: None,
    };
    SaleDefinition {
        id: sale_id(n),
        title: "a sale".into(),
        opens_at: Some(Millis(START)),
        closes_at: None,
        hold_seconds: 1,
        per_user_limit: None,
        items: stocks.iter().enumerate().map(item).collect(),
    }
}

fn any_sale(n: usize) -> impl Strategy<Value = SaleDefinition> {
    let opens_at = prop_oneof![
        6 => Just(Some(START)),
        1 => (START + 1_000..START + 4_000).prop_map(Some),
        1 => Just(None),
    ];
    let closes_at = prop_oneof![
        3 => Just(None),
        1 => (START + 4_000..START + 20_000).prop_map(Some),
    ];
    let hold_seconds = prop::sample::select(vec![1_u32, 2, 5]);
    let item = || (prop_oneof![4 => 1_u64..=8, 1 => Just(0)], option::of(1_u32..=4));
    let items = prop_oneof![
        5 => prop::collection::vec(item(), 2..=3),
        1 => prop::collection::vec(item(), 1),
    ];
    (opens_at, closes_at, hold_seconds, option::of(1_u32..=6), items).prop_map(
        move |(opens_at, closes_at, hold_seconds, per_user_limit, items)| {
            let stocks: Vec<u64> = items.iter().map(|(stock, _)| *stock).collect();
            let mut sale = plain(n, &stocks);
            sale.opens_at = opens_at.map(Millis);
            sale.closes_at = closes_at.map(Millis);
            sale.hold_seconds = hold_seconds;
            sale.per_user_limit = per_user_limit;
            for (item, (_, limit)) in sale.items.iter_mut().zip(&items) {
                item.per_user_limit = *limit;
            }
            sale
        },
    )
}

/// The sales that the commands of one sequence speak of.
pub fn any_world() -> impl Strategy<Value = Vec<SaleDefinition>> {
    (any_sale(0), any_sale(1), any_sale(2)).prop_map(|(a, b, c)| vec![a, b, c])
}
