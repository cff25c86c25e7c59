//! A sale as an operator writes it and as the ops API shows it.

use serde::{Deserialize, Serialize};

/// A sale to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SaleSpec {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// When it opens, RFC 3339; without it, it is opened by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<String>,
    /// When it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<String>,
    /// For how long a reservation waits for its payment.
    pub hold_seconds: u64,
    /// Units that one user may take of the whole sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_user_limit: Option<u32>,
    /// What is sold.
    pub items: Vec<ItemSpec>,
}

/// An item to be sold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ItemSpec {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Price of a unit, in minor units of the currency.
    pub price: u64,
    /// ISO code.
    pub currency: String,
    /// How many units there are.
    pub stock: u64,
    /// Units that one user may take of this item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_user_limit: Option<u32>,
}

impl SaleSpec {
    /// A sale of one item, with a hold of ten minutes.
    #[must_use]
    pub fn single(id: &str, item: &str, stock: u64, per_user_limit: Option<u32>) -> Self {
        let item = ItemSpec {
            id: item.to_owned(),
            title: item.to_owned(),
            price: 1_999,
            currency: "EUR".to_owned(),
            stock,
            per_user_limit: None,
        };
        let items = vec![item];
        let (id, title) = (id.to_owned(), id.to_owned());
        let (opens_at, closes_at) = (None, None);
        Self { id, title, opens_at, closes_at, hold_seconds: 600, per_user_limit, items }
    }
}

/// A sale as the ops API shows it: what the ledger says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaleView {
    /// Its id.
    pub id: String,
    /// `scheduled`, `open`, `paused` or `closed`.
    #[serde(default)]
    pub state: String,
    /// Units that one user may take of the whole sale.
    #[serde(default)]
    pub per_user_limit: Option<u64>,
    /// Its items with their counters.
    pub items: Vec<ItemView>,
    /// Changes that the writer has not digested yet.
    pub outbox_length: u64,
    /// How far the writer is behind.
    #[serde(default)]
    pub writer_lag_seconds: Option<f64>,
}

/// The counters of an item, in units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemView {
    /// Its id.
    pub id: String,
    /// All units, restocks included.
    pub stock: i64,
    /// Units that are for sale.
    pub available: i64,
    /// Units that wait for a payment.
    pub held: i64,
    /// Units that are paid.
    pub confirmed: i64,
    /// Units that came back because a reservation was cancelled.
    #[serde(default)]
    pub cancelled_total: i64,
    /// Units that came back because a hold ran out.
    #[serde(default)]
    pub expired_total: i64,
    /// Units that one user may take of this item.
    #[serde(default)]
    pub per_user_limit: Option<u64>,
}
