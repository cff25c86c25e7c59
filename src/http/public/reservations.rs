//! `POST /v1/sales/{sale}/reservations`, `GET` and `DELETE /v1/reservations/{id}`.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::atomic::Ordering;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, LOCATION};
use serde::Deserialize;

use super::{Call, Public};
use crate::engine::OrderedLine;
use crate::gate::{Granted, Purchase};
use crate::http::answer::{self, Answer};
use crate::http::body::{self, Object};
use crate::http::caller::parse_user;
use crate::http::key;
use crate::http::problem::Problem;
use crate::http::rate;
use crate::ledger::Durability;
use crate::limits;
use crate::orders::lines_json;
use crate::sale::{IdempotencyKey, ItemId, Refusal, Reservation, ReservationId, Status};

/// What a buyer sends. A line by itself, or a list of lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Wish<'b> {
    #[serde(borrow)]
    item_id: Option<Text<'b>>,
    quantity: Option<Quantity>,
    #[serde(borrow)]
    lines: Option<Vec<Object<WishedLine<'b>>>>,
    /// Believed in insecure mode only, as is the next.
    #[serde(borrow)]
    user_id: Option<Text<'b>>,
    #[serde(borrow)]
    idempotency_key: Option<Text<'b>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WishedLine<'b> {
    #[serde(borrow)]
    item_id: Text<'b>,
    quantity: Quantity,
}

/// Borrowed where it has no escapes. (serde would copy what an `Option<Cow>` holds.)
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

