//! `GET /v1/sales`, `GET /v1/sales/{sale}`: what a sale page shows.
//!
//! From memory, and the same for everybody, so a CDN in front may keep it for a second. The tag is of
//! everything but the time: a page that has not changed costs a 304.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use serde_json::{Value, json};

use super::Public;
use crate::catalog::SaleCard;
use crate::clock::Millis;
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::http::request::Head;

impl Public {
    pub(super) fn list_sales(&self, head: &Head) -> Answer {
        let now = self.gate.now();
        let sales = self.gate.catalog().sales();
        let sales: Vec<Value> = sales.values().map(|card| show(card, now)).collect();
        cacheable(json!({ "sales": sales }), head, now)
    }

    pub(super) fn show_sale(&self, sale: &str, head: &Head) -> Result<Answer, Problem> {
        let now = self.gate.now();
        let card = self.gate.catalog().sale(sale).ok_or(Problem::NotFound)?;
        Ok(cacheable(show(&card, now), head, now))
    }
}

fn show(card: &SaleCard, now: Millis) -> Value {
    let definition = card.definition();
    let window = card.window();
    let item = |(item, stock): (&crate::sale::ItemDefinition, &crate::catalog::ItemCard)| {
        json!({
            "id": item.id.as_str(),
            "title": item.title,
            "price": item.price,
            "currency": item.currency,
            "per_user_limit": item.per_user_limit,
            "availability": stock.availability().as_str(),
        })
    };
    json!({
        "id": definition.id.as_str(),
        "title": definition.title,
        "state": window.state(now).as_str(),
        "opens_at": window.opens_at.map(|at| at.to_string()),
        "closes_at": window.closes_at.map(|at| at.to_string()),
        "hold_seconds": definition.hold_seconds,
        "per_user_limit": definition.per_user_limit,
        "items": definition.items.iter().zip(card.items()).map(item).collect::<Value>(),
    })
}

fn cacheable(mut body: Value, head: &Head, now: Millis) -> Answer {
    // Weak, since the time is not in it; and compared as such (RFC 9110 §8.8.3.2).
    let opaque = format!("\"{:08x}\"", crc32fast::hash(body.to_string().as_bytes()));
    let tag = format!("W/{opaque}");
    let known = head.headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| {
        known
            .split(',')
            .map(str::trim)
            .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == opaque)
    });
    let mut answer = if unchanged {
        answer::json(StatusCode::NOT_MODIFIED, "")
    } else {
        body["server_time"] = json!(now.to_string());
        answer::value(StatusCode::OK, &body)
    };
    let caching = HeaderValue::from_static("public, max-age=1");
    answer.headers_mut().insert(CACHE_CONTROL, caching);
    answer::with(answer, ETAG, &tag)
}
