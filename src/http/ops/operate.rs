//! Sales, stock, payments and refunds.

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::LOCATION;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Ops;
use crate::gate::Denied;
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::key;
use crate::http::problem::Problem;
use crate::http::public::reservation_json;
use crate::http::request::Head;
use crate::identity::admins::Admin;
use crate::limits;
use crate::sale::{
    Counters, ItemId, Move, PaymentRef, Refusal, Reservation, ReservationId, SaleDefinition,
    SaleId, SaleReport, SaleState,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restock {
    delta: i64,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    payment_ref: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancellation {
    #[serde(default = "yes")]
    restock: bool,
}

fn yes() -> bool {
    true
}

impl Ops {
    pub(super) async fn create_sale(
        &self,
        head: &Head,
        body: &mut Incoming,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let body = body::read(head, body, limits::OPS_BODY_BYTES_MAX).await?;
        let value: Value = body::parse(&body)?;
        let definition = SaleDefinition::from_json(&value).map_err(Problem::InvalidSale)?;
        let (report, created) = self.gate.create_sale(definition, admin.name.clone()).await?;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let location = format!("/admin/v1/sales/{}", report.definition.id);
        Ok(answer::with(answer::value(status, &self.show(&report)), LOCATION, &location))
    }

    pub(super) async fn list_sales(&self) -> Result<Answer, Problem> {
        let mut sales = Vec::new();
        for sale in self.gate.catalog().sales().keys() {
            sales.push(self.show(&self.gate.inspect(sale.clone()).await?));
        }
        Ok(answer::value(StatusCode::OK, &json!({ "sales": sales })))
    }

    pub(super) async fn show_sale(&self, sale: &str) -> Result<Answer, Problem> {
        let report = self.gate.inspect(known(sale)?).await?;
        Ok(answer::value(StatusCode::OK, &self.show(&report)))
    }

    pub(super) async fn move_sale(
        &self,
        sale: &str,
        step: &str,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let steps = [Move::Open, Move::Pause, Move::Resume, Move::Close];
        let step = steps.into_iter().find(|known| known.as_str() == step);
        let step = step.ok_or(Problem::NotFound)?;
        let report = self.gate.move_sale(known(sale)?, step, admin.name.clone()).await?;
        Ok(answer::value(StatusCode::OK, &self.show(&report)))
    }

    /// Moves orders of a sale that is over out of the writer's way, some at a time.
    pub(super) async fn archive_sale(&self, sale: &str, admin: &Admin) -> Result<Answer, Problem> {
        let sale = known(sale)?;
        let report = self.gate.inspect(sale.clone()).await?;
        if report.window.state(self.gate.now()) != SaleState::Closed {
            return Err(Problem::SaleNotOver);
        }
        let most = limits::ARCHIVE_AT_ONCE;
        let moved =
            self.ask_store(self.store.archive_orders(sale, most, admin.name.clone())).await?;
        let body = json!({ "archived": moved, "more": moved == most as u64 });
        Ok(answer::value(StatusCode::OK, &body))
    }

    pub(super) async fn restock(
        &self,
        (sale, item): (&str, &str),
        head: &Head,
        body: &mut Incoming,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let body = body::read(head, body, limits::BODY_BYTES_MAX).await?;
        let Restock { delta, reason } = body::parse(&body)?;
        let item = ItemId::parse(item).map_err(|_| Problem::NotFound)?;
        // Without a key every request is a change of its own.
        let key = match key::of_header(head)? {
            Some(key) => key,
            None => key::fresh()?,
        };
        if reason.is_empty() || reason.len() > limits::REASON_BYTES_MAX {
            let most = limits::REASON_BYTES_MAX;
            return Err(Problem::malformed(format!("reason must be 1 to {most} bytes long")));
        }
        let reason = reason.into_boxed_str();
        let restocked =
            self.gate.restock(known(sale)?, item, delta, key, reason, admin.name.clone());
        let report = restocked.await.map_err(|denied| {
            // The item stands in the path here: what is not there was not found.
            let unknown = matches!(denied, Denied::Refused(Refusal::UnknownItem(_)));
            if unknown { Problem::NotFound } else { denied.into() }
        })?;
        Ok(answer::value(StatusCode::OK, &self.show(&report)))
    }

    pub(super) async fn confirm(
        &self,
        id: &str,
        head: &Head,
        body: &mut Incoming,
    ) -> Result<Answer, Problem> {
        let body = body::read(head, body, limits::BODY_BYTES_MAX).await?;
        let Payment { payment_ref } = body::parse(&body)?;
        let payment = PaymentRef::parse(&payment_ref)
            .map_err(|invalid| Problem::malformed(format!("payment_ref {invalid}")))?;
        let id = ReservationId::parse(id).ok_or(Problem::NotFound)?;
        let (reservation, rebooked) = self.gate.confirm(id, payment).await?;
        Ok(self.settled(&reservation, json!({ "rebooked": rebooked })))
    }

    pub(super) async fn cancel(
        &self,
        id: &str,
        head: &Head,
        body: &mut Incoming,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let body = body::read(head, body, limits::BODY_BYTES_MAX).await?;
        let restock =
            if body.is_empty() { true } else { body::parse::<Cancellation>(&body)?.restock };
        let id = ReservationId::parse(id).ok_or(Problem::NotFound)?;
        let reservation = self.gate.cancel_for_operator(id, admin.name.clone(), restock).await?;
        Ok(self.settled(&reservation, json!({})))
    }

    /// A reservation as buyers see it, and what operators see beside it.
    fn settled(&self, reservation: &Reservation, more: Value) -> Answer {
        let shown = reservation_json(reservation, reservation.status, self.gate.durability());
        let mut body: Value = serde_json::from_str(&shown).unwrap_or(Value::Null);
        body["user_id"] = json!(reservation.user.as_str());
        body["payment_ref"] = json!(reservation.payment.as_ref().map(PaymentRef::as_str));
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        answer::value(StatusCode::OK, &body)
    }

    /// Newest first, in pages: `?limit=` and `?skip=`.
    pub(super) async fn audit_log(&self, head: &Head) -> Result<Answer, Problem> {
        let most = limits::AUDIT_LOG_PAGE_MAX;
        let limit = head.number("limit", most, 1..=most)?;
        let skip = head.number("skip", 0, 0..=usize::MAX >> 1)?;
        let entries = self.ask_store(self.store.audit_log(skip, limit)).await?;
        let next = (entries.len() == limit).then_some(skip.saturating_add(limit));
        Ok(answer::value(StatusCode::OK, &json!({ "entries": entries, "next_skip": next })))
    }

    fn show(&self, report: &SaleReport) -> Value {
        let SaleReport { definition, window, created_at, items } = report;
        let lane = self.gate.lane_of_sale(&definition.id);
        let now = self.gate.now();
        let mut shown = definition.to_json();
        shown["state"] = json!(window.state(now).as_str());
        shown["opens_at"] = json!(window.opens_at.map(|at| at.to_string()));
        shown["closes_at"] = json!(window.closes_at.map(|at| at.to_string()));
        shown["created_at"] = json!(created_at.to_string());
        shown["lane"] = json!(lane.lane);
        shown["outbox_length"] = json!(lane.undigested);
        shown["writer_lag_seconds"] = json!(lane.lag.as_secs_f64());
        if let Some(shown) = shown["items"].as_array_mut() {
            for (shown, item) in shown.iter_mut().zip(items) {
                let Counters { stock, available, held, confirmed, cancelled_total, expired_total } =
                    item.counters;
                let counters = json!({
                    "stock": stock, "available": available, "held": held, "confirmed": confirmed,
                    "cancelled_total": cancelled_total, "expired_total": expired_total,
                });
                if let (Some(shown), Value::Object(counters)) = (shown.as_object_mut(), counters) {
                    shown.extend(counters);
                }
            }
        }
        shown
    }
}

/// A name that is not well formed names nothing.
fn known(sale: &str) -> Result<SaleId, Problem> {
    SaleId::parse(sale).map_err(|_| Problem::NotFound)
}
