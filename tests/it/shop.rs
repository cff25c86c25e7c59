//! A gateway as its buyers and its operator see it: two addresses and a token.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::patience::eventually;
use crate::request::{Answer, Call};

/// The sale of tests that need one only.
pub const SALE: &str = "bf";
/// Its items; most tests need the first only.
pub const CONSOLE: &str = "console";
pub const GAME: &str = "game";

/// Where to ask, and with which right.
#[derive(Clone, Debug)]
pub struct Shop {
    pub public: SocketAddr,
    pub ops: SocketAddr,
    pub token: String,
}

/// A sale's file: items with their stock, a hold of ten minutes, no limits.
pub fn sale(id: &str, items: &[(&str, u64)]) -> Value {
    let items: Vec<Value> = items.iter().map(|(id, stock)| item(id, *stock)).collect();
    json!({ "id": id, "title": "Black Friday", "hold_seconds": 600, "items": items })
}

fn item(id: &str, stock: u64) -> Value {
    json!({ "id": id, "title": id, "price": 1_999, "currency": "EUR", "stock": stock })
}

impl Shop {
    /// A request to the public listener.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.public, method, path)
    }

    /// A request to the ops listener, without the token.
    pub fn stranger(&self, method: &str, path: &str) -> Call {
        Call::new(self.ops, method, path)
    }

    /// A request to the ops listener.
    pub fn admin(&self, method: &str, path: &str) -> Call {
        self.stranger(method, path).header("authorization", &format!("Bearer {}", self.token))
    }

    /// Creates a sale and opens it.
    pub async fn sell(&self, sale: &Value) {
        self.admin("POST", "/admin/v1/sales").json(sale).send().await.expect(201);
        self.step(sale["id"].as_str().unwrap(), "open").await.expect(200);
    }

    /// Sells so many units of [`CONSOLE`] in [`SALE`].
    pub async fn sell_consoles(&self, stock: u64) {
        self.sell(&sale(SALE, &[(CONSOLE, stock)])).await;
    }

    /// Waits until [`SALE`] is open here: it may have been opened through another gateway.
    pub async fn sells(&self) {
        eventually("the gateway sells it", async || {
            let answer = self.call("GET", &format!("/v1/sales/{SALE}")).send().await;
            (answer.status == 200 && answer.json()["state"] == "open").then_some(())
        })
        .await;
    }

    /// `open`, `pause`, `resume` or `close`.
    pub async fn step(&self, sale: &str, step: &str) -> Answer {
        self.admin("POST", &format!("/admin/v1/sales/{sale}/{step}")).send().await
    }

    /// What a series of the metrics stands at; 0 where it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let scrape = self.stranger("GET", "/metrics").send().await;
        let text = String::from_utf8_lossy(&scrape.body).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// A request for units of an item of [`SALE`].
    pub fn want(&self, user: &str, item: &str, quantity: i64) -> Call {
        let body = json!({ "item_id": item, "quantity": quantity });
        self.reserve(user, &body)
    }

    /// A request for a reservation in [`SALE`].
    pub fn reserve(&self, user: &str, body: &Value) -> Call {
        self.call("POST", &format!("/v1/sales/{SALE}/reservations")).user(user).json(body)
    }

    /// A reservation of one console, which has to be granted: its id.
    pub async fn hold(&self, user: &str) -> String {
        let granted = self.want(user, CONSOLE, 1).send().await.expect(201);
        granted["reservation_id"].as_str().unwrap().to_owned()
    }

    /// The same where units are about to come back: refusals are sold-out, and then it is granted.
    pub async fn hold_in_time(&self, user: &str) -> Value {
        eventually("the unit sells again", async || {
            let answer = self.want(user, CONSOLE, 1).send().await;
            if answer.status == 201 {
                return Some(answer.json());
            }
            answer.refused(409, "sold-out");
            None
        })
        .await
    }

    pub async fn look(&self, user: &str, reservation: &str) -> Answer {
        self.call("GET", &format!("/v1/reservations/{reservation}")).user(user).send().await
    }

    pub async fn cancel(&self, user: &str, reservation: &str) -> Answer {
        self.call("DELETE", &format!("/v1/reservations/{reservation}")).user(user).send().await
    }

    pub async fn pay(&self, reservation: &str, reference: &str) -> Answer {
        let path = format!("/admin/v1/reservations/{reservation}/confirm");
        self.admin("POST", &path).json(&json!({ "payment_ref": reference })).send().await
    }

    /// A sale as its operator sees it.
    pub async fn sale(&self, sale: &str) -> Value {
        self.admin("GET", &format!("/admin/v1/sales/{sale}")).send().await.expect(200)
    }

    /// Counters of the first item of [`SALE`]: stock, available, held, confirmed.
    pub async fn counters(&self) -> [u64; 4] {
        let item = self.sale(SALE).await["items"][0].clone();
        ["stock", "available", "held", "confirmed"].map(|name| item[name].as_u64().unwrap())
    }

    /// A sale's state, in the operator's words.
    pub async fn state(&self, sale: &str) -> String {
        self.sale(sale).await["state"].as_str().unwrap().to_owned()
    }

    /// An order once it is in the books.
    pub async fn order(&self, user: &str, id: &str) -> Value {
        let path = format!("/v1/orders/{id}");
        eventually("the order is in the books", async || {
            let answer = self.call("GET", &path).user(user).send().await;
            (answer.status == 200).then(|| answer.json())
        })
        .await
    }

    /// An order once it has this status.
    pub async fn order_becomes(&self, user: &str, id: &str, status: &str) -> Value {
        eventually(&format!("the order is {status}"), async || {
            Some(self.order(user, id).await).filter(|order| order["status"] == status)
        })
        .await
    }

    pub async fn cart(&self, user: &str) -> Value {
        self.call("GET", "/v1/cart").user(user).send().await.expect(200)
    }

    /// The server's clock, in milliseconds since the epoch.
    pub async fn now_ms(&self) -> u64 {
        let time = self.call("GET", "/v1/time").send().await.expect(200);
        time["unix_ms"].as_u64().unwrap()
    }

    /// Waits until nothing is left between ledger and books.
    pub async fn settled(&self) {
        eventually("the outbox is empty", async || {
            let ready = self.stranger("GET", "/readyz?verbose").send().await;
            (ready.json()["outbox_length"] == 0).then_some(())
        })
        .await;
    }
}
