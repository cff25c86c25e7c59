//! `GET /v1/orders`, `GET /v1/orders/{id}`: a user's orders, from the books.

use serde_json::{Value, json};

use super::{Call, Public};
use crate::http::answer::Answer;
use crate::http::problem::Problem;
use crate::limits;
use crate::orders::{Order, OrderMark};
use crate::sale::ReservationId;

impl Public {
    /// Newest first, in pages: `?limit=` and `?after=`, which is the last page's `next`.
    pub(super) async fn list_orders(&self, call: Call<'_>) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let most = limits::ORDERS_PAGE_MAX;
        let limit = call.head.number("limit", most, 1..=most)?;
        let after = match call.head.query("after") {
            None => None,
            Some(token) => Some(OrderMark::parse(token).ok_or_else(|| {
                Problem::malformed("after must be the `next` of the page before")
            })?),
        };
        let asker = user.clone();
        let read = async {
            let orders = self.read_store(|store| store.orders(asker, after, limit)).await?;
            let last = orders.last().filter(|_| orders.len() == limit);
            let mark = |order: &Order| OrderMark { created_at: order.created_at, id: order.id };
            let next = last.map(|order| mark(order).to_token());
            let orders: Vec<Value> = orders.iter().map(Order::to_json).collect();
            Ok(json!({ "orders": orders, "next": next }).to_string().into())
        };
        self.read(user, call.head, || self.store_guard.is_refusing(), read).await
    }

    pub(super) async fn show_order(&self, id: &str, call: Call<'_>) -> Result<Answer, Problem> {
        let user = self.reader(&call)?;
        let id = ReservationId::parse(id).ok_or(Problem::NotFound)?;
        let asker = user.clone();
        let read = async {
            let order = self.read_store(|store| store.order(asker, id)).await?;
            Ok(order.ok_or(Problem::NotFound)?.to_json().to_string().into())
        };
        self.read(user, call.head, || self.store_guard.is_refusing(), read).await
    }
}
