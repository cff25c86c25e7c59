//! Folding a lane's journal, by other code than the engine's.
//!
//! Nothing is counted that can be recomputed: units are summed over reservations, stock over events.

use std::collections::{BTreeMap, HashMap};

use super::findings::{Findings, Promise};
use super::source::Source;
use super::{ItemTotals, SaleTotals, at, rule};
use crate::clock::Millis;
use crate::engine::{Event, Position, Return};
use crate::orders::OrderStatus;
use crate::sale::{
    LaneId, Line, PaymentRef, Reservation, ReservationId, SaleDefinition, SaleId, UserId, Window,
};
use crate::store::digest::Standing;

/// A lane, as its events say.
pub(super) struct Fold {
    pub(super) lane: LaneId,
    pub(super) source: Source,
    last: Position,
    last_at: Millis,
    pub(super) sales: BTreeMap<SaleId, SaleFold>,
    pub(super) reservations: HashMap<ReservationId, ReservationFold>,
}

/// A sale, as its events say.
pub(super) struct SaleFold {
    definition: SaleDefinition,
    window: Window,
    pub(super) items: BTreeMap<String, ItemFold>,
    /// Units by user and item.
    users: HashMap<UserId, BTreeMap<String, i64>>,
}

/// An item, as its events say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ItemFold {
    pub(super) stock: i64,
    pub(super) held: i64,
    pub(super) confirmed: i64,
}

/// A reservation, as its events say.
pub(super) struct ReservationFold {
    pub(super) held: Reservation,
    /// The order's word.
    pub(super) status: &'static str,
    pub(super) version: u32,
    pub(super) payment: Option<PaymentRef>,
    refunds: Vec<PaymentRef>,
}

impl ReservationFold {
    /// Where its order stands.
    pub(super) fn standing(&self) -> Standing {
        // The words are those of orders.
        let status = OrderStatus::parse(self.status).unwrap_or(OrderStatus::PendingPayment);
        Standing { version: self.version, status }
    }

    /// Whether its units are its own.
    pub(super) fn stands(&self) -> bool {
        matches!(self.status, "pending_payment" | "paid")
    }
}

impl SaleFold {
    /// As it was created.
    pub(super) fn definition(&self) -> &SaleDefinition {
        &self.definition
    }
}

impl Fold {
    pub(super) fn new(lane: LaneId, source: Source) -> Self {
        Self {
            lane,
            source,
            last: Position::default(),
            last_at: Millis(0),
            sales: BTreeMap::new(),
            reservations: HashMap::new(),
        }
    }

    /// The last event folded.
    pub(super) fn seq(&self) -> u64 {
        self.last.seq
    }

    /// An item by its sale and its place there, from 1 on: what is available of it, and the rest.
    pub(super) fn item_at(&self, sale: &str, place: &str) -> Option<(i64, ItemFold)> {
        let sale = self.sales.get(sale)?;
        let place = place.parse::<usize>().ok()?.checked_sub(1)?;
        let item = sale.items.get(sale.definition.items.get(place)?.id.as_str())?;
        Some((item.stock - item.held - item.confirmed, *item))
    }

