//! An order: a reservation as the shop's books know it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::clock::Millis;
use crate::sale::{ItemId, Line, ReservationId, SaleId};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Held: its payment is awaited.
    PendingPayment,
    /// Confirmed.
    Paid,
    /// Given back or refunded.
    Cancelled,
    /// Its hold ran out.
    Expired,
}

impl OrderStatus {
    /// The word on the wire and in the books.
    pub fn as_str(self) -> &'static str {
        match self {
            OrderStatus::PendingPayment => "pending_payment",
            OrderStatus::Paid => "paid",
            OrderStatus::Cancelled => "cancelled",
            OrderStatus::Expired => "expired",
        }
    }

    /// Reads the word of the books.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::PendingPayment, Self::Paid, Self::Cancelled, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// An order in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The reservation's id.
    pub id: ReservationId,
    /// Where it was taken.
    pub sale: SaleId,
    /// Where it stands.
    pub status: OrderStatus,
    /// What was taken, at which price.
    pub lines: Vec<Line>,
    /// In minor units.
    pub total: u64,
    /// ISO 4217.
    pub currency: Box<str>,
    /// The reservation's `held_at`.
    pub created_at: Millis,
    /// When its hold runs out, or ran out.
    pub expires_at: Millis,
    /// Its last transition.
    pub updated_at: Millis,
    /// The payment that confirmed it.
    pub payment_ref: Option<String>,
}

impl Order {
    fn lines_value(&self) -> Value {
        serde_json::from_str(&lines_json(&self.lines, &self.currency)).unwrap_or(Value::Null)
    }

    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "sale_id": self.sale.as_str(),
            "status": self.status.as_str(),
            "lines": self.lines_value(),
            "total": self.total,
            "currency": self.currency,
            "created_at": self.created_at.to_string(),
            "expires_at": self.expires_at.to_string(),
            "updated_at": self.updated_at.to_string(),
            "payment_ref": self.payment_ref,
        })
    }
}

/// Lines as the books keep them and every answer shows them, as a JSON array. Ids and currencies need
/// no escapes, so this is written out rather than built up: it is done for every order.
pub fn lines_json(lines: &[Line], currency: &str) -> String {
    let mut json = String::with_capacity(2 + 96 * lines.len());
    json.push('[');
    for (index, line) in lines.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let Line { item, quantity, unit_price } = line;
        // Writing to a string does not fail.
        let _ = write!(
            json,
            r#"{comma}{{"item_id":"{item}","quantity":{quantity},"unit_price":{unit_price},"currency":"{currency}"}}"#
        );
    }
    json.push(']');
    json
}

/// Reads what [`lines_json`] wrote.
pub fn lines_of(json: &str) -> Option<Vec<Line>> {
    let lines: Vec<Value> = serde_json::from_str(json).ok()?;
    let line = |line: &Value| {
        Some(Line {
            item: ItemId::parse(line["item_id"].as_str()?).ok()?,
            quantity: u32::try_from(line["quantity"].as_u64()?).ok()?,
            unit_price: line["unit_price"].as_u64()?,
        })
    };
    lines.iter().map(line).collect()
}

/// Where a page of a user's orders ends, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderMark {
    /// The last order's `created_at`.
    pub created_at: Millis,
    /// The last order.
    pub id: ReservationId,
}

impl OrderMark {
    /// Reads what [`OrderMark::to_token`] wrote.
    pub fn parse(token: &str) -> Option<Self> {
        let (at, id) = token.split_once('.')?;
        Some(Self { created_at: Millis(at.parse().ok()?), id: ReservationId::parse(id)? })
    }

    /// The token that asks for the next page.
    pub fn to_token(self) -> String {
        format!("{}.{}", self.created_at.0, self.id)
    }
}