/// Any whole number: one that cannot be sold is a refusal, not a request that cannot be read.
#[derive(Clone, Copy)]
pub(super) struct Quantity(i64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl serde::de::Visitor<'_> for Whole {
            type Value = Quantity;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Quantity, E> {
                // `1.0` is whole, and so is what lies beyond 2^63, though that is never for sale. The
                // conversion saturates.
                if number.fract() == 0.0 {
                    return Ok(Quantity(number as i64));
                }
                Err(E::custom("a quantity must be a whole number"))
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

impl Quantity {
    pub(super) fn within(self, max: u32) -> Result<u32, Problem> {
        let units = u32::try_from(self.0).ok().filter(|units| (1..=max).contains(units));
        units.ok_or(Refusal::InvalidQuantity { max }.into())
    }

    /// The ledger knows the limits; what is beyond any is refused as what it is.
    fn units(self) -> Result<u32, Problem> {
        if self.0 < 1 {
            return Err(Refusal::InvalidQuantity { max: limits::QUANTITY_MAX }.into());
        }
        Ok(u32::try_from(self.0).unwrap_or(u32::MAX))
    }
}

impl Public {
    pub(super) async fn reserve(&self, sale: &str, call: Call<'_>) -> Result<Answer, Problem> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Problem::Draining);
        }
        let Call { peer, client, head, body } = call;
        let user = self.identity.of_headers(peer.ip(), head)?;
        if user.is_none() && !self.identity.reads_body() && body::waits(head) {
            // The body can change what is wrong, but not that it is refused: it is not invited.
            return Err(Problem::IdentityRequired);
        }
        let key = key::of_header(head)?;
        let body = body::read(head, body, limits::BODY_BYTES_MAX).await?;
        let wish: Wish<'_> = body::parse(&body)?;
        let (user, key) = self.identify(&wish, user, key)?;
        let purchase = Purchase { user, client, key, lines: lines(wish)? };
        let granted = match self.switches.against_reservations() {
            None => self.gate.reserve(sale, purchase).await?,
            // Whoever was granted it before, and lost the answer, is told so all the same.
            Some(switch) => {
                let before = self.gate.granted_before(sale, &purchase).await?;
                before.ok_or(Problem::SwitchedOff(switch))?
            }
        };
        Ok(self.granted(&granted))
    }

    /// The header's word counts before the body's.
    fn identify(
        &self,
        wish: &Wish<'_>,
        user: Option<crate::sale::UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<(crate::sale::UserId, Option<IdempotencyKey>), Problem> {
        if !self.identity.reads_body() {
            for (field, given) in
                [("user_id", &wish.user_id), ("idempotency_key", &wish.idempotency_key)]
            {
                if given.is_some() {
                    let detail = format!("{field} is not taken from the body here");
                    return Err(Problem::malformed(detail));
                }
            }
        }
        let user = match (user, &wish.user_id) {
            (Some(user), _) => user,
            (None, Some(text)) => parse_user("user_id", &text.0)?,
            (None, None) => return Err(Problem::IdentityRequired),
        };
        let key = match (key, &wish.idempotency_key) {
            (Some(key), _) => Some(key),
            (None, Some(text)) => Some(key::parse("idempotency_key", &text.0)?),
            (None, None) => None,
        };
        Ok((user, key))
    }

    fn granted(&self, granted: &Granted) -> Answer {
        let Granted { reservation, replayed, standing } = granted;
        // The answer to a retry is the answer that was lost, whatever has become of it since.
        let body = to_json(reservation, Status::Held, self.gate.durability());
        let answer = answer::json(StatusCode::CREATED, body);
        let location = format!("/v1/reservations/{}", reservation.id);
        let mut answer = answer::with(answer, LOCATION, &location);
        if *replayed {
            answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(standing) = standing {
            rate::tell(answer.headers_mut(), standing, None);
        }
        answer
    }

    pub(super) async fn show_reservation(
        &self,
        id: &str,
        call: Call<'_>,
    ) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let id = ReservationId::parse(id).ok_or(Problem::NotFound)?;
        let asker = user.clone();
        let read = async {
            let reservation = self.gate.find(asker, id).await?;
            Ok(self.shown(&reservation).into())
        };
        self.read(user, call.head, || self.gate.is_refusing(id), read).await
    }

    pub(super) async fn cancel(&self, id: &str, call: Call<'_>) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let id = ReservationId::parse(id).ok_or(Problem::NotFound)?;
        if let Some(switch) = self.switches.against_changes() {
            return Err(Problem::SwitchedOff(switch));
        }
        let cancelled = self.gate.cancel(user.clone(), id).await;
        // Cancelled or not, or perhaps: what was read before does not say.
        self.kept.forget(user, call.head);
        Ok(answer::json(StatusCode::OK, self.shown(&cancelled?)))
    }

    fn shown(&self, reservation: &Reservation) -> String {
        to_json(reservation, reservation.status, self.gate.durability())
    }
}

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(in crate::http) fn lines(wish: Wish<'_>) -> Result<Box<[OrderedLine]>, Problem> {
    let wished = match (wish.item_id, wish.quantity, wish.lines) {
        (Some(item_id), Some(quantity), None) => vec![Object(WishedLine { item_id, quantity })],
        (None, None, Some(lines)) => lines,
        (None, Some(_), None) => return Err(Problem::malformed("missing field `item_id`")),
        (Some(_), None, None) => return Err(Problem::malformed("missing field `quantity`")),
        (None, None, None) => {
            return Err(Problem::malformed("missing field `item_id`, or `lines`"));
        }
        (_, _, Some(_)) => {
            return Err(Problem::malformed("give `item_id` and `quantity`, or `lines`, not both"));
        }
    };
    if wished.is_empty() || wished.len() > limits::LINES_PER_RESERVATION_MAX {
        let most = limits::LINES_PER_RESERVATION_MAX;
        return Err(Problem::malformed(format!("`lines` holds 1 to {most} lines")));
    }
    let mut lines: Vec<OrderedLine> = Vec::with_capacity(wished.len());
    for Object(WishedLine { item_id, quantity }) in wished {
        let item = ItemId::parse(&item_id.0)
            .map_err(|invalid| Problem::malformed(format!("item_id {invalid}")))?;
        if lines.iter().any(|line| line.item == item) {
            return Err(Problem::malformed(format!("item {item} stands in two lines")));
        }
        lines.push(OrderedLine { item, quantity: quantity.units()? });
    }
    Ok(lines.into_boxed_slice())
}

/// A reservation as every answer shows it. Ids and currencies need no escapes, so this is written out
/// rather than built up: it is the answer to every winner.
pub fn to_json(reservation: &Reservation, status: Status, durability: Durability) -> String {
    let Reservation { id, sale, currency, held_at, expires_at, .. } = reservation;
    let status = status.as_str();
    let total = reservation.total();
    let durability = durability.as_str();
    let lines = lines_json(&reservation.lines, currency);
    let mut json = String::with_capacity(384);
    // Writing to a string does not fail.
    let _ = write!(
        json,
        r#"{{"reservation_id":"{id}","sale_id":"{sale}","status":"{status}","lines":{lines},"total":{total},"currency":"{currency}","held_at":"{held_at}","expires_at":"{expires_at}","durability":"{durability}"}}"#
    );
    json
}
