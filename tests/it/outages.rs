//! A ledger or store that does not answer: what is told is true, and nobody waits for long.
//!
//! The test takes SQLite's write lock of a file, so that its owner has to wait like for a disk that
//! hangs.

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;

use crate::binary::{Serving, audit};
use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, SALE};

/// Holds up whoever writes to a file, until it is dropped.
pub struct Lock(Connection);

impl Lock {
    pub fn take(dir: &Path, file: &str) -> Self {
        let connection = Connection::open(dir.join(file)).unwrap();
        connection.busy_timeout(crate::patience::PATIENCE).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// Proves that a buyer whose request the ledger does not decide in time is told so, and that the
/// same key finds what became of it.
#[tokio::test]
async fn an_unknown_outcome_can_be_asked_for() {
    let gateway = TestGateway::start_with(|settings| settings.ledger.lanes = 1).await;
    gateway.sell_consoles(9).await;
    gateway.settled().await;
    let lock = Lock::take(gateway.dir(), "ledger-0.db");
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    let unknown = call.clone().send().await;
    unknown.refused(503, "outcome-unknown");
    assert!(unknown.retry_after().is_some_and(|seconds| seconds > 0), "{unknown}");
    gateway.call("GET", "/v1/sales").send().await.expect(200);
    gateway.call("GET", "/v1/orders").user("ann").send().await.expect(200);
    drop(lock);
    let known = call.send().await;
    known.expect(201);
    assert!(known.replayed(), "the first request took the unit: {known}");
    assert_eq!(gateway.counters().await, [9, 8, 1, 0]);
    gateway.close().await;
}

/// Proves that a gateway whose journal fails for good tells nobody a yes, ends with 1, and that the
/// next one starts from what is durable.
#[tokio::test]
async fn a_journal_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Serving::start_with(dir.path(), &["--set", "ledger.lanes=1"]).await;
    gateway.sell_consoles(9).await;
    let told = gateway.hold("ann").await;
    gateway.settled().await;
    let lock = Lock::take(dir.path(), "ledger-0.db");
    let unknown = gateway.want("bob", CONSOLE, 1).key("k").send().await;
    unknown.refused(503, "outcome-unknown");
    assert_eq!(gateway.wait().code(), Some(1), "{}", gateway.log().text());
    gateway.log().wait_for("the journal failed; stopping to recover");
    drop(lock);
    let gateway = Serving::start_with(dir.path(), &["--set", "ledger.lanes=1"]).await;
    gateway.look("ann", &told).await.expect(200);
    gateway.want("bob", CONSOLE, 1).key("k").send().await.expect(201);
    assert_eq!(gateway.counters().await, [9, 7, 2, 0]);
    gateway.stop();
    audit(dir.path());
}

/// Proves that selling does not wait for the books: what they cannot take now they take later, and
/// a cart's write that was given up while it waited is told as unknown, and not done later.
#[tokio::test]
async fn books_that_hang() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    gateway.settled().await;
    let lock = Lock::take(gateway.dir(), "store.db");
    let ids = [gateway.hold("ann").await, gateway.hold("ann").await];
    gateway.pay(&ids[0], "p").await.expect(200);
    gateway.cancel("ann", &ids[1]).await.expect(200);
    assert_eq!(gateway.counters().await, [9, 8, 0, 1]);
    let orders = gateway.call("GET", "/v1/orders").user("ann").send().await.expect(200);
    assert_eq!(orders["orders"], json!([]), "the books are behind");
    assert_eq!(gateway.sale(SALE).await["outbox_length"], 4);
    let path = format!("/v1/cart/items/{CONSOLE}");
    let put = |user| gateway.call("PUT", &path).user(user).json(&json!({ "quantity": 2 }));
    // The thread that writes hangs in the events or in bob's change; carol's is behind either.
    put("bob").send().await.refused(503, "outcome-unknown");
    put("carol").send().await.refused(503, "outcome-unknown");
    drop(lock);
    gateway.order_becomes("ann", &ids[0], "paid").await;
    gateway.order_becomes("ann", &ids[1], "cancelled").await;
    assert_eq!(gateway.cart("carol").await["lines"], json!([]), "given up before it was begun");
    assert_eq!(put("carol").send().await.expect(200)["lines"][0]["quantity"], 2);
    gateway.close().await;
}
