//! A state, as the keys of its lane have it.

use std::collections::BTreeMap;

use super::super::keys::Keys;
use super::super::wire::Packer;
use crate::clock::Millis;
use crate::engine::{SaleRecord, State};
use crate::limits;
use crate::sale::{Counters, ReservationId, Status};

/// Arguments of a command that takes them in pairs.
#[derive(Default)]
pub(super) struct Pairs(pub(super) Vec<Vec<u8>>);

impl Pairs {
    fn push(&mut self, first: &str, second: Vec<u8>) {
        self.0.push(first.as_bytes().to_vec());
        self.0.push(second);
    }
}

/// The whole lane but for its meta and its outbox: commands, each with its key and what to write there.
pub(super) fn contents<'k>(keys: &'k Keys, state: &State) -> [(&'static str, &'k str, Pairs); 8] {
    let mut sales = Pairs::default();
    let mut definitions = Pairs::default();
    let mut stock = Pairs::default();
    let mut accounts = Pairs::default();
    let mut restocks = Pairs::default();
    let mut touched = Pairs::default();
    for (id, sale) in state.sales() {
        let definition = sale.definition();
        definitions.push(id.as_str(), definition.to_json().to_string().into_bytes());
        sales.push(id.as_str(), sale_fields(sale));
        for (item, counters) in (1_usize..).zip(sale.counters()) {
            stock.push(&format!("{id}/{item}"), counter_fields(counters));
        }
        for (user, taken) in sale.users() {
            let taken: Vec<_> = taken.collect();
            let mut packed = Packer::default();
            packed.array(taken.len() * 2);
            for (item, units) in taken {
                packed.uint(item as u64 + 1);
                packed.uint(units.into());
            }
            accounts.push(&format!("{id}/{user}"), packed.0);
        }
        for (key, (item, delta)) in sale.restocks() {
            let mut packed = Packer::default();
            packed.array(2);
            packed.uint(item as u64 + 1);
            packed.int(delta);
            restocks.push(&format!("{id}/{key}"), packed.0);
        }
        // Score before member; each its own, so that they are reported page by page.
        let score = touched.0.len() / 2 + 1;
        touched.push(&score.to_string(), id.as_str().into());
    }
    let (mut records, mut due) = (Pairs::default(), Pairs::default());
    let mut ends: BTreeMap<Millis, Vec<u8>> = BTreeMap::new();
    for reservation in state.reservations() {
        let mut packed = Packer::default();
        packed.record(reservation);
        records.0.push(reservation.id.as_bytes().to_vec());
        records.0.push(packed.0);
        if reservation.status == Status::Held {
            ends.entry(reservation.expires_at).or_default().extend(reservation.id.as_bytes());
        }
    }
    for (end, ids) in ends {
        for some in ids.chunks(limits::DUE_IDS_MAX * size_of::<ReservationId>()) {
            due.push(&end.0.to_string(), some.to_vec());
        }
    }
    [
        ("HSET", &keys.definitions, definitions),
        ("HSET", &keys.sales, sales),
        ("HSET", &keys.stock, stock),
        ("HSET", &keys.accounts, accounts),
        ("HSET", &keys.records, records),
        ("ZADD", &keys.due, due),
        ("HSET", &keys.restocks, restocks),
        ("ZADD", &keys.touched, touched),
    ]
}

fn sale_fields(sale: &SaleRecord) -> Vec<u8> {
    let (definition, window) = (sale.definition(), sale.window());
    let mut packed = Packer::default();
    packed.array(8);
    packed.uint(sale.created_at().0);
    packed.instant(window.opens_at);
    packed.instant(window.closes_at);
    packed.flag(window.paused);
    packed.uint(definition.hold_seconds.into());
    packed.limit(definition.per_user_limit);
    packed.text(definition.currency());
    packed.items(definition);
    packed.0
}

fn counter_fields(counters: &Counters) -> Vec<u8> {
    let mut packed = Packer::default();
    packed.array(6);
    packed.uint(counters.stock);
    packed.uint(counters.available);
    packed.uint(counters.held);
    packed.uint(counters.confirmed);
    packed.uint(counters.cancelled_total);
    packed.uint(counters.expired_total);
    packed.0
}
