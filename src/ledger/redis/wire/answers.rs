//! What a call came to.

use std::sync::Arc;
use std::time::Duration;

use rmpv::ValueRef;
use rmpv::decode::read_value_ref;

use super::fields::Fields;
use super::shape::Shape;
use super::{Head, MadeBefore, Reading, Report, Unreadable, Verdict};
use crate::engine::{Command, Position};
use crate::sale::{Counters, Outcome, Refusal, SaleDefinition, SaleState};

/// Reads the beginning of an answer.
///
/// # Errors
/// [`Unreadable`].
pub fn head(mut bytes: &[u8]) -> Reading<Head> {
    let mut fields = Fields::next(&mut bytes)?;
    let verdict = match fields.text()? {
        "ok" => Verdict::Done,
        "empty" => Verdict::Empty,
        "fenced" => Verdict::Fenced,
        "stale" => Verdict::Stale,
        "behind" => Verdict::Behind,
        "format" => Verdict::Format,
        _ => return Err(Unreadable("a status")),
    };
    let position = Position { epoch: fields.uint()?, seq: fields.uint()? };
    let now = fields.millis()?;
    let (more, full, unlimited) = (fields.flag()?, fields.flag()?, fields.uint()?);
    let (at, replays) = (fields.millis()?, fields.text()?);
    let place = |text: &str| text.parse::<usize>().ok()?.checked_sub(1);
    let replays: Option<Vec<_>> = replays.split_whitespace().map(place).collect();
    let replays = replays.ok_or(Unreadable("the replays of a call"))?;
    let made_before = (at.0 > 0).then_some(MadeBefore { at, replays });
    Ok(Head { verdict, position, now, more, full, unlimited, made_before })
}

/// Reads the outcomes of `commands`, in their order, with the shapes of those that were plain. Where the user asked
/// too often there is none, but how long until there is a token.
///
/// # Errors
/// [`Unreadable`].
pub fn outcomes<'c>(
    mut bytes: &[u8],
    mut shapes: &[u8],
    commands: impl Iterator<Item = &'c Command>,
) -> Reading<Vec<Result<Outcome, Duration>>> {
    let mut known = Vec::new();
    while !shapes.is_empty() {
        known.push(Shape::of(Fields::next(&mut shapes)?));
    }
    let read = |command: &Command| {
        let value = read_value_ref(&mut bytes).map_err(|_| Unreadable("MessagePack"))?;
        let (ValueRef::Integer(number), Command::Reserve(reserve)) = (&value, command) else {
            return Fields::of(value)?.outcome(command);
        };
        let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
        let shape = number.and_then(|number| known.get_mut(number.checked_sub(1)?));
        let shape = shape.ok_or(Unreadable("a shape"))?;
        let reservation = shape.reservation(reserve.id, reserve.user.clone())?;
        Ok(Ok(Outcome::Reserved { reservation, replayed: false }))
    };
    commands.map(read).collect()
}

/// Reads reports to the end.
///
/// # Errors
/// [`Unreadable`].
pub fn reports(mut bytes: &[u8]) -> Reading<Vec<Report>> {
    let mut reports = Vec::new();
    while !bytes.is_empty() {
        reports.push(Fields::next(&mut bytes)?.report()?);
    }
    Ok(reports)
}

/// Reads a definition as the lane keeps it.
///
/// # Errors
/// [`Unreadable`].
pub fn definition(text: &str) -> Reading<Arc<SaleDefinition>> {
    let value = serde_json::from_str(text).map_err(|_| Unreadable("a definition"))?;
    SaleDefinition::from_json(&value).map(Arc::new).map_err(|_| Unreadable("a definition"))
}

impl<'b> Fields<'b> {
    fn outcome(mut self, command: &Command) -> Reading<Result<Outcome, Duration>> {
        // A record's id is not in the record: it is what was asked for.
        let id = match command {
            Command::Reserve(reserve) => Some(reserve.id),
            Command::Confirm { id, .. } | Command::Cancel { id, .. } | Command::Find { id, .. } => {
                Some(*id)
            }
            Command::CreateSale { .. }
            | Command::MoveSale { .. }
            | Command::Restock { .. }
            | Command::Inspect { .. }
            | Command::Sweep => None,
        };
        let kind = self.text()?;
        let mut reservation = || self.record(id.ok_or(Unreadable("no record"))?);
        Ok(Ok(match kind {
            "r" => Outcome::Reserved { reservation: reservation()?, replayed: self.flag()? },
            "c" => Outcome::Confirmed { reservation: reservation()?, rebooked: self.flag()? },
            "x" => Outcome::Cancelled(reservation()?),
            "f" => Outcome::Found(reservation()?),
            "s" => {
                let report = self.fields()?.report()?;
                let definition = definition(self.text()?)?;
                Outcome::Sale { report: report.with(&definition), created: self.flag()? }
            }
            "e" => {
                let expired = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
                Outcome::Swept { expired, more: self.flag()? }
            }
            "n" => match self.text()? {
                "rate-limited" => return Ok(Err(Duration::from_micros(self.uint()?))),
                code => Outcome::Refused(self.refusal(code)?),
            },
            _ => return Err(Unreadable("an outcome")),
        }))
    }

    fn refusal(&mut self, code: &str) -> Reading<Refusal> {
        Ok(match code {
            "idempotency-key-reused" => Refusal::KeyReused,
            "unknown-sale" => Refusal::UnknownSale,
            "sale-not-open" => Refusal::SaleNotOpen { opens_at: self.instant()? },
            "sale-paused" => Refusal::SalePaused,
            "sale-closed" => Refusal::SaleClosed,
            "unknown-item" => Refusal::UnknownItem(self.item()?),
            "invalid-quantity" => Refusal::InvalidQuantity { max: self.small()? },
            "limit-reached" => {
                let limit = self.small()?;
                let taken = u32::try_from(self.uint()?).unwrap_or(u32::MAX);
                Refusal::LimitReached { limit, taken }
            }
            "sold-out" => Refusal::SoldOut { held: self.flag()? },
            "unknown-reservation" => Refusal::UnknownReservation,
            "reservation-confirmed" => Refusal::ReservationConfirmed,
            "reservation-expired" => Refusal::ReservationExpired,
            "reservation-cancelled" => Refusal::ReservationCancelled,
            "sale-differs" => Refusal::SaleDiffers,
            "too-many-sales" => Refusal::TooManySales,
            "invalid-transition" => Refusal::MoveRefused {
                state: match self.text()? {
                    "scheduled" => SaleState::Scheduled,
                    "open" => SaleState::Open,
                    "paused" => SaleState::Paused,
                    "closed" => SaleState::Closed,
                    _ => return Err(Unreadable("a state")),
                },
            },
            "stock-taken" => Refusal::StockTaken { available: self.uint()? },
            _ => return Err(Unreadable("a refusal")),
        })
    }

    fn report(mut self) -> Reading<Report> {
        let (sale, created_at, window) = (self.sale()?, self.millis()?, self.window()?);
        let mut numbers = self.fields()?;
        let mut counters = Vec::with_capacity(numbers.left() / 6);
        while numbers.left() > 0 {
            counters.push(Counters {
                stock: numbers.uint()?,
                available: numbers.uint()?,
                held: numbers.uint()?,
                confirmed: numbers.uint()?,
                cancelled_total: numbers.uint()?,
                expired_total: numbers.uint()?,
            });
        }
        let touched = if self.left() > 0 { self.uint()? } else { 0 };
        Ok(Report { sale, created_at, window, counters, touched })
    }
}
