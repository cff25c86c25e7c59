//! Reservations: taking units, paying for them, giving them back, losing them.

use super::{Answer, Booked, Model};
use crate::engine::{Authority, Event, Reserve};
use crate::limits;
use crate::sale::{
    Line, Outcome, PaymentRef, Refusal, ReservationId, SaleDefinition, SaleState, Status, UserId,
};

fn no(refusal: Refusal) -> Answer {
    (Outcome::Refused(refusal), Vec::new())
}

impl Model {
    pub(super) fn reserve(&mut self, asked: &Reserve) -> Answer {
        if let Some(known) = self.booked.iter().find(|booked| booked.id == asked.id) {
            let lines = known.lines.iter().map(|line| (&line.item, line.quantity));
            let same = lines.eq(asked.lines.iter().map(|line| (&line.item, line.quantity)));
            if !same || (&known.user, &known.sale) != (&asked.user, &asked.sale) {
                return no(Refusal::KeyReused);
            }
            let reservation = self.record(known);
            return (Outcome::Reserved { reservation, replayed: true }, Vec::new());
        }
        let Some(sale) = self.sale(&asked.sale) else {
            return no(Refusal::UnknownSale);
        };
        let definition = &sale.definition;
        match sale.state(self.now) {
            SaleState::Open => {}
            SaleState::Scheduled => {
                let opens_at = sale.opens.map(crate::clock::Millis);
                return no(Refusal::SaleNotOpen { opens_at });
            }
            SaleState::Paused => return no(Refusal::SalePaused),
            SaleState::Closed => return no(Refusal::SaleClosed),
        }
        if let Some(refusal) = malformed(definition, asked) {
            return no(refusal);
        }
        let price = |item: &crate::sale::ItemId| {
            definition.items.iter().find(|i| i.id == *item).unwrap().price
        };
        let lines: Vec<Line> = asked
            .lines
            .iter()
            .map(|line| Line {
                item: line.item.clone(),
                quantity: line.quantity,
                unit_price: price(&line.item),
            })
            .collect();
        if let Some(refusal) = self.unaffordable(definition, &asked.user, &lines) {
            return no(refusal);
        }
        let booked = Booked {
            id: asked.id,
            sale: asked.sale.clone(),
            user: asked.user.clone(),
            lines,
            held_at: self.now,
            deadline: self.now + u64::from(definition.hold_seconds) * 1_000,
            stood: vec![Status::Held],
            withdrawn: false,
            payment: None,
            late: Vec::new(),
        };
        let reservation = self.record(&booked);
        self.booked.push(booked);
        let held = Event::Held(reservation.clone());
        (Outcome::Reserved { reservation, replayed: false }, vec![held])
    }

    /// Limits first, of the sale, then of its items; then the stock.
    fn unaffordable(
        &self,
        definition: &SaleDefinition,
        user: &UserId,
        lines: &[Line],
    ) -> Option<Refusal> {
        let sale = self.sale(&definition.id).unwrap();
        let over = |limit: Option<u32>, taken: i128, wanted: i128| {
            let limit = limit.filter(|limit| taken + wanted > i128::from(*limit))?;
            Some(Refusal::LimitReached { limit, taken: taken as u32 })
        };
        let wanted = lines.iter().map(|line| i128::from(line.quantity)).sum();
        let taken = self.taken(&definition.id, user, None);
        if let Some(refusal) = over(definition.per_user_limit, taken, wanted) {
            return Some(refusal);
        }
        let item = |line: &Line| definition.items.iter().position(|i| i.id == line.item).unwrap();
        for line in lines {
            let taken = self.taken(&definition.id, user, Some(&line.item));
            let limit = definition.items[item(line)].per_user_limit;
            if let Some(refusal) = over(limit, taken, i128::from(line.quantity)) {
                return Some(refusal);
            }
        }
        let counted = lines.iter().map(|line| (line, self.counters(sale, item(line))));
        let mut short = counted.filter(|(line, there)| there.available < u64::from(line.quantity));
        short.next().map(|(_, there)| Refusal::SoldOut { held: there.held > 0 })
    }

    pub(super) fn confirm(&mut self, id: ReservationId, payment: &PaymentRef) -> Answer {
        let mut events: Vec<Event> = self.run_out(id).into_iter().collect();
        let Some(at) = self.booked.iter().position(|booked| booked.id == id) else {
            return no(Refusal::UnknownReservation);
        };
        let booked = &self.booked[at];
        let rebooked = booked.stood.contains(&Status::Expired);
        match booked.status() {
            Status::Confirmed if booked.payment.as_ref() != Some(payment) => {
                events.extend(self.refund(at, payment));
                (Outcome::Refused(Refusal::ReservationConfirmed), events)
            }
            Status::Confirmed => {
                let reservation = self.record(booked);
                (Outcome::Confirmed { reservation, rebooked }, events)
            }
            Status::Held => {
                let (user, payment) = (booked.user.clone(), payment.clone());
                let version = self.pay(at, &payment).version;
                events.push(Event::Confirmed { id, user, version, payment });
                let reservation = self.record(&self.booked[at]);
                (Outcome::Confirmed { reservation, rebooked: false }, events)
            }
            Status::Cancelled => {
                events.extend(self.refund(at, payment));
                (Outcome::Refused(Refusal::ReservationCancelled), events)
            }
            Status::Expired => {
                let definition = &self.sale(&booked.sale).unwrap().definition;
                let told =
                    booked.late.contains(payment) || booked.late.len() >= limits::LATE_PAYMENTS_MAX;
                if told || self.unaffordable(definition, &booked.user, &booked.lines).is_some() {
                    events.extend(self.refund(at, payment));
                    return (Outcome::Refused(Refusal::ReservationExpired), events);
                }
                let taken = self.pay(at, payment);
                events.push(Event::Rebooked { taken, payment: payment.clone() });
                let reservation = self.record(&self.booked[at]);
                (Outcome::Confirmed { reservation, rebooked: true }, events)
            }
        }
    }

