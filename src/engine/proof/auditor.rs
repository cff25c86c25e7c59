//! An auditor who sees nothing but events, in order, with their times: whatever the state says of
//! itself, this is what followers of the outbox would find.

use std::collections::HashMap;

use crate::clock::Millis;
use crate::engine::{Event, Return};
use crate::sale::{ItemId, Line, PaymentRef, ReservationId, SaleId, Window};

#[derive(Default)]
pub struct Auditor {
    now: Millis,
    pub seq: u64,
    windows: HashMap<SaleId, Window>,
    /// Units that nobody has.
    left: HashMap<(SaleId, ItemId), i128>,
    orders: HashMap<ReservationId, Order>,
}

struct Order {
    deadline: Millis,
    version: u32,
    /// Its units are out of the stock.
    out: bool,
    over: bool,
    paid: Option<PaymentRef>,
    refunds: Vec<PaymentRef>,
}

impl Auditor {
    /// Takes note of a batch; panics where it tells of something that must never happen.
    pub fn hear(&mut self, now: Millis, events: &[Event]) {
        assert!(now >= self.now, "time stepped back");
        self.now = now;
        for event in events {
            self.seq += 1;
            self.event(event);
        }
    }

    /// Units for sale, by the events alone.
    pub fn left(&self, sale: &SaleId, item: &ItemId) -> i128 {
        self.left[&(sale.clone(), item.clone())]
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::SaleCreated { definition, .. } => {
                let sale = &definition.id;
                let (opens_at, closes_at) = (definition.opens_at, definition.closes_at);
                let window = Window { opens_at, closes_at, paused: false };
                assert!(self.windows.insert(sale.clone(), window).is_none(), "created twice");
                let items = definition.items.iter();
                self.left
                    .extend(items.map(|i| ((sale.clone(), i.id.clone()), i128::from(i.stock))));
            }
            Event::SaleMoved { sale, before, after, .. } => {
                assert_ne!(before, after, "nothing moved");
                assert_eq!(self.windows.insert(sale.clone(), *after), Some(*before));
            }
            Event::Restocked { sale, item, delta, .. } => {
                assert_ne!(*delta, 0, "nothing restocked");
                self.shift(sale, item, i128::from(*delta));
            }
            Event::Held(reservation) => {
                let window = self.windows[&reservation.sale];
                assert!(window.opens_at.is_some_and(|at| at <= self.now), "sold too early");
                assert!(window.closes_at.is_none_or(|at| self.now < at), "sold too late");
                assert!(!window.paused, "sold while paused");
                assert_eq!((reservation.version, reservation.held_at), (1, self.now));
                assert!(reservation.expires_at > self.now, "no time to pay");
                self.take(&reservation.sale, &reservation.lines);
                let deadline = reservation.expires_at;
                let (version, out, over) = (1, true, false);
                let order = Order { deadline, version, out, over, paid: None, refunds: Vec::new() };
                assert!(self.orders.insert(reservation.id, order).is_none(), "held twice");
            }
            Event::Confirmed { id, version, payment, .. } => {
                let order = self.next(*id, *version);
                assert!(order.out && order.paid.is_none(), "paid twice, or for nothing");
                order.paid = Some(payment.clone());
            }
            Event::Cancelled { returned, restock, .. } => {
                let order = self.next(returned.id, returned.version);
                assert!(order.out, "returned twice");
                (order.out, order.over) = (false, true);
                if *restock {
                    self.give_back(returned);
                }
            }
            Event::Expired(returned) => {
                let now = self.now;
                let order = self.next(returned.id, returned.version);
                assert!(order.out && order.paid.is_none(), "returned twice, or paid for");
                assert!(order.deadline <= now, "expired before its deadline");
                order.out = false;
                self.give_back(returned);
            }
            Event::Rebooked { taken, payment } => {
                let order = self.next(taken.id, taken.version);
                assert!(!order.out && order.paid.is_none(), "taken twice");
                assert!(!order.refunds.contains(payment), "refunded, and sold all the same");
                (order.out, order.paid) = (true, Some(payment.clone()));
                self.take(&taken.sale, &taken.lines);
            }
            Event::RefundNeeded { id, payment, .. } => {
                let order = self.orders.get_mut(id).unwrap();
                let paid = order.paid.is_some();
                assert!(!order.out || paid, "refunded while its payment is awaited");
                assert!(!order.refunds.contains(payment), "refunded twice");
                assert_ne!(order.paid.as_ref(), Some(payment), "refunded by its cancellation");
                order.refunds.push(payment.clone());
            }
        }
    }

    /// The order, one version on.
    fn next(&mut self, id: ReservationId, version: u32) -> &mut Order {
        let order = self.orders.get_mut(&id).expect("nothing comes before it is held");
        assert!(!order.over, "it had ended");
        assert_eq!(version, order.version + 1, "one version a transition");
        order.version = version;
        order
    }

    fn take(&mut self, sale: &SaleId, lines: &[Line]) {
        assert!(!lines.is_empty());
        for line in lines {
            assert!(line.quantity > 0);
            self.shift(sale, &line.item, -i128::from(line.quantity));
        }
    }

    fn give_back(&mut self, returned: &Return) {
        for line in &returned.lines {
            self.shift(&returned.sale, &line.item, i128::from(line.quantity));
        }
    }

    fn shift(&mut self, sale: &SaleId, item: &ItemId, units: i128) {
        let left = self.left.get_mut(&(sale.clone(), item.clone())).unwrap();
        *left += units;
        assert!(*left >= 0, "oversold {item} of {sale}");
    }
}
