//! Reservations that differ in who has them.

use super::Reading;
use super::fields::Fields;
use crate::sale::{Reservation, ReservationId, UserId};

/// What reservations of one wish have in common when they are made: a record without its user.
pub struct Shape<'b> {
    packed: Fields<'b>,
    first: Option<Reservation>,
}

impl<'b> Shape<'b> {
    pub fn of(packed: Fields<'b>) -> Self {
        Self { packed, first: None }
    }

    pub fn reservation(&mut self, id: ReservationId, user: UserId) -> Reading<Reservation> {
        if let Some(first) = &self.first {
            return Ok(Reservation { id, user, ..first.clone() });
        }
        let sale = self.packed.sale()?;
        let made = self.packed.rest_of_record(id, sale, user)?;
        self.first = Some(made.clone());
        Ok(made)
    }
}
