//! Sales: what operators do to them.

use super::{Answer, Model, Sale};
use crate::clock::Millis;
use crate::engine::{Actor, Event};
use crate::limits;
use crate::sale::{
    IdempotencyKey, ItemId, Move, Outcome, Refusal, SaleDefinition, SaleId, SaleState,
};

fn no(refusal: Refusal) -> Answer {
    (Outcome::Refused(refusal), Vec::new())
}

impl Model {
    pub(super) fn create(&mut self, definition: &SaleDefinition, actor: &Actor) -> Answer {
        if let Some(sale) = self.sale(&definition.id) {
            if sale.definition != *definition {
                return no(Refusal::SaleDiffers);
            }
            return (Outcome::Sale { report: self.report(sale), created: false }, Vec::new());
        }
        self.sales.push(Sale {
            definition: definition.clone(),
            opens: definition.opens_at.map(|at| at.0),
            closes: definition.closes_at.map(|at| at.0),
            paused: false,
            created: self.now,
            restocks: Vec::new(),
        });
        let report = self.report(self.sales.last().unwrap());
        let (definition, actor) = (definition.clone(), actor.clone());
        let event = Event::SaleCreated { definition, actor };
        (Outcome::Sale { report, created: true }, vec![event])
    }

    pub(super) fn move_sale(&mut self, id: &SaleId, step: Move, actor: &Actor) -> Answer {
        let now = self.now;
        let Some(at) = self.sales.iter().position(|sale| sale.definition.id == *id) else {
            return no(Refusal::UnknownSale);
        };
        let sale = &mut self.sales[at];
        let (state, before) = (sale.state(now), sale.window());
        match (step, state) {
            (Move::Open, SaleState::Scheduled) => sale.opens = Some(now),
            (Move::Pause, SaleState::Open) => sale.paused = true,
            (Move::Resume, SaleState::Paused) => sale.paused = false,
            (Move::Close, SaleState::Scheduled | SaleState::Open | SaleState::Paused) => {
                sale.closes = Some(now);
            }
            (Move::Open | Move::Resume, SaleState::Open)
            | (Move::Pause, SaleState::Paused)
            | (Move::Close, SaleState::Closed) => {
                return (Outcome::Sale { report: self.report_at(at), created: false }, Vec::new());
            }
            (Move::Open, SaleState::Paused | SaleState::Closed)
            | (Move::Pause | Move::Resume, SaleState::Scheduled | SaleState::Closed) => {
                return no(Refusal::MoveRefused { state });
            }
        }
        let (sale, actor, after) = (id.clone(), actor.clone(), sale.window());
        let event = Event::SaleMoved { sale, step, before, after, actor };
        (Outcome::Sale { report: self.report_at(at), created: false }, vec![event])
    }

    pub(super) fn restock(
        &mut self,
        id: &SaleId,
        item: &ItemId,
        (delta, key): (i64, &IdempotencyKey),
        reason: &str,
        actor: &Actor,
    ) -> Answer {
        let Some(at) = self.sales.iter().position(|sale| sale.definition.id == *id) else {
            return no(Refusal::UnknownSale);
        };
        let mut items = self.sales[at].definition.items.iter();
        let Some(index) = items.position(|known| known.id == *item) else {
            return no(Refusal::UnknownItem(item.clone()));
        };
        let mut before = self.sales[at].restocks.iter();
        if let Some((known, units, _)) = before.find(|(_, _, known)| known == key) {
            let report = self.report_at(at);
            let same = (*known, *units) == (index, delta);
            let done = (Outcome::Sale { report, created: false }, Vec::new());
            return if same { done } else { no(Refusal::KeyReused) };
        }
        let there = self.counters(&self.sales[at], index);
        let left = i128::from(there.available) + i128::from(delta);
        let stock = i128::from(there.stock) + i128::from(delta);
        if left < 0 || stock > i128::from(limits::STOCK_MAX) {
            return no(Refusal::StockTaken { available: there.available });
        }
        let mut events = Vec::new();
        if delta != 0 {
            self.sales[at].restocks.push((index, delta, key.clone()));
            let (sale, item, before) = (id.clone(), item.clone(), there.stock);
            let (reason, actor) = (reason.into(), actor.clone());
            let key = key.clone();
            events.push(Event::Restocked { sale, item, delta, key, before, reason, actor });
        }
        (Outcome::Sale { report: self.report_at(at), created: false }, events)
    }

    pub(super) fn inspect(&self, id: &SaleId) -> Answer {
        match self.sale(id) {
            Some(sale) => (Outcome::Sale { report: self.report(sale), created: false }, Vec::new()),
            None => no(Refusal::UnknownSale),
        }
    }

    fn report_at(&self, at: usize) -> crate::sale::SaleReport {
        self.report(&self.sales[at])
    }

    /// The model's clock, in the product's words.
    pub fn at(&self) -> Millis {
        Millis(self.now)
    }
}
