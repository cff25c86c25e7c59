//! What operators decide: sales, their state, their stock.

use std::sync::Arc;

use super::{Decided, Step};
use crate::engine::event::{Actor, Event};
use crate::limits;
use crate::sale::{IdempotencyKey, ItemId, Move, Outcome, Refusal, SaleDefinition, SaleId};

/// A change of an item's stock.
pub(super) struct Restock<'c> {
    pub(super) sale: &'c SaleId,
    pub(super) item: &'c ItemId,
    pub(super) delta: i64,
    pub(super) key: &'c IdempotencyKey,
    pub(super) reason: &'c str,
    pub(super) actor: &'c Actor,
}

impl Step<'_> {
    /// Creating the same sale again is no change; another one under its id is refused.
    pub(super) fn create_sale(
        &mut self,
        definition: &Arc<SaleDefinition>,
        actor: &Actor,
    ) -> Decided {
        if let Some(known) = self.state.sale(&definition.id) {
            if known.definition() != definition {
                return Err(Refusal::SaleDiffers);
            }
            return Ok(Outcome::Sale { report: known.report(), created: false });
        }
        if self.state.sales_len() >= limits::SALES_PER_LANE_MAX {
            return Err(Refusal::TooManySales);
        }
        let (definition, actor) = (definition.as_ref().clone(), actor.clone());
        let id = definition.id.clone();
        self.happen(Event::SaleCreated { definition, actor });
        self.reported(&id, true)
    }

    pub(super) fn move_sale(&mut self, sale: &SaleId, step: Move, actor: &Actor) -> Decided {
        let now = self.state.now();
        let before = *self.state.sale(sale).ok_or(Refusal::UnknownSale)?.window();
        let refusal = Refusal::MoveRefused { state: before.state(now) };
        let after = before.after(step, now).ok_or(refusal)?;
        if after != before {
            let (sale, actor) = (sale.clone(), actor.clone());
            self.happen(Event::SaleMoved { sale, step, before, after, actor });
        }
        self.reported(sale, false)
    }

    /// Units are added or taken out once per key; asking again is answered as the first time.
    pub(super) fn restock(&mut self, restock: &Restock<'_>) -> Decided {
        let Restock { sale, item, delta, key, reason, actor } = *restock;
        let record = self.state.sale(sale).ok_or(Refusal::UnknownSale)?;
        let index = record.item_index(item).ok_or_else(|| Refusal::UnknownItem(item.clone()))?;
        if let Some(known) = record.restocked(key) {
            let same = known == (index, delta);
            return if same { self.reported(sale, false) } else { Err(Refusal::KeyReused) };
        }
        let counters = record.counters()[index];
        let refusal = Refusal::StockTaken { available: counters.available };
        let after = counters.restocked(delta).ok_or(refusal.clone())?;
        if after.stock > limits::STOCK_MAX {
            return Err(refusal);
        }
        if delta != 0 {
            self.happen(Event::Restocked {
                sale: sale.clone(),
                item: item.clone(),
                delta,
                key: key.clone(),
                before: counters.stock,
                reason: Box::from(reason),
                actor: actor.clone(),
            });
        }
        self.reported(sale, false)
    }

    pub(super) fn inspect(&mut self, sale: &SaleId) -> Decided {
        self.reported(sale, false)
    }

    fn reported(&self, sale: &SaleId, created: bool) -> Decided {
        let record = self.state.sale(sale).ok_or(Refusal::UnknownSale)?;
        Ok(Outcome::Sale { report: record.report(), created })
    }
}
