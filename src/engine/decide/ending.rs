//! How a reservation ends: paid, given back, run out. Each happens once, whoever races whom.

use super::reserve::{check_limits, check_stock};
use super::{Decided, Step};
use crate::engine::command::Authority;
use crate::engine::event::{Event, Return};
use crate::limits;
use crate::sale::{Outcome, PaymentRef, Refusal, Reservation, ReservationId, Status, UserId};

impl Step<'_> {
    pub(super) fn find(&mut self, id: ReservationId, owner: Option<&UserId>) -> Decided {
        self.known(id, owner).map(Outcome::Found)
    }

    /// A payment arrived. In time, it confirms; late, it takes the units anew if there are any and
    /// the limits still allow it; otherwise the refund is noted, once per payment.
    pub(super) fn confirm(&mut self, id: ReservationId, payment: &PaymentRef) -> Decided {
        self.expire_if_due(id);
        let known = self.known(id, None)?;
        match known.status {
            Status::Held => {
                let version = known.version.saturating_add(1);
                let (user, payment) = (known.user, payment.clone());
                self.happen(Event::Confirmed { id, user, version, payment });
                let reservation = self.known(id, None)?;
                Ok(Outcome::Confirmed { reservation, rebooked: false })
            }
            Status::Confirmed if known.payment.as_ref() == Some(payment) => {
                // Held is 1 and confirmed 2; only an expiry in between takes one more.
                let rebooked = known.version > 2;
                Ok(Outcome::Confirmed { reservation: known, rebooked })
            }
            Status::Confirmed => {
                // It was paid twice: the second money has to go back.
                self.note_refund(&known, payment);
                Err(Refusal::ReservationConfirmed)
            }
            Status::Cancelled => {
                self.note_refund(&known, payment);
                Err(Refusal::ReservationCancelled)
            }
            Status::Expired => self.rebook(&known, payment),
        }
    }

    fn rebook(&mut self, known: &Reservation, payment: &PaymentRef) -> Decided {
        // A payment that was told "refund" stays refunded, even if units have come back since.
        // Where no more can be remembered, any might have been told so.
        let refunded = known.late_payments.contains(payment)
            || known.late_payments.len() >= limits::LATE_PAYMENTS_MAX;
        let sale = self.state.sale(&known.sale).ok_or(Refusal::UnknownSale)?;
        let placed: Option<Vec<_>> = known
            .lines
            .iter()
            .map(|line| sale.item_index(&line.item).map(|item| (item, line.clone())))
            .collect();
        let possible = placed.is_some_and(|lines| {
            check_limits(sale, &known.user, &lines).is_ok() && check_stock(sale, &lines).is_ok()
        });
        if refunded || !possible {
            self.note_refund(known, payment);
            return Err(Refusal::ReservationExpired);
        }
        self.happen(Event::Rebooked { taken: Return::of(known), payment: payment.clone() });
        let reservation = self.known(known.id, None)?;
        Ok(Outcome::Confirmed { reservation, rebooked: true })
    }

    fn note_refund(&mut self, known: &Reservation, payment: &PaymentRef) {
        let refunded = known.payment.as_ref() == Some(payment)
            || known.late_payments.contains(payment)
            || known.late_payments.len() >= limits::LATE_PAYMENTS_MAX;
        if !refunded {
            self.happen(Event::RefundNeeded {
                id: known.id,
                sale: known.sale.clone(),
                user: known.user.clone(),
                payment: payment.clone(),
                amount: known.total(),
                currency: known.currency.clone(),
            });
        }
    }

    pub(super) fn cancel(&mut self, id: ReservationId, by: &Authority) -> Decided {
        let (owner, restock, actor) = match by {
            Authority::Owner(user) => (Some(user), true, None),
            Authority::Operator { actor, restock } => (None, *restock, Some(actor.clone())),
        };
        // Whether it is theirs comes before whether it has run out: a stranger changes nothing.
        self.known(id, owner)?;
        self.expire_if_due(id);
        let known = self.known(id, owner)?;
        match known.status {
            Status::Cancelled => return Ok(Outcome::Cancelled(known)),
            Status::Expired => return Err(Refusal::ReservationExpired),
            Status::Confirmed if owner.is_some() => return Err(Refusal::ReservationConfirmed),
            Status::Held | Status::Confirmed => {}
        }
        self.happen(Event::Cancelled { returned: Return::of(&known), restock, actor });
        self.known(id, owner).map(Outcome::Cancelled)
    }

    /// A hold whose time is up has run out, whether or not the sweeper has been there.
    fn expire_if_due(&mut self, id: ReservationId) {
        let now = self.state.now();
        let due = self.state.reservation(&id).filter(|reservation| {
            reservation.status == Status::Held && reservation.expires_at <= now
        });
        if let Some(returned) = due.map(Return::of) {
            self.happen(Event::Expired(returned));
        }
    }

    fn known(&self, id: ReservationId, owner: Option<&UserId>) -> Result<Reservation, Refusal> {
        let known = self.state.reservation(&id);
        let known = known.filter(|known| owner.is_none_or(|owner| known.user == *owner));
        known.cloned().ok_or(Refusal::UnknownReservation)
    }
}
