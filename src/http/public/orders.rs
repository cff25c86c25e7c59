//! `GET /v1/orders`, `GET /v1/orders/{id}`: a user's orders, from the books.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Call, Public};
use crate::gate::Denied;
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::limits;
use crate::orders::{Order, OrderMark};
use crate::sale::ReservationId;

impl Public {
    /// Newest first, in pages: `?limit=` and `?after=`, which is the last page's `next`.
    pub(super) async fn list_orders(&self, call: Call) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let most = limits::ORDERS_PAGE_MAX;
        let limit = call.head.number("limit", most, 1..=most)?;
        let after = match call.head.query("after") {
            None => None,
            Some(token) => Some(OrderMark::parse(token).ok_or_else(|| {
                Problem::malformed("after must be the `next` of the page before")
            })?),
        };
        let orders =
            self.ask_store(self.store.orders(user, after, limit), Denied::Overloaded).await?;
        let last = orders.last().filter(|_| orders.len() == limit);
        let mark = |order: &Order| OrderMark { created_at: order.created_at, id: order.id };
        let next = last.map(|order| mark(order).to_token());
        let orders: Vec<Value> = orders.iter().map(Order::to_json).collect();
        Ok(answer::value(StatusCode::OK, &json!({ "orders": orders, "next": next })))
    }

    pub(super) async fn show_order(&self, id: &str, call: Call) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let id = ReservationId::parse(id).ok_or(Problem::NotFound)?;
        let order = self.ask_store(self.store.order(user, id), Denied::Overloaded).await?;
        let order = order.ok_or(Problem::NotFound)?;
        Ok(answer::value(StatusCode::OK, &order.to_json()))
    }
}
