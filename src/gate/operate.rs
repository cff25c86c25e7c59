//! What operators and payment providers ask of the ledger.

use std::sync::Arc;

use super::{Denied, Gate, unexpected};
use crate::engine::{Actor, Authority, Command};
use crate::ledger::{Health, LaneGauge};
use crate::sale::{
    IdempotencyKey, ItemId, LaneId, Move, Outcome, PaymentRef, Reservation, ReservationId,
    SaleDefinition, SaleId, SaleReport,
};

/// Where a lane and its books stand.
#[derive(Clone, Copy, Debug)]
pub struct LaneStatus {
    /// The lane.
    pub lane: LaneId,
    /// Whether it works.
    pub health: Health,
    /// How busy it is.
    pub gauge: LaneGauge,
    /// Events that the store has not digested yet.
    pub undigested: u64,
    /// Age of the oldest of them that is known.
    pub lag: std::time::Duration,
}

impl Gate {
    /// The payment of a reservation arrived. The second value: the hold had run out, and its units
    /// were taken anew.
    ///
    /// # Errors
    /// [`Denied`]; `reservation-expired` means that the money has to go back.
    pub async fn confirm(
        &self,
        id: ReservationId,
        payment: PaymentRef,
    ) -> Result<(Reservation, bool), Denied> {
        let answer = self.ask(id.lane(), Command::Confirm { id, payment }).await?;
        match answer.outcome {
            Outcome::Confirmed { reservation, rebooked } => {
                self.barrier(id.lane(), answer.position).await?;
                Ok((reservation, rebooked))
            }
            outcome => {
                // A payment that is refused is noted, to go back: that is told as durably as a sale.
                self.barrier(id.lane(), answer.position).await?;
                Err(unexpected(outcome))
            }
        }
    }

    /// Cancels any reservation that has units, confirmed ones too.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn cancel_for_operator(
        &self,
        id: ReservationId,
        actor: Actor,
        restock: bool,
    ) -> Result<Reservation, Denied> {
        let by = Authority::Operator { actor, restock };
        let answer = self.ask(id.lane(), Command::Cancel { id, by }).await?;
        match answer.outcome {
            Outcome::Cancelled(reservation) => {
                self.stored(id.lane(), answer.position).await.ok();
                Ok(reservation)
            }
            outcome => Err(unexpected(outcome)),
        }
    }

    /// Makes a sale known. The second value: it was not before.
    ///
    /// # Errors
    /// [`Denied`]; `sale-differs` where another one has its id.
    pub async fn create_sale(
        &self,
        definition: SaleDefinition,
        actor: Actor,
    ) -> Result<(SaleReport, bool), Denied> {
        let lane = self.lane_of(&definition.id);
        let definition = Arc::new(definition);
        self.operate(lane, Command::CreateSale { definition, actor }).await
    }

    /// Opens, pauses, resumes or closes a sale.
    ///
    /// # Errors
    /// [`Denied`]; `invalid-transition` where that makes no sense.
    pub async fn move_sale(
        &self,
        sale: SaleId,
        step: Move,
        actor: Actor,
    ) -> Result<SaleReport, Denied> {
        let lane = self.lane_of(&sale);
        let command = Command::MoveSale { sale, step, actor };
        self.operate(lane, command).await.map(|(report, _)| report)
    }

    /// Adds units to an item, or takes some out; once per key.
    ///
    /// # Errors
    /// [`Denied`]; `stock-taken` where more would be taken out than are available.
    pub async fn restock(
        &self,
        sale: SaleId,
        item: ItemId,
        delta: i64,
        key: IdempotencyKey,
        reason: Box<str>,
        actor: Actor,
    ) -> Result<SaleReport, Denied> {
        let lane = self.lane_of(&sale);
        let command = Command::Restock { sale, item, delta, key, reason, actor };
        self.operate(lane, command).await.map(|(report, _)| report)
    }

    /// A sale with its counters, by the ledger's word.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn inspect(&self, sale: SaleId) -> Result<SaleReport, Denied> {
        let lane = self.lane_of(&sale);
        match self.ask(lane, Command::Inspect { sale }).await?.outcome {
            Outcome::Sale { report, .. } => Ok(report),
            outcome => Err(unexpected(outcome)),
        }
    }

    /// Where the lane of a sale stands.
    pub fn lane_of_sale(&self, sale: &SaleId) -> LaneStatus {
        self.lane_status(self.lane_of(sale))
    }

    /// Where every lane stands.
    pub fn lane_statuses(&self) -> Vec<LaneStatus> {
        (0..self.ledger.lanes()).map(|lane| self.lane_status(LaneId(lane))).collect()
    }

    fn lane_status(&self, lane: LaneId) -> LaneStatus {
        let head = *self.ledger.head(lane).borrow();
        LaneStatus {
            lane,
            health: self.ledger.health(lane),
            gauge: self.ledger.gauge(lane),
            undigested: head.seq.saturating_sub(self.progress.of(lane).seq),
            lag: self.progress.lag(lane, self.clock.now()),
        }
    }

    fn lane_of(&self, sale: &SaleId) -> LaneId {
        LaneId::of_sale(sale.as_str(), self.ledger.lanes())
    }

    /// A change by an operator. It is answered when the audit log has it too, so that whoever looks
    /// there next finds it; where the store is slow the change stands all the same.
    async fn operate(&self, lane: LaneId, command: Command) -> Result<(SaleReport, bool), Denied> {
        let answer = self.ask(lane, command).await?;
        match answer.outcome {
            Outcome::Sale { report, created } => {
                self.stored(lane, answer.position).await.ok();
                Ok((report, created))
            }
            outcome => Err(unexpected(outcome)),
        }
    }
}
