//! Units added to an item, and taken out of it.

use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::request::Answer;
use crate::shop::{CONSOLE, SALE, Shop};

async fn restock(shop: &Shop, item: &str, body: &Value) -> Answer {
    let path = format!("/admin/v1/sales/{SALE}/items/{item}/restock");
    shop.admin("POST", &path).json(body).send().await
}

fn delta(delta: i64) -> Value {
    json!({ "delta": delta, "reason": "counted again" })
}

/// Proves that units that are added sell, and that no more are taken out than are available.
#[tokio::test]
async fn more_and_less() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    gateway.hold("ann").await;
    gateway.want("bob", CONSOLE, 1).send().await.refused(409, "sold-out");
    let shown = restock(&gateway, CONSOLE, &delta(2)).await.expect(200);
    assert_eq!(
        (&shown["items"][0]["stock"], &shown["items"][0]["available"]),
        (&json!(3), &json!(2))
    );
    gateway.hold("bob").await;
    let refused = restock(&gateway, CONSOLE, &delta(-2)).await.refused(409, "stock-taken");
    assert_eq!(refused["available"], 1);
    restock(&gateway, CONSOLE, &delta(-1)).await.expect(200);
    assert_eq!(gateway.counters().await, [2, 0, 2, 0]);
    gateway.want("eve", CONSOLE, 1).send().await.refused(409, "sold-out");
    gateway.close().await;
}

/// Proves that the audit log has a restock with its reason, and the stock before and after.
#[tokio::test]
async fn restocks_are_logged() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    restock(&gateway, CONSOLE, &delta(-3)).await.expect(200);
    let log = gateway.admin("GET", "/admin/v1/audit-log?limit=1").send().await.expect(200);
    let entry = &log["entries"][0];
    assert_eq!((&entry["action"], &entry["subject"]), (&json!("restock"), &json!(CONSOLE)));
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "stock": 5 }), &json!({ "stock": 2 }))
    );
    assert_eq!(entry["reason"], "counted again");
    gateway.close().await;
}

/// Proves that what cannot be read, or is not there, changes nothing.
#[tokio::test]
async fn restocks_that_make_no_sense() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    for body in [
        json!({ "delta": 1 }),
        json!({ "delta": 1, "reason": "" }),
        json!({ "delta": 1, "reason": "x".repeat(501) }),
        json!({ "delta": 1.5, "reason": "r" }),
        json!({ "delta": "1", "reason": "r" }),
        json!({ "delta": 1, "reason": "r", "colour": "red" }),
    ] {
        restock(&gateway, CONSOLE, &body).await.refused(400, "malformed-request");
    }
    restock(&gateway, "nothing", &delta(1)).await.refused(404, "not-found");
    for beyond in [i64::MAX, i64::MIN, 1_000_000_000] {
        restock(&gateway, CONSOLE, &delta(beyond)).await.refused(409, "stock-taken");
    }
    assert_eq!(gateway.counters().await, [5, 5, 0, 0]);
    gateway.close().await;
}

/// Proves that a restock under a key happens once, however often it is asked for, and that the key
/// is not taken for another.
#[tokio::test]
async fn restocks_happen_once() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let path = format!("/admin/v1/sales/{SALE}/items/{CONSOLE}/restock");
    let ask = |units| gateway.admin("POST", &path).json(&delta(units)).key("delivery-7");
    for _ in 0..3 {
        ask(2).send().await.expect(200);
        assert_eq!(gateway.counters().await, [7, 7, 0, 0]);
    }
    ask(3).send().await.refused(422, "idempotency-key-reused");
    let gateway = gateway.restart(async || {}).await;
    let again = gateway.admin("POST", &path).json(&delta(2)).key("delivery-7").send().await;
    again.expect(200);
    assert_eq!(gateway.counters().await, [7, 7, 0, 0], "after a restart too");
    gateway.close().await;
}

/// Proves that units come back from nowhere neither over a restart nor in the books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restocks_beside_buyers() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(50).await;
    let buyers: Vec<_> = (0..60)
        .map(|number| gateway.want(&format!("user-{number}"), CONSOLE, 1))
        .map(|call| tokio::spawn(call.send()))
        .collect();
    let mut taken_out = 0;
    for _ in 0..20 {
        let answer = restock(&gateway, CONSOLE, &delta(-1)).await;
        if answer.status == 200 {
            taken_out += 1;
        } else {
            answer.refused(409, "stock-taken");
        }
    }
    let mut sold = 0;
    for buyer in buyers {
        sold += u64::from(buyer.await.unwrap().status == 201);
    }
    assert_eq!(sold + taken_out, 50, "every unit was sold or taken out");
    let gateway = gateway.restart(async || {}).await;
    assert_eq!(gateway.counters().await, [sold, 0, sold, 0]);
    gateway.close().await;
}
