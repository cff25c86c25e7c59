//! What the ledger answers: outcomes are values, refusals among them; only faults are errors.

use serde::{Deserialize, Serialize};

use super::{ItemId, Reservation, SaleDefinition, SaleState, Status, Window};
use crate::clock::Millis;

/// A definite answer of the ledger to one command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The reservation stands; `replayed` if an earlier request with the same id made it.
    Reserved {
        /// As it stands now; it may have moved on since it was held.
        reservation: Reservation,
        /// Nothing was taken by *this* request.
        replayed: bool,
    },
    /// The payment counts.
    Confirmed {
        /// As it stands now.
        reservation: Reservation,
        /// The hold had run out, and the units were taken anew.
        rebooked: bool,
    },
    /// The units are back (or withdrawn, after a refund without restock).
    Cancelled(Reservation),
    /// The reservation that was asked for.
    Found(Reservation),
    /// The sale stands as defined; `created` unless it already did.
    Sale {
        /// The sale, with its counters.
        report: SaleReport,
        /// This command made it.
        created: bool,
    },
    /// So many holds ran out and were returned; `more` are due already.
    Swept {
        /// Reservations that expired.
        expired: usize,
        /// The bound of one sweep was reached.
        more: bool,
    },
    /// A definite no: nothing was taken, and nothing will be.
    Refused(Refusal),
}

/// Why the ledger says no. Ordered by precedence: the first that applies is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key was used for another body.
    KeyReused,
    /// No such sale.
    UnknownSale,
    /// The sale opens later, or when somebody opens it.
    SaleNotOpen {
        /// When, if that is known.
        opens_at: Option<Millis>,
    },
    /// An operator has stopped it for now.
    SalePaused,
    /// It is over.
    SaleClosed,
    /// The sale has no such item.
    UnknownItem(ItemId),
    /// More than one request may ever ask for.
    InvalidQuantity {
        /// The most that could be granted to this user in this sale, whatever the stock.
        max: u32,
    },
    /// The user has, with this request, more than the limit.
    LimitReached {
        /// Units per user.
        limit: u32,
        /// Units that the user holds or has bought.
        taken: u32,
    },
    /// Fewer units are available than were asked for.
    SoldOut {
        /// Units of the item are held and may come back.
        held: bool,
    },
    /// No such reservation, or not this user's.
    UnknownReservation,
    /// It is paid, by another payment or beyond what was asked.
    ReservationConfirmed,
    /// Its hold ran out, and its units are gone.
    ReservationExpired,
    /// It was cancelled.
    ReservationCancelled,
    /// A sale of that id exists and is another.
    SaleDiffers,
    /// The lane knows as many sales as it may.
    TooManySales,
    /// The step makes no sense from where the sale is.
    MoveRefused {
        /// Where it is.
        state: SaleState,
    },
    /// Fewer units are available than a restock would take out, or the stock would pass its bound.
    StockTaken {
        /// Units that could be taken out.
        available: u64,
    },
}

impl Refusal {
    /// The refusal's name on the wire, in metrics and in reports. Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::KeyReused => "idempotency-key-reused",
            Refusal::UnknownSale | Refusal::UnknownReservation => "not-found",
            Refusal::SaleNotOpen { .. } => "sale-not-open",
            Refusal::SalePaused => "sale-paused",
            Refusal::SaleClosed => "sale-closed",
            Refusal::UnknownItem(_) => "unknown-item",
            Refusal::InvalidQuantity { .. } => "invalid-quantity",
            Refusal::LimitReached { .. } => "limit-reached",
            Refusal::SoldOut { .. } => "sold-out",
            Refusal::ReservationConfirmed => "reservation-confirmed",
            Refusal::ReservationExpired => "reservation-expired",
            Refusal::ReservationCancelled => "reservation-cancelled",
            Refusal::SaleDiffers => "sale-differs",
            Refusal::TooManySales => "too-many-sales",
            Refusal::MoveRefused { .. } => "invalid-transition",
            Refusal::StockTaken { .. } => "stock-taken",
        }
    }
}

/// Units of one item, by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Initial stock plus restocks, minus what refunds withdrew.
    pub stock: u64,
    /// For sale.
    pub available: u64,
    /// In reservations that wait for payment.
    pub held: u64,
    /// In paid reservations.
    pub confirmed: u64,
    /// Units that cancellations returned or withdrew, ever.
    pub cancelled_total: u64,
    /// Units that expiries returned, ever.
    pub expired_total: u64,
}

impl Counters {
    /// Counters of an untouched item.
    pub fn new(stock: u64) -> Self {
        Self { stock, available: stock, ..Self::default() }
    }

    /// Whether every unit is in exactly one place.
    pub fn conserved(&self) -> bool {
        self.available.checked_add(self.held).and_then(|sum| sum.checked_add(self.confirmed))
            == Some(self.stock)
    }

    /// Moves units as a reservation goes from one status to another; `None` is "not there yet".
    /// Returns `None`, changing nothing, where that would make a counter negative.
    #[must_use]
    pub fn moved(mut self, from: Option<Status>, to: Status, units: u64) -> Option<Self> {
        match from {
            None | Some(Status::Expired) => self.available = self.available.checked_sub(units)?,
            Some(Status::Held) => self.held = self.held.checked_sub(units)?,
            Some(Status::Confirmed) => self.confirmed = self.confirmed.checked_sub(units)?,
            Some(Status::Cancelled) => return None,
        }
        match to {
            Status::Held => self.held = self.held.checked_add(units)?,
            Status::Confirmed => self.confirmed = self.confirmed.checked_add(units)?,
            Status::Cancelled => {
                self.available = self.available.checked_add(units)?;
                self.cancelled_total = self.cancelled_total.checked_add(units)?;
            }
            Status::Expired => {
                self.available = self.available.checked_add(units)?;
                self.expired_total = self.expired_total.checked_add(units)?;
            }
        }
        Some(self)
    }

    /// Adds units to the stock or takes them out of what is available. `None`, changing nothing,
    /// where fewer are available.
    #[must_use]
    pub fn restocked(mut self, delta: i64) -> Option<Self> {
        self.stock = self.stock.checked_add_signed(delta)?;
        self.available = self.available.checked_add_signed(delta)?;
        Some(self)
    }
}

/// An item's counters under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemCounters {
    /// The item.
    pub item: ItemId,
    /// Its units.
    pub counters: Counters,
}

/// A sale as the ledger sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleReport {
    /// As it was created.
    pub definition: std::sync::Arc<SaleDefinition>,
    /// As it is now: operators move it.
    pub window: Window,
    /// When it was created.
    pub created_at: Millis,
    /// In the order of the definition.
    pub items: Vec<ItemCounters>,
}
