//! The definition of a sale: what `POST /admin/v1/sales` and sale files hold.
//!
//! A file with faults is refused with all of them at once, so its author mends it in one go. That is
//! why this reads a JSON value step by step rather than deriving: a derived reader stops at the first.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ItemId, SaleId};
use crate::clock::Millis;
use crate::limits;

/// A sale as it was created. What operators change later is kept beside it, not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleDefinition {
    /// Its name in paths and keys.
    pub id: SaleId,
    /// Its name for people.
    pub title: Box<str>,
    /// When it opens by itself; `None`: by hand.
    pub opens_at: Option<Millis>,
    /// When it closes by itself; `None`: by hand.
    pub closes_at: Option<Millis>,
    /// How long a reservation waits for its payment.
    pub hold_seconds: u32,
    /// Units of all items together that one user may hold or have bought.
    pub per_user_limit: Option<u32>,
    /// What is sold. At least one; all in one currency.
    pub items: Vec<ItemDefinition>,
}

/// An item as it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemDefinition {
    /// Its name in bodies and keys.
    pub id: ItemId,
    /// Its name for people.
    pub title: Box<str>,
    /// Price of a unit in minor units.
    pub price: u64,
    /// ISO 4217.
    pub currency: Box<str>,
    /// Units at the beginning.
    pub stock: u64,
    /// Units that one user may hold or have bought.
    pub per_user_limit: Option<u32>,
}

/// One thing that is wrong with a sale file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where, as a path: `items[2].price`.
    pub field: String,
    /// What, in a sentence.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl SaleDefinition {
    /// ISO 4217 code of every item.
    pub fn currency(&self) -> &str {
        self.items.first().map_or("", |item| &item.currency)
    }

    /// Reads a definition.
    ///
    /// # Errors
    /// Every fault of the text, in the order of its fields.
    pub fn from_json(value: &Value) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { faults: Vec::new() };
        let definition = reader.sale(value);
        match definition {
            Some(definition) if reader.faults.is_empty() => Ok(definition),
            _ => Err(reader.faults),
        }
    }

    /// The definition as `from_json` reads it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id.as_str(),
            "title": self.title,
            "opens_at": self.opens_at.map(|at| at.to_string()),
            "closes_at": self.closes_at.map(|at| at.to_string()),
            "hold_seconds": self.hold_seconds,
            "per_user_limit": self.per_user_limit,
            "items": self.items.iter().map(|item| json!({
                "id": item.id.as_str(),
                "title": item.title,
                "price": item.price,
                "currency": item.currency,
                "stock": item.stock,
                "per_user_limit": item.per_user_limit,
            })).collect::<Vec<_>>(),
        })
    }
}

const SALE_FIELDS: [&str; 7] =
    ["id", "title", "opens_at", "closes_at", "hold_seconds", "per_user_limit", "items"];
const ITEM_FIELDS: [&str; 6] = ["id", "title", "price", "currency", "stock", "per_user_limit"];

