//! A toy shop that keeps the contract, or breaks it where it is told to.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How the shop misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// Not at all.
    None,
    /// Every seventh answer is lost after the work was done; every fifth request is turned away.
    Flaky,
    /// A repeated request makes another reservation.
    ForgetsKeys,
    /// A replay has another body.
    ChangesReplays,
    /// Everybody sees everybody's reservations.
    ShowsStrangers,
    /// The first fifty requests find a sale that is paused.
    PausedAtFirst,
    /// Cuts all connections, and everything after, at the hundredth request.
    DiesAtHundred,
}

pub struct Books {
    quirk: Quirk,
    stock: HashMap<String, i64>,
    available: HashMap<String, i64>,
    keys: HashMap<(String, String), String>,
    held: HashMap<String, Held>,
    refunds: BTreeSet<(String, String)>,
    requests: u64,
}

struct Held {
    user: String,
    lines: Value,
    status: &'static str,
    payment: Option<String>,
    body: String,
}

pub struct Shop {
    pub addr: SocketAddr,
    pub books: Arc<Mutex<Books>>,
    task: tokio::task::JoinHandle<()>,
}

impl Shop {
    pub async fn open(stock: &[(&str, i64)], quirk: Quirk) -> Self {
        let stock: HashMap<_, _> = stock.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect();
        let books = Books {
            quirk,
            available: stock.clone(),
            stock,
            keys: HashMap::new(),
            held: HashMap::new(),
            refunds: BTreeSet::new(),
            requests: 0,
        };
        Self::start(([127, 0, 0, 1], 0).into(), Arc::new(Mutex::new(books))).await
    }

    /// Opens again at the same place with the same books, and behaves from now on.
    pub async fn reopen(self) -> Self {
        self.task.abort();
        drop(self.task.await);
        self.books.lock().unwrap().quirk = Quirk::None;
        Self::start(self.addr, self.books).await
    }

