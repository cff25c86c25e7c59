//! What an earlier request under the same key was granted, where no new one is taken.

use super::{Denied, Gate, Granted, Purchase};
use crate::sale::{LaneId, Refusal, ReservationId};

impl Gate {
    /// The reservation that this request was granted before, as far as this gateway knows that it may
    /// have been. Takes nothing.
    ///
    /// # Errors
    /// [`Denied`]; unknown where the ledger does not say.
    pub async fn granted_before(
        &self,
        sale: &str,
        purchase: &Purchase,
    ) -> Result<Option<Granted>, Denied> {
        let Purchase { user, key, lines, .. } = purchase;
        let card = self.catalog.sale(sale).ok_or(Refusal::UnknownSale)?;
        let Some(key) = key else { return Ok(None) };
        let sale = &card.definition().id;
        let lane = LaneId::of_sale(sale.as_str(), self.ledger.lanes());
        let id = ReservationId::derived(lane, user, sale, key);
        if !card.seen.contains(&id) {
            return Ok(None);
        }
        match self.find(user.clone(), id).await {
            Ok(reservation) => {
                let asked = lines.iter().map(|line| (&line.item, line.quantity));
                let granted = reservation.lines.iter().map(|line| (&line.item, line.quantity));
                if !asked.eq(granted) {
                    return Err(Refusal::KeyReused.into());
                }
                Ok(Some(Granted { reservation, replayed: true, standing: None }))
            }
            Err(Denied::Refused(_)) => Ok(None),
            Err(
                Denied::Overloaded
                | Denied::LedgerUnavailable
                | Denied::LedgerFenced
                | Denied::OutcomeUnknown
                | Denied::RateLimited(_),
            ) => Err(Denied::OutcomeUnknown),
        }
    }
}
