//! `GET /v1/cart`, `PUT` and `DELETE /v1/cart/items/{item}`.
//!
//! The version is the tag. A write with `If-Match` happens only to the version that it names; without
//! one it happens to whatever is there.

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Deserialize;

use super::reservations::Quantity;
use super::{Call, Public};
use crate::carts::{Cart, CartChange};
use crate::gate::Denied;
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::request::Head;
use crate::limits;
use crate::sale::{ItemId, Refusal, UserId};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    quantity: Quantity,
}

impl Public {
    pub(super) async fn show_cart(&self, call: Call) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), &call.head)?;
        let cart = self.ask_store(self.store.cart(user), Denied::Overloaded).await?;
        Ok(shown(&cart))
    }

    pub(super) async fn put_in_cart(&self, item: &str, call: Call) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), &call.head)?;
        let expected = if_match(&call.head)?;
        let body = body::read(&call.head, call.body, limits::BODY_BYTES_MAX).await?;
        let wanted: Wanted = body::parse(&call.head, &body)?;
        let quantity = wanted.quantity.within(limits::CART_QUANTITY_MAX)?;
        let item = ItemId::parse(item).map_err(|_| Problem::NotFound)?;
        if !self.gate.catalog().has_item(&item) {
            return Err(Refusal::UnknownItem(item).into());
        }
        self.change_cart(user, expected, CartChange::Put { item, quantity }).await
    }

    pub(super) async fn take_out_of_cart(&self, item: &str, call: Call) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), &call.head)?;
        let expected = if_match(&call.head)?;
        let item = ItemId::parse(item).map_err(|_| Problem::NotFound)?;
        self.change_cart(user, expected, CartChange::Remove { item }).await
    }

    async fn change_cart(
        &self,
        user: UserId,
        expected: Option<u64>,
        change: CartChange,
    ) -> Result<Answer, Problem> {
        let changed = self.store.change_cart(user, expected, change);
        // A write that nobody waits for any more is written all the same.
        let cart = self.ask_store(changed, Denied::OutcomeUnknown).await??;
        Ok(shown(&cart))
    }
}

fn shown(cart: &Cart) -> Answer {
    let answer = answer::value(StatusCode::OK, &cart.to_json());
    answer::with(answer, ETAG, &format!("\"{}\"", cart.version))
}

/// The version that a write is for. `*` is any; a tag that was never a cart's matches none.
fn if_match(head: &Head) -> Result<Option<u64>, Problem> {
    const NONE: u64 = u64::MAX;
    let Some(text) = head.single("if-match")? else { return Ok(None) };
    let text = text.trim();
    if text == "*" {
        return Ok(None);
    }
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match quoted.filter(|tag| !tag.contains('"')) {
        Some(tag) if tag.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(tag.parse().unwrap_or(NONE)))
        }
        Some(_) => Ok(Some(NONE)),
        // RFC 9110 §13.1.1: a weak tag never matches here. A list names versions that were; one is.
        None if text.starts_with("W/") => Ok(Some(NONE)),
        None => Err(Problem::malformed("If-Match must be one entity tag, or *")),
    }
}