    async fn start(addr: SocketAddr, books: Arc<Mutex<Books>>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = books.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let books = shared.clone();
                let service = service_fn(move |request| serve(books.clone(), request));
                connections.spawn(async move {
                    let io = TokioIo::new(stream);
                    drop(http1::Builder::new().serve_connection(io, service).await);
                });
            }
        });
        Self { addr, books, task }
    }

    /// Writes the books into a store of the product's schema.
    pub fn write_store(&self, data_dir: &Path) {
        const SCHEMA: &str = include_str!("../../../../src/store/sqlite/migrations/V1__books.sql");
        let books = self.books.lock().unwrap();
        let db = rusqlite::Connection::open(data_dir.join("store.db")).unwrap();
        db.execute_batch("BEGIN").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db.execute("INSERT INTO sales VALUES ('flash', 't', '{\"per_user_limit\":2}', 1)", [])
            .unwrap();
        for (id, stock) in &books.stock {
            let taken = stock - books.available[id];
            let sql = "INSERT INTO items VALUES ('flash', ?1, 't', 5, 'EUR', ?2, ?3)";
            db.execute(sql, rusqlite::params![id, stock, taken]).unwrap();
        }
        for (id, held) in &books.held {
            let total: Value = serde_json::from_str::<Value>(&held.body).unwrap()["total"].clone();
            db.execute(
                "INSERT INTO orders
                 VALUES (?1, ?2, 'flash', ?3, ?7, ?4, ?5, 'EUR', 0, 4102444800000, 1, ?6)",
                rusqlite::params![
                    held.user,
                    id,
                    held.status,
                    held.lines.to_string(),
                    total.as_i64(),
                    held.payment,
                    if held.status == "pending_payment" { 1 } else { 2 }
                ],
            )
            .unwrap();
            if held.status != "cancelled" {
                for line in held.lines.as_array().unwrap() {
                    db.execute(
                        "INSERT INTO cart_lines VALUES (?1, ?2, ?3, ?4)",
                        rusqlite::params![
                            held.user,
                            line["item_id"].as_str(),
                            id,
                            line["quantity"].as_i64()
                        ],
                    )
                    .unwrap();
                }
            }
        }
        for (id, payment) in &books.refunds {
            let held = &books.held[id];
            let total: Value = serde_json::from_str::<Value>(&held.body).unwrap()["total"].clone();
            db.execute(
                "INSERT INTO refunds_needed VALUES (?1, ?2, 'flash', ?3, ?4, 'EUR', 1)",
                rusqlite::params![id, payment, held.user, total.as_i64()],
            )
            .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
}

/// Status, body, and whether it is a replay.
type Said = (u16, String, bool);

fn no(status: u16, code: &str) -> Said {
    (status, json!({ "code": code }).to_string(), false)
}

async fn serve(
    books: Arc<Mutex<Books>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let header =
        |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let user = header("x-user-id").or(body["user_id"].as_str().map(str::to_owned));
    let key = header("idempotency-key").or(body["idempotency_key"].as_str().map(str::to_owned));
    let (user, key) = (user.unwrap_or_default(), key.unwrap_or_default());
    let lost = || Err(std::io::Error::other("lost"));
    let mut books = books.lock().unwrap();
    books.requests += 1;
    let number = books.requests;
    let path: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
    let (flaky, dies) = (books.quirk == Quirk::Flaky, books.quirk == Quirk::DiesAtHundred);
    let said = match (&head.method, &path[..]) {
        _ if flaky && number.is_multiple_of(5) => no(503, "overloaded"),
        _ if books.quirk == Quirk::PausedAtFirst && number <= 50 => no(409, "sale-paused"),
        _ if dies && number > 110 => return lost(),
        (&Method::POST, ["v1", "sales", "flash", "reservations"]) => {
            books.reserve(user, key, &body)
        }
        (&Method::GET, ["v1", "sales", "flash"]) => books.sale(),
        (&Method::GET, ["v1", "reservations", id]) => books.look(&user, id),
        (&Method::DELETE, ["v1", "reservations", id]) => books.cancel(&user, id),
        (&Method::GET, ["admin", "v1", "sales", "flash"]) => books.counters(),
        (&Method::POST, ["admin", "v1", "reservations", id, "confirm"]) => {
            books.confirm(id, body["payment_ref"].as_str().unwrap())
        }
        _ => no(404, "not-found"),
    };
    if flaky && number.is_multiple_of(7) || dies && number >= 100 {
        return lost();
    }
    let (status, body, replayed) = said;
    let mut response = Response::builder().status(status);
    if status == 201 {
        let granted: Value = serde_json::from_str(&body).unwrap();
        let id = granted["reservation_id"].as_str().unwrap();
        response = response.header("location", format!("/v1/reservations/{id}"));
    }
    if replayed {
        response = response.header("idempotent-replayed", "true");
    }
    Ok(response.body(Full::new(body.into())).unwrap())
}

impl Books {
    fn reserve(&mut self, user: String, key: String, body: &Value) -> Said {
        let single = json!([{ "item_id": body["item_id"], "quantity": body["quantity"] }]);
        let lines = body.get("lines").cloned().unwrap_or(single);
        let (user_key, forgets) = ((user.clone(), key), self.quirk == Quirk::ForgetsKeys);
        if let Some(id) = self.keys.get(&user_key).filter(|_| !forgets) {
            let held = &self.held[id];
            if priced(&lines) != held.lines {
                return no(422, "idempotency-key-reused");
            }
            let extra = if self.quirk == Quirk::ChangesReplays { " " } else { "" };
            return (201, format!("{}{extra}", held.body), true);
        }
        let wanted: Vec<(String, i64)> = lines
            .as_array()
            .unwrap()
            .iter()
            .map(|l| (l["item_id"].as_str().unwrap().to_owned(), l["quantity"].as_i64().unwrap()))
            .collect();
        if wanted.iter().any(|(item, quantity)| self.available[item] < *quantity) {
            return no(409, "sold-out");
        }
        for (item, quantity) in &wanted {
            *self.available.get_mut(item).unwrap() -= quantity;
        }
        let id = format!("r{}", self.held.len());
        let lines = priced(&lines);
        let total: i64 = wanted.iter().map(|(_, quantity)| 5 * quantity).sum();
        let body = json!({
            "reservation_id": id, "sale_id": "flash", "status": "held", "lines": lines,
            "total": total, "currency": "EUR", "held_at": "1970-01-01T00:00:00.000Z",
            "expires_at": "2100-01-01T00:00:00.000Z", "durability": "memory",
        })
        .to_string();
        let status = "pending_payment";
        self.held
            .insert(id.clone(), Held { user, lines, status, payment: None, body: body.clone() });
        self.keys.insert(user_key, id);
        (201, body, false)
    }

    fn look(&self, user: &str, id: &str) -> Said {
        match self.held.get(id) {
            Some(held) if held.user == user || self.quirk == Quirk::ShowsStrangers => {
                (200, held.body.clone(), false)
            }
            _ => no(404, "not-found"),
        }
    }

    fn cancel(&mut self, user: &str, id: &str) -> Said {
        let Some(held) = self.held.get_mut(id).filter(|held| held.user == user) else {
            return no(404, "not-found");
        };
        match held.status {
            "paid" => return no(409, "reservation-confirmed"),
            "cancelled" => return (200, "{}".into(), false),
            _ => held.status = "cancelled",
        }
        for line in held.lines.as_array().unwrap() {
            let available = self.available.get_mut(line["item_id"].as_str().unwrap()).unwrap();
            *available += line["quantity"].as_i64().unwrap();
        }
        (200, "{}".into(), false)
    }

    fn confirm(&mut self, id: &str, payment: &str) -> Said {
        let held = self.held.get_mut(id).unwrap();
        match (held.status, &held.payment) {
            ("cancelled", _) => {
                self.refunds.insert((id.to_owned(), payment.to_owned()));
                no(409, "reservation-cancelled")
            }
            ("paid", Some(paid)) if paid != payment => {
                self.refunds.insert((id.to_owned(), payment.to_owned()));
                no(409, "reservation-confirmed")
            }
            _ => {
                (held.status, held.payment) = ("paid", Some(payment.to_owned()));
                (200, "{}".into(), false)
            }
        }
    }

    fn sale(&self) -> Said {
        let availability = |n: &i64| if *n > 0 { "available" } else { "held" };
        let items: Vec<Value> = self
            .available
            .iter()
            .map(|(id, n)| json!({ "id": id, "availability": availability(n) }))
            .collect();
        (200, json!({ "id": "flash", "items": items }).to_string(), false)
    }

    fn counters(&self) -> Said {
        let units = |id: &str, status: &str| -> i64 {
            let held = self.held.values().filter(|held| held.status == status);
            let lines = held.flat_map(|held| held.lines.as_array().unwrap());
            let lines = lines.filter(|line| line["item_id"] == id);
            lines.map(|line| line["quantity"].as_i64().unwrap()).sum()
        };
        let items: Vec<Value> = self
            .stock
            .iter()
            .map(|(id, stock)| {
                json!({
                    "id": id, "stock": stock, "available": self.available[id],
                    "held": units(id, "pending_payment"), "confirmed": units(id, "paid"),
                    "cancelled_total": units(id, "cancelled"), "expired_total": 0,
                })
            })
            .collect();
        (200, json!({ "id": "flash", "items": items, "outbox_length": 0 }).to_string(), false)
    }
}

fn priced(lines: &Value) -> Value {
    let lines = lines.as_array().unwrap().iter();
    lines
        .map(|line| {
            json!({ "item_id": line["item_id"], "quantity": line["quantity"], "unit_price": 5,
                "currency": "EUR" })
        })
        .collect()
}

impl Books {
    pub fn count(&self, status: &str) -> usize {
        self.held.values().filter(|held| held.status == status).count()
    }
}