/// Reads fields and collects what is wrong; a field that is wrong reads as `None`.
struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    fn fault(&mut self, field: &str, detail: impl Into<String>) {
        self.faults.push(Fault { field: field.to_owned(), detail: detail.into() });
    }

    fn sale(&mut self, value: &Value) -> Option<SaleDefinition> {
        let Some(object) = value.as_object() else {
            self.fault("", "must be a JSON object");
            return None;
        };
        self.unknown_fields(object, "", &SALE_FIELDS);
        let id = self.id(object, "", "id", SaleId::parse);
        let title = self.title(object, "");
        let opens_at = self.instant(object, "opens_at");
        let closes_at = self.instant(object, "closes_at");
        if let (Some(opens_at), Some(closes_at)) = (opens_at, closes_at)
            && closes_at <= opens_at
        {
            self.fault("closes_at", "must be later than opens_at");
        }
        let hold_max = u64::from(limits::HOLD_SECONDS_MAX);
        let hold_seconds = self.number(object, "", "hold_seconds", 1, hold_max);
        let per_user_limit = self.limit(object, "");
        let items = self.items(object.get("items"));
        Some(SaleDefinition {
            id: id?,
            title: title?,
            opens_at,
            closes_at,
            hold_seconds: u32::try_from(hold_seconds?).ok()?,
            per_user_limit,
            items: items?,
        })
    }

    fn items(&mut self, value: Option<&Value>) -> Option<Vec<ItemDefinition>> {
        let Some(list) = value.and_then(Value::as_array) else {
            self.fault("items", "must be a list of items");
            return None;
        };
        if list.is_empty() || list.len() > limits::ITEMS_PER_SALE_MAX {
            let detail = format!("must hold 1 to {} items", limits::ITEMS_PER_SALE_MAX);
            self.fault("items", detail);
            return None;
        }
        let read: Vec<_> = list.iter().enumerate().map(|(i, item)| self.item(i, item)).collect();
        let items: Vec<ItemDefinition> = read.into_iter().flatten().collect();
        let mut seen = BTreeSet::new();
        for item in &items {
            if !seen.insert(&item.id) {
                self.fault("items", format!("item {} is listed twice", item.id));
            }
            if item.currency != items[0].currency {
                self.fault("items", format!("item {} is in another currency", item.id));
            }
        }
        Some(items)
    }

    fn item(&mut self, index: usize, value: &Value) -> Option<ItemDefinition> {
        let at = format!("items[{index}]");
        let Some(object) = value.as_object() else {
            self.fault(&at, "must be a JSON object");
            return None;
        };
        let at = format!("{at}.");
        self.unknown_fields(object, &at, &ITEM_FIELDS);
        let id = self.id(object, &at, "id", ItemId::parse);
        let title = self.title(object, &at);
        let price = self.number(object, &at, "price", 0, limits::PRICE_MAX);
        let currency = self.currency(object, &at);
        let stock = self.number(object, &at, "stock", 0, limits::STOCK_MAX);
        let per_user_limit = self.limit(object, &at);
        Some(ItemDefinition {
            id: id?,
            title: title?,
            price: price?,
            currency: currency?,
            stock: stock?,
            per_user_limit,
        })
    }

    fn unknown_fields(&mut self, object: &Map<String, Value>, at: &str, known: &[&str]) {
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            self.fault(&format!("{at}{shown}"), "is not a known field");
        }
    }

    fn text<'v>(
        &mut self,
        object: &'v Map<String, Value>,
        at: &str,
        name: &str,
    ) -> Option<&'v str> {
        let text = object.get(name).and_then(Value::as_str);
        if text.is_none() {
            self.fault(&format!("{at}{name}"), "is required, as a string");
        }
        text
    }

    fn id<T>(
        &mut self,
        object: &Map<String, Value>,
        at: &str,
        name: &str,
        parse: fn(&str) -> Result<T, super::InvalidId>,
    ) -> Option<T> {
        let text = self.text(object, at, name)?;
        match parse(text) {
            Ok(id) => Some(id),
            Err(invalid) => {
                self.fault(&format!("{at}{name}"), invalid.to_string());
                None
            }
        }
    }

    fn title(&mut self, object: &Map<String, Value>, at: &str) -> Option<Box<str>> {
        let text = self.text(object, at, "title")?;
        if text.is_empty() || text.len() > limits::TITLE_BYTES_MAX {
            let detail = format!("must be 1 to {} bytes long", limits::TITLE_BYTES_MAX);
            self.fault(&format!("{at}title"), detail);
            return None;
        }
        if text.chars().any(char::is_control) {
            self.fault(&format!("{at}title"), "must not hold control characters");
            return None;
        }
        Some(Box::from(text))
    }

    fn currency(&mut self, object: &Map<String, Value>, at: &str) -> Option<Box<str>> {
        let text = self.text(object, at, "currency")?;
        if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.fault(&format!("{at}currency"), "must be three capital letters (ISO 4217)");
            return None;
        }
        Some(Box::from(text))
    }

    fn number(
        &mut self,
        object: &Map<String, Value>,
        at: &str,
        name: &str,
        min: u64,
        max: u64,
    ) -> Option<u64> {
        let number = object.get(name).and_then(Value::as_u64);
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let detail = format!("is required, as a whole number from {min} to {max}");
            self.fault(&format!("{at}{name}"), detail);
        }
        number
    }

    fn limit(&mut self, object: &Map<String, Value>, at: &str) -> Option<u32> {
        if object.get("per_user_limit").is_none_or(Value::is_null) {
            return None;
        }
        let max = u64::from(limits::QUANTITY_MAX);
        self.number(object, at, "per_user_limit", 1, max).and_then(|n| u32::try_from(n).ok())
    }

    fn instant(&mut self, object: &Map<String, Value>, name: &str) -> Option<Millis> {
        let value = object.get(name).filter(|value| !value.is_null())?;
        let instant = value.as_str().and_then(Millis::parse_rfc3339);
        if instant.is_none() {
            self.fault(name, "must be an RFC 3339 time such as 2026-11-27T09:00:00Z");
        }
        instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({
            "id": "bf", "title": "Black Friday", "opens_at": "2026-11-27T09:00:00Z",
            "closes_at": null, "hold_seconds": 120, "per_user_limit": 2,
            "items": [{"id": "sku-1", "title": "Console", "price": 49900, "currency": "EUR",
                       "stock": 500, "per_user_limit": null}],
        })
    }

    /// What is written is what was read.
    #[test]
    fn round_trip() {
        let definition = SaleDefinition::from_json(&good()).unwrap();
        assert_eq!(SaleDefinition::from_json(&definition.to_json()), Ok(definition));
    }

    /// Every fault is listed, each under its own path.
    #[test]
    fn all_faults_at_once() {
        let mut bad = good();
        bad["id"] = json!("has space");
        bad["colour"] = json!("red");
        bad["hold_seconds"] = json!(0);
        bad["opens_at"] = json!("tomorrow");
        bad["items"][0]["price"] = json!(-1);
        bad["items"][0]["currency"] = json!("euro");
        bad["items"][0]["per_user_limit"] = json!(0);
        let faults = SaleDefinition::from_json(&bad).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "colour",
                "id",
                "opens_at",
                "hold_seconds",
                "items[0].price",
                "items[0].currency",
                "items[0].per_user_limit"
            ]
        );
    }

    /// Faults that only show between fields: order of times, doubled items, mixed currencies.
    #[test]
    fn faults_between_fields() {
        let mut bad = good();
        bad["closes_at"] = json!("2026-11-27T09:00:00Z");
        let twin = bad["items"][0].clone();
        bad["items"].as_array_mut().unwrap().push(twin);
        bad["items"][1]["currency"] = json!("USD");
        let faults = SaleDefinition::from_json(&bad).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(SaleDefinition::from_json(&json!([])).unwrap_err().len(), 1);
        assert_eq!(SaleDefinition::from_json(&json!({})).unwrap_err().len(), 4);
    }
}