    /// Folds on, to an event or to the end.
    pub(super) fn up_to(
        &mut self,
        end: Option<u64>,
        findings: &mut Findings,
    ) -> Result<(), String> {
        let end = end.unwrap_or(u64::MAX);
        while self.last.seq < end {
            let records = self.source.after(self.lane, self.last)?;
            if records.is_empty() {
                let lane = self.lane;
                let whole = end == u64::MAX;
                findings.look_how_far(rule(whole, || {
                    let seq = self.last.seq;
                    format!("lane {lane} ends at event {seq}, the books have digested {end}")
                }));
                return Ok(());
            }
            for record in records.iter().take_while(|record| record.last.seq <= end) {
                let next = self.last.seq + 1;
                let numbered = rule(record.first_seq() == next, || {
                    let found = record.first_seq();
                    format!("lane {}: expected event {next}, found {found}", self.lane)
                });
                findings.look_at_all(Promise::Journal, numbered);
                let ordered = rule(record.at >= self.last_at, || {
                    format!("lane {}: event {next} is earlier than the one before", self.lane)
                });
                findings.look_at_all(Promise::Journal, ordered);
                self.last_at = record.at;
                match record.decode() {
                    Ok(events) => {
                        for event in &events {
                            self.take(record.at, event, findings);
                        }
                    }
                    Err(damaged) => {
                        findings.look_at_all(Promise::Journal, Err(damaged.to_string()));
                    }
                }
                self.last = record.last;
            }
            if records.last().is_some_and(|record| record.last.seq > end) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&mut self, now: Millis, event: &Event, findings: &mut Findings) {
        match event {
            Event::SaleCreated { definition, .. } => self.create(definition),
            Event::SaleMoved { sale, after, .. } => {
                if let Some(sale) = self.sales.get_mut(sale) {
                    sale.window = *after;
                }
            }
            Event::Restocked { sale, item, delta, .. } => {
                self.item(sale, item.as_str()).stock += delta;
                self.check_stock(sale, item.as_str(), findings);
            }
            Event::Held(reservation) => self.hold(now, reservation, findings),
            Event::Confirmed { id, version, payment, .. } => {
                let sale = self.step(id, *version, &["pending_payment"], "paid", findings);
                if let (Some(sale), Some(known)) = (sale, self.reservations.get_mut(id)) {
                    known.payment = Some(payment.clone());
                    let in_time = rule(now < known.held.expires_at, || {
                        format!("{id} was confirmed at {}, after its end", at(now))
                    });
                    findings.look(&sale, Promise::Expiry, in_time);
                }
            }
            Event::Cancelled { returned, restock, .. } => {
                self.end(returned, &["pending_payment", "paid"], "cancelled", findings);
                if !restock {
                    for line in &returned.lines {
                        self.item(&returned.sale, line.item.as_str()).stock -=
                            i64::from(line.quantity);
                        self.check_stock(&returned.sale, line.item.as_str(), findings);
                    }
                }
            }
            Event::Expired(returned) => {
                let due = self.reservations.get(&returned.id).map(|known| known.held.expires_at);
                let not_early = rule(due.is_some_and(|due| now >= due), || {
                    format!("{} expired at {}, before its end", returned.id, at(now))
                });
                findings.look(&returned.sale, Promise::Expiry, not_early);
                self.end(returned, &["pending_payment"], "expired", findings);
            }
            Event::Rebooked { taken, payment } => {
                self.end(taken, &["expired"], "paid", findings);
                if let Some(known) = self.reservations.get_mut(&taken.id) {
                    known.payment = Some(payment.clone());
                }
                self.check_taken(&taken.sale, &taken.user, &taken.lines, findings);
            }
            Event::RefundNeeded { id, sale, payment, .. } => {
                let once = self.reservations.get_mut(id).is_some_and(|known| {
                    let once = !known.refunds.contains(payment);
                    known.refunds.push(payment.clone());
                    once
                });
                let once = rule(once, || format!("{id}: payment refunded twice, or of nobody"));
                findings.look(sale, Promise::OneEnding, once);
            }
        }
    }

    fn create(&mut self, definition: &SaleDefinition) {
        let stock = |item: &crate::sale::ItemDefinition| {
            let stock = i64::try_from(item.stock).unwrap_or(i64::MAX);
            (item.id.to_string(), ItemFold { stock, ..ItemFold::default() })
        };
        let sale = SaleFold {
            window: Window {
                opens_at: definition.opens_at,
                closes_at: definition.closes_at,
                paused: false,
            },
            items: definition.items.iter().map(stock).collect(),
            users: HashMap::new(),
            definition: definition.clone(),
        };
        self.sales.insert(definition.id.clone(), sale);
    }

    fn hold(&mut self, now: Millis, reservation: &Reservation, findings: &mut Findings) {
        let (id, sale_id) = (reservation.id, &reservation.sale);
        let new = rule(!self.reservations.contains_key(&id), || format!("{id} was taken twice"));
        findings.look(sale_id, Promise::OneEnding, new);
        let Some(sale) = self.sales.get(sale_id) else {
            let unknown = Err(format!("{id} is of sale {sale_id}, which is not known"));
            findings.look(sale_id, Promise::Journal, unknown);
            return;
        };
        let window = sale.window;
        let inside = window.opens_at.is_some_and(|opens| opens <= now)
            && window.closes_at.is_none_or(|closes| now < closes)
            && !window.paused;
        let inside = rule(inside, || format!("{id} was taken at {}", at(now)));
        findings.look(sale_id, Promise::Window, inside);
        let ends = now.0 + u64::from(sale.definition.hold_seconds) * 1_000;
        let hold = rule(reservation.held_at == now && reservation.expires_at.0 == ends, || {
            format!("{id} is not held for the sale's time")
        });
        findings.look(sale_id, Promise::Expiry, hold);
        let known = ReservationFold {
            held: reservation.clone(),
            status: "pending_payment",
            version: reservation.version,
            payment: None,
            refunds: Vec::new(),
        };
        self.reservations.insert(id, known);
        self.shift(sale_id, &reservation.user, &reservation.lines, "", "pending_payment");
        self.check_taken(sale_id, &reservation.user, &reservation.lines, findings);
    }

    fn end(&mut self, moved: &Return, from: &[&str], to: &'static str, findings: &mut Findings) {
        let sale = self.step(&moved.id, moved.version, from, to, findings);
        let same = self.reservations.get(&moved.id).is_some_and(|known| {
            known.held.lines == moved.lines
                && known.held.user == moved.user
                && known.held.sale == moved.sale
        });
        let same = rule(sale.is_some() && same, || {
            format!("{} moved units that are not its own", moved.id)
        });
        findings.look(&moved.sale, Promise::OneEnding, same);
        for line in &moved.lines {
            self.check_stock(&moved.sale, line.item.as_str(), findings);
        }
    }

    /// Moves a reservation on, with its units. The sale, where there is one.
    fn step(
        &mut self,
        id: &ReservationId,
        version: u32,
        from: &[&str],
        to: &'static str,
        findings: &mut Findings,
    ) -> Option<SaleId> {
        let Some(known) = self.reservations.get_mut(id) else {
            findings.look_at_all(Promise::OneEnding, Err(format!("{id} became {to} unheld")));
            return None;
        };
        let (before, sale) = (known.status, known.held.sale.clone());
        let next = rule(from.contains(&before) && version == known.version + 1, || {
            format!("{id} went from {before} (version {}) to {to} ({version})", known.version)
        });
        findings.look(&sale, Promise::OneEnding, next);
        known.status = to;
        known.version = version;
        let (user, lines) = (known.held.user.clone(), known.held.lines.clone());
        self.shift(&sale, &user, &lines, before, to);
        Some(sale)
    }

    fn shift(&mut self, sale: &SaleId, user: &UserId, lines: &[Line], from: &str, to: &str) {
        let Some(sale) = self.sales.get_mut(sale) else { return };
        for line in lines {
            let units = i64::from(line.quantity);
            let item = sale.items.entry(line.item.to_string()).or_default();
            let taken = sale.users.entry(user.clone()).or_default();
            let taken = taken.entry(line.item.to_string()).or_default();
            for (status, units) in [(from, -units), (to, units)] {
                match status {
                    "pending_payment" => item.held += units,
                    "paid" => item.confirmed += units,
                    _ => continue,
                }
                *taken += units;
            }
        }
    }

    fn item(&mut self, sale: &SaleId, item: &str) -> &mut ItemFold {
        let definition = |sale: &SaleId| SaleFold {
            definition: SaleDefinition {
                id: sale.clone(),
                title: Box::default(),
                opens_at: None,
                closes_at: None,
                hold_seconds: 0,
                per_user_limit: None,
                items: Vec::new(),
            },
            window: Window::default(),
            items: BTreeMap::new(),
            users: HashMap::new(),
        };
        let known = self.sales.entry(sale.clone()).or_insert_with(|| definition(sale));
        known.items.entry(item.to_owned()).or_default()
    }

    fn check_stock(&mut self, sale: &SaleId, item: &str, findings: &mut Findings) {
        let ItemFold { stock, held, confirmed } = *self.item(sale, item);
        let enough = rule(held + confirmed <= stock && held >= 0 && confirmed >= 0, || {
            format!("{sale}/{item}: {held} held and {confirmed} confirmed of {stock}")
        });
        findings.look(sale, Promise::Oversell, enough);
    }

    /// After units were taken: there were as many, and the user is within the limits.
    fn check_taken(
        &mut self,
        sale_id: &SaleId,
        user: &UserId,
        lines: &[Line],
        findings: &mut Findings,
    ) {
        for line in lines {
            self.check_stock(sale_id, line.item.as_str(), findings);
        }
        let Some(sale) = self.sales.get(sale_id) else { return };
        let Some(taken) = sale.users.get(user) else { return };
        let total: i64 = taken.values().sum();
        let limit = sale.definition.per_user_limit;
        let within = rule(limit.is_none_or(|limit| total <= i64::from(limit)), || {
            format!("user {user} has {total} units of sale {sale_id}")
        });
        findings.look(sale_id, Promise::Limits, within);
        for line in lines {
            let known = sale.definition.items.iter().find(|item| item.id == line.item);
            let units = taken.get(line.item.as_str()).copied().unwrap_or(0);
            let limit = known.and_then(|item| item.per_user_limit);
            let within = rule(limit.is_none_or(|limit| units <= i64::from(limit)), || {
                format!("user {user} has {units} units of {sale_id}/{}", line.item)
            });
            findings.look(sale_id, Promise::Limits, within);
            let priced = rule(known.is_some_and(|item| item.price == line.unit_price), || {
                format!("{sale_id}/{} was sold at {}", line.item, line.unit_price)
            });
            findings.look(sale_id, Promise::Orders, priced);
        }
    }

    /// At the end: what the counters say is what the reservations add up to.
    pub(super) fn close(&self, findings: &mut Findings) {
        let mut sums: BTreeMap<(&SaleId, &str), ItemFold> = BTreeMap::new();
        for known in self.reservations.values() {
            for line in &known.held.lines {
                let sum = sums.entry((&known.held.sale, line.item.as_str())).or_default();
                match known.status {
                    "pending_payment" => sum.held += i64::from(line.quantity),
                    "paid" => sum.confirmed += i64::from(line.quantity),
                    _ => {}
                }
            }
        }
        for (id, sale) in &self.sales {
            for (item, counted) in &sale.items {
                let sum = sums.get(&(id, item.as_str())).copied().unwrap_or_default();
                let available = counted.stock - counted.held - counted.confirmed;
                let conserved = available >= 0
                    && sum.held == counted.held
                    && sum.confirmed == counted.confirmed;
                let conserved = rule(conserved, || {
                    let ItemFold { stock, held, confirmed } = counted;
                    format!("{id}/{item}: {available} + {held} + {confirmed} of {stock}")
                });
                findings.look(id, Promise::Conservation, conserved);
            }
        }
    }

    pub(super) fn totals(&self) -> impl Iterator<Item = SaleTotals> + '_ {
        let mut counts: HashMap<&SaleId, u64> = HashMap::new();
        for known in self.reservations.values() {
            *counts.entry(&known.held.sale).or_default() += 1;
        }
        self.sales.iter().map(move |(id, sale)| SaleTotals {
            sale: id.to_string(),
            reservations: counts.get(id).copied().unwrap_or(0),
            orders: 0,
            standing: 0,
            carts: 0,
            items: sale
                .items
                .iter()
                .map(|(item, counted)| ItemTotals {
                    item: item.clone(),
                    stock: counted.stock,
                    held: counted.held,
                    confirmed: counted.confirmed,
                })
                .collect(),
        })
    }
}
