//! What the outbox has of a lane.

use std::sync::Arc;

use super::answers::definition;
use super::fields::Fields;
use super::shape::Shape;
use super::{Reading, Unreadable};
use crate::engine::{Event, Return};
use crate::sale::{IdempotencyKey, Line, Move, ReservationId, SaleId};

/// Reads the events of one entry of the outbox, to the end.
///
/// # Errors
/// [`Unreadable`].
pub fn events(mut bytes: &[u8]) -> Reading<Vec<Event>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        Fields::next(&mut bytes)?.events(&mut events)?;
    }
    Ok(events)
}

/// What the events of one entry of the outbox granted.
///
/// # Errors
/// [`Unreadable`].
pub fn granted(mut bytes: &[u8]) -> Reading<Vec<(SaleId, ReservationId)>> {
    let mut granted = Vec::new();
    while !bytes.is_empty() {
        let mut event = Fields::next(&mut bytes)?;
        match event.text()? {
            "G" => {
                let sale = event.fields()?.sale()?;
                granted.extend(event.ids()?.into_iter().map(|id| (sale.clone(), id)));
            }
            "H" => {
                let id = event.id()?;
                granted.push((event.fields()?.sale()?, id));
            }
            _ => {}
        }
    }
    Ok(granted)
}

impl<'b> Fields<'b> {
    /// Reads one event; of a shape there are several in one.
    fn events(mut self, events: &mut Vec<Event>) -> Reading<()> {
        match self.text()? {
            "G" => {
                let (mut shape, ids) = (Shape::of(self.fields()?), self.ids()?);
                let mut users = self.fields()?;
                if users.left() != ids.len() {
                    return Err(Unreadable("a user for each id"));
                }
                for id in ids {
                    events.push(Event::Held(shape.reservation(id, users.user()?)?));
                }
            }
            kind => events.push(self.event(kind)?),
        }
        Ok(())
    }

    fn event(&mut self, kind: &str) -> Reading<Event> {
        Ok(match kind {
            "N" => {
                let definition = definition(self.text()?)?;
                let definition = Arc::unwrap_or_clone(definition);
                Event::SaleCreated { definition, actor: Box::from(self.text()?) }
            }
            "M" => {
                let sale = self.sale()?;
                let step = match self.text()? {
                    "open" => Move::Open,
                    "pause" => Move::Pause,
                    "resume" => Move::Resume,
                    "close" => Move::Close,
                    _ => return Err(Unreadable("a step")),
                };
                let (before, after) = (self.fields()?.window()?, self.fields()?.window()?);
                Event::SaleMoved { sale, step, before, after, actor: Box::from(self.text()?) }
            }
            "S" => Event::Restocked {
                sale: self.sale()?,
                item: self.item()?,
                delta: self.int()?,
                before: self.uint()?,
                key: IdempotencyKey::parse(self.text()?).map_err(|_| Unreadable("a key"))?,
                reason: Box::from(self.text()?),
                actor: Box::from(self.text()?),
            },
            "H" => {
                let id = self.id()?;
                Event::Held(self.record(id)?)
            }
            "C" => Event::Confirmed {
                id: self.id()?,
                user: self.user()?,
                version: self.small()?,
                payment: self.payment()?,
            },
            "X" => Event::Cancelled {
                returned: self.returned()?,
                restock: self.flag()?,
                actor: Some(self.text()?).filter(|actor| !actor.is_empty()).map(Box::from),
            },
            "E" => Event::Expired(self.returned()?),
            "B" => Event::Rebooked { taken: self.returned()?, payment: self.payment()? },
            "P" => {
                let (id, sale, user) = (self.id()?, self.sale()?, self.user()?);
                let (payment, lines) = (self.payment()?, self.lines()?);
                let amount = Line::total(&lines);
                let currency = Box::from(self.text()?);
                Event::RefundNeeded { id, sale, user, payment, amount, currency }
            }
            _ => return Err(Unreadable("an event")),
        })
    }

    fn returned(&mut self) -> Reading<Return> {
        let mut fields = self.fields()?;
        let (id, sale, user) = (fields.id()?, fields.sale()?, fields.user()?);
        Ok(Return { id, sale, user, lines: fields.lines()?, version: fields.small()? })
    }
}
