//! What each command must answer, decided by counting lists.
//!
//! Nothing here is kept that could drift: how many units are where, and who has how many, is counted
//! anew from the reservations for every question. Of the product it uses the words (`sale`) and none
//! of the arithmetic: neither counters, nor windows, nor transitions.

mod buying;
mod selling;

use crate::clock::Millis;
use crate::engine::{Command, Event, Return};
use crate::sale::{
    Counters, IdempotencyKey, ItemCounters, ItemId, Line, Outcome, PaymentRef, Reservation,
    ReservationId, SaleDefinition, SaleId, SaleReport, SaleState, Status, UserId, Window,
};

/// The whole lane, naively.
#[derive(Default)]
pub struct Model {
    pub now: u64,
    pub sales: Vec<Sale>,
    pub booked: Vec<Booked>,
}

/// A sale, with the log of what operators did to its stock.
pub struct Sale {
    pub definition: SaleDefinition,
    pub opens: Option<u64>,
    pub closes: Option<u64>,
    pub paused: bool,
    pub created: u64,
    pub restocks: Vec<(usize, i64, IdempotencyKey)>,
}

/// A reservation, with the log of where it stood.
pub struct Booked {
    pub id: ReservationId,
    pub sale: SaleId,
    pub user: UserId,
    pub lines: Vec<Line>,
    pub held_at: u64,
    pub deadline: u64,
    pub stood: Vec<Status>,
    pub withdrawn: bool,
    pub payment: Option<PaymentRef>,
    pub late: Vec<PaymentRef>,
}

/// What a command must answer, and what must have happened.
pub type Answer = (Outcome, Vec<Event>);

impl Booked {
    pub fn status(&self) -> Status {
        *self.stood.last().unwrap()
    }

    /// Its units are not in the stock: somebody waits to pay for them, or has paid.
    pub fn is_out(&self) -> bool {
        matches!(self.status(), Status::Held | Status::Confirmed)
    }

    fn of_item(&self, item: &ItemId) -> i128 {
        self.lines.iter().filter(|line| line.item == *item).map(|l| i128::from(l.quantity)).sum()
    }

    fn units(&self) -> i128 {
        self.lines.iter().map(|line| i128::from(line.quantity)).sum()
    }

    pub fn record(&self, currency: &str) -> Reservation {
        Reservation {
            id: self.id,
            sale: self.sale.clone(),
            user: self.user.clone(),
            lines: self.lines.clone().into(),
            currency: currency.into(),
            status: self.status(),
            version: self.stood.len() as u32,
            held_at: Millis(self.held_at),
            expires_at: Millis(self.deadline),
            payment: self.payment.clone(),
            late_payments: self.late.clone(),
        }
    }

    /// Moves on, and tells whose units moved.
    fn step(&mut self, to: Status) -> Return {
        self.stood.push(to);
        Return {
            id: self.id,
            sale: self.sale.clone(),
            user: self.user.clone(),
            lines: self.lines.clone().into(),
            version: self.stood.len() as u32,
        }
    }
}

impl Sale {
    pub fn state(&self, now: u64) -> SaleState {
        let opened = self.opens.is_some_and(|opens| opens <= now);
        let closed = self.closes.is_some_and(|closes| closes <= now);
        match (opened, closed, self.paused) {
            (_, true, _) => SaleState::Closed,
            (false, false, _) => SaleState::Scheduled,
            (true, false, true) => SaleState::Paused,
            (true, false, false) => SaleState::Open,
        }
    }

    fn window(&self) -> Window {
        Window {
            opens_at: self.opens.map(Millis),
            closes_at: self.closes.map(Millis),
            paused: self.paused,
        }
    }
}

impl Model {
    pub fn apply(&mut self, clock: Millis, command: &Command) -> Answer {
        self.now = self.now.max(clock.0);
        match command {
            Command::Reserve(asked) => self.reserve(asked),
            Command::Confirm { id, payment } => self.confirm(*id, payment),
            Command::Cancel { id, by } => self.cancel(*id, by),
            Command::Find { id, owner } => self.find(*id, owner.as_ref()),
            Command::CreateSale { definition, actor } => self.create(definition, actor),
            Command::MoveSale { sale, step, actor } => self.move_sale(sale, *step, actor),
            Command::Restock { sale, item, delta, key, reason, actor } => {
                self.restock(sale, item, (*delta, key), reason, actor)
            }
            Command::Inspect { sale } => self.inspect(sale),
            Command::Sweep => self.sweep(),
        }
    }

    pub fn sale(&self, id: &SaleId) -> Option<&Sale> {
        self.sales.iter().find(|sale| sale.definition.id == *id)
    }

    pub fn record(&self, booked: &Booked) -> Reservation {
        booked.record(&self.sale(&booked.sale).unwrap().definition.items[0].currency)
    }

    /// Units of an item in reservations that `which` picks.
    fn count(&self, sale: &SaleId, item: &ItemId, which: impl Fn(&Booked) -> bool) -> i128 {
        let here = self.booked.iter().filter(|booked| booked.sale == *sale);
        here.filter(|booked| which(booked)).map(|booked| booked.of_item(item)).sum()
    }

    /// Units of one item (or of all) that a user holds or has bought.
    pub fn taken(&self, sale: &SaleId, user: &UserId, item: Option<&ItemId>) -> i128 {
        let theirs = self.booked.iter().filter(|b| b.sale == *sale && b.user == *user);
        theirs.filter(|b| b.is_out()).map(|b| item.map_or(b.units(), |item| b.of_item(item))).sum()
    }

    /// Where the units of the `at`th item are.
    pub fn counters(&self, sale: &Sale, at: usize) -> Counters {
        let (id, item) = (&sale.definition.id, &sale.definition.items[at]);
        let standing = |s: Status| self.count(id, &item.id, |booked| booked.status() == s);
        let stood = |s: Status| self.count(id, &item.id, |booked| booked.stood.contains(&s));
        let restocked: i128 = sale.restocks.iter().filter(|r| r.0 == at).map(|r| r.1 as i128).sum();
        let withdrawn = self.count(id, &item.id, |booked| booked.withdrawn);
        let stock = i128::from(item.stock) + restocked - withdrawn;
        let (held, confirmed) = (standing(Status::Held), standing(Status::Confirmed));
        let number = |n: i128| u64::try_from(n).expect("nothing is below zero");
        Counters {
            stock: number(stock),
            available: number(stock - held - confirmed),
            held: number(held),
            confirmed: number(confirmed),
            cancelled_total: number(stood(Status::Cancelled)),
            expired_total: number(stood(Status::Expired)),
        }
    }

    pub fn report(&self, sale: &Sale) -> SaleReport {
        let items = sale.definition.items.iter().enumerate();
        SaleReport {
            definition: sale.definition.clone().into(),
            window: sale.window(),
            created_at: Millis(sale.created),
            items: items
                .map(|(at, item)| ItemCounters {
                    item: item.id.clone(),
                    counters: self.counters(sale, at),
                })
                .collect(),
        }
    }

    /// Instants from now on at which something changes by itself.
    pub fn edges(&self) -> Vec<u64> {
        let held = self.booked.iter().filter(|booked| booked.status() == Status::Held);
        let mut edges: Vec<u64> = held.map(|booked| booked.deadline).collect();
        edges.extend(self.sales.iter().flat_map(|sale| [sale.opens, sale.closes]).flatten());
        edges.retain(|edge| *edge + 1 >= self.now);
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}
