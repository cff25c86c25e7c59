//! `GET` and `DELETE /v1/cart`, `PUT`, `POST` and `DELETE /v1/cart/items/{item}`, `POST /v1/cart/merge`.
//!
//! The version is the tag. A write with `If-Match` happens only to the version that it names; without
//! one it happens to whatever is there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ETAG, IF_MATCH};
use serde::Deserialize;

use super::reservations::Quantity;
use super::{Call, Public};
use crate::admission::Admitted;
use crate::carts::{Cart, CartChange, CartKey, CartRefusal};
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::rate;
use crate::http::request::Head;
use crate::limits;
use crate::sale::{ItemId, Refusal, UserId};
use crate::store::{Job, Store};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    quantity: Quantity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    guest_id: String,
}

/// How the ids of guests begin. Whoever knows one owns its cart, so what follows has to be random.
const GUEST: &str = "guest-";
/// How much of it there is at least.
const GUEST_RANDOM_MIN: usize = 16;

impl Public {
    pub(super) async fn show_cart(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let reading = match self.carts.get(&user) {
            Ok(cart) => return Ok(shown(&cart)),
            Err(reading) => reading,
        };
        let cart = self.read_store(|store| store.cart(user.clone())).await?;
        self.carts.keep(reading, user, cart.clone());
        Ok(shown(&cart))
    }

    pub(super) async fn put_in_cart(&self, item: &str, call: Call<'_>) -> Result<Answer, Problem> {
        self.fill_cart(item, call, |item, quantity| CartChange::Put { item, quantity }).await
    }

    pub(super) async fn add_to_cart(&self, item: &str, call: Call<'_>) -> Result<Answer, Problem> {
        self.fill_cart(item, call, |item, quantity| CartChange::Add { item, quantity }).await
    }

    async fn fill_cart(
        &self,
        item: &str,
        call: Call<'_>,
        change: impl FnOnce(ItemId, u32) -> CartChange,
    ) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), call.head)?;
        let expected = if_match(call.head)?;
        let body = body::read(call.head, call.body, limits::BODY_BYTES_MAX).await?;
        let wanted: Wanted = body::parse(&body)?;
        let quantity = wanted.quantity.within(limits::CART_QUANTITY_MAX)?;
        let item = ItemId::parse(item).map_err(|_| Problem::NotFound)?;
        if !self.gate.catalog().has_item(&item) {
            return Err(Refusal::UnknownItem(item).into());
        }
        self.change_cart(user, call.client, expected, change(item, quantity)).await
    }

    pub(super) async fn take_out_of_cart(
        &self,
        item: &str,
        call: Call<'_>,
    ) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), call.head)?;
        let expected = if_match(call.head)?;
        let item = ItemId::parse(item).map_err(|_| Problem::NotFound)?;
        self.change_cart(user, call.client, expected, CartChange::Remove { item }).await
    }

    pub(super) async fn clear_cart(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), call.head)?;
        let expected = if_match(call.head)?;
        self.change_cart(user, call.client, expected, CartChange::Clear).await
    }

    /// A guest has logged in: what they had put into their cart comes into the user's.
    pub(super) async fn merge_carts(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let user = self.identity.require(call.peer.ip(), call.head)?;
        let expected = if_match(call.head)?;
        let body = body::read(call.head, call.body, limits::BODY_BYTES_MAX).await?;
        let wanted: Merge = body::parse(&body)?;
        let guest = UserId::parse(&wanted.guest_id).ok();
        // Nobody empties the cart of a user by naming them.
        let is_guest = |guest: &UserId| {
            let random = guest.as_str().strip_prefix(GUEST);
            random.is_some_and(|random| random.len() >= GUEST_RANDOM_MIN) && *guest != user
        };
        let guest = guest.filter(is_guest).ok_or_else(|| {
            Problem::malformed(format!(
                "guest_id must be another user id: `{GUEST}` and at least {GUEST_RANDOM_MIN} \
                 characters that nobody can guess"
            ))
        })?;
        let admitted = self.admit_write(&user, call.client).await?;
        let keys = vec![CartKey::of(&guest), CartKey::of(&user)];
        self.changed(keys, admitted, move |store| store.merge_carts(guest, user, expected)).await
    }

    async fn change_cart(
        &self,
        user: UserId,
        client: Option<IpAddr>,
        expected: Option<u64>,
        change: CartChange,
    ) -> Result<Answer, Problem> {
        let admitted = self.admit_write(&user, client).await?;
        let keys = vec![CartKey::of(&user)];
        self.changed(keys, admitted, move |store| store.change_cart(user, expected, change)).await
    }

    async fn changed<'s>(
        &'s self,
        keys: Vec<CartKey>,
        admitted: Admitted,
        change: impl FnOnce(&'s dyn Store) -> Job<'s, Result<Cart, CartRefusal>>,
    ) -> Result<Answer, Problem> {
        if let Some(switch) = self.switches.against_carts() {
            return Err(Problem::SwitchedOff(switch));
        }
        let changed = self.change_store(change).await;
        self.carts.forget(&keys);
        if changed.is_err() {
            // It may still be done, until the store has given it up; who reads meanwhile keeps the old cart.
            let carts = Arc::clone(&self.carts);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(limits::STORE_CALL_MS)).await;
                carts.forget(&keys);
            });
        }
        let mut answer = shown(&changed??);
        if let Some(standing) = &admitted.standing {
            rate::tell(answer.headers_mut(), standing, None);
        }
        Ok(answer)
    }
}

fn shown(cart: &Cart) -> Answer {
    let answer = answer::value(StatusCode::OK, &cart.to_json());
    answer::with(answer, ETAG, &format!("\"{}\"", cart.version))
}

/// The version that a write is for. `*` is any; a tag that was never a cart's matches none.
fn if_match(head: &Head) -> Result<Option<u64>, Problem> {
    const NONE: u64 = u64::MAX;
    let Some(text) = head.single(&IF_MATCH)? else { return Ok(None) };
    let text = text.trim();
    if text == "*" {
        return Ok(None);
    }
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match quoted.filter(|tag| !tag.contains('"')) {
        // Compared as it is written (RFC 9110 §8.8.3.2): "02" is no version 2.
        Some(tag) => {
            let version = tag.parse().ok().filter(|version: &u64| version.to_string() == tag);
            Ok(Some(version.unwrap_or(NONE)))
        }
        // RFC 9110 §13.1.1: a weak tag never matches here. A list names versions that were; one is.
        None if text.starts_with("W/") => Ok(Some(NONE)),
        None => Err(Problem::malformed("If-Match must be one entity tag, or *")),
    }
}