    fn pay(&mut self, at: usize, payment: &PaymentRef) -> crate::engine::Return {
        self.booked[at].payment = Some(payment.clone());
        self.booked[at].step(Status::Confirmed)
    }

    /// The money goes back, and somebody is told so once per payment.
    fn refund(&mut self, at: usize, payment: &PaymentRef) -> Option<Event> {
        let record = self.record(&self.booked[at]);
        let booked = &mut self.booked[at];
        if booked.payment.as_ref() == Some(payment)
            || booked.late.contains(payment)
            || booked.late.len() >= limits::LATE_PAYMENTS_MAX
        {
            return None;
        }
        booked.late.push(payment.clone());
        let amount = record.lines.iter().map(|l| u64::from(l.quantity) * l.unit_price).sum();
        let (id, sale, user) = (record.id, record.sale, record.user);
        let (payment, currency) = (payment.clone(), record.currency);
        Some(Event::RefundNeeded { id, sale, user, payment, amount, currency })
    }

    pub(super) fn cancel(&mut self, id: ReservationId, by: &Authority) -> Answer {
        let (owner, restock, actor) = match by {
            Authority::Owner(user) => (Some(user), true, None),
            Authority::Operator { actor, restock } => (None, *restock, Some(actor.clone())),
        };
        let theirs = |b: &Booked| b.id == id && owner.is_none_or(|owner| b.user == *owner);
        let Some(at) = self.booked.iter().position(theirs) else {
            return no(Refusal::UnknownReservation);
        };
        let mut events: Vec<Event> = self.run_out(id).into_iter().collect();
        match self.booked[at].status() {
            Status::Expired => {
                return (Outcome::Refused(Refusal::ReservationExpired), events);
            }
            Status::Confirmed if owner.is_some() => return no(Refusal::ReservationConfirmed),
            Status::Cancelled => {}
            Status::Held | Status::Confirmed => {
                self.booked[at].withdrawn = !restock;
                let returned = self.booked[at].step(Status::Cancelled);
                events.push(Event::Cancelled { returned, restock, actor });
            }
        }
        (Outcome::Cancelled(self.record(&self.booked[at])), events)
    }

    pub(super) fn find(&self, id: ReservationId, owner: Option<&UserId>) -> Answer {
        match self.booked.iter().find(|b| b.id == id && owner.is_none_or(|o| b.user == *o)) {
            Some(booked) => (Outcome::Found(self.record(booked)), Vec::new()),
            None => no(Refusal::UnknownReservation),
        }
    }

    /// Hold time by hold time, oldest first. So many that one sweep is not enough do not come here.
    pub(super) fn sweep(&mut self) -> Answer {
        let mut ids: Vec<_> = self.booked.iter().map(|b| (b.deadline - b.held_at, b.id)).collect();
        ids.sort_by_key(|(hold, _)| *hold);
        let events: Vec<_> = ids.into_iter().filter_map(|(_, id)| self.run_out(id)).collect();
        (Outcome::Swept { expired: events.len(), more: false }, events)
    }

    fn run_out(&mut self, id: ReservationId) -> Option<Event> {
        let now = self.now;
        let mut due = self.booked.iter_mut().filter(|b| b.id == id && b.status() == Status::Held);
        let booked = due.find(|booked| booked.deadline <= now)?;
        Some(Event::Expired(booked.step(Status::Expired)))
    }
}

/// What no stock could serve: an item that is not there before an amount that is not given.
fn malformed(definition: &SaleDefinition, asked: &Reserve) -> Option<Refusal> {
    let known = |id: &crate::sale::ItemId| definition.items.iter().find(|item| item.id == *id);
    if let Some(line) = asked.lines.iter().find(|line| known(&line.item).is_none()) {
        return Some(Refusal::UnknownItem(line.item.clone()));
    }
    let sale_max = definition.per_user_limit.unwrap_or(limits::QUANTITY_MAX);
    for (at, line) in asked.lines.iter().enumerate() {
        let item_max = known(&line.item)?.per_user_limit.unwrap_or(limits::QUANTITY_MAX);
        let max = item_max.min(sale_max);
        let twice = asked.lines[..at].iter().any(|other| other.item == line.item);
        if line.quantity == 0 || line.quantity > max || twice {
            return Some(Refusal::InvalidQuantity { max });
        }
    }
    let units: u64 = asked.lines.iter().map(|line| u64::from(line.quantity)).sum();
    let possible = (1..=u64::from(sale_max)).contains(&units);
    (!possible).then_some(Refusal::InvalidQuantity { max: sale_max })
}
