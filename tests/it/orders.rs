//! Orders: what reservations become in the books.

use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, GAME, SALE, Shop, sale};

/// Proves that an order says what the 201 said, to the millisecond.
#[tokio::test]
async fn an_order_is_its_reservation() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 9), (GAME, 9)])).await;
    let lines = json!({ "lines": [
        { "item_id": GAME, "quantity": 2 }, { "item_id": CONSOLE, "quantity": 1 },
    ] });
    let granted = gateway.reserve("ann", &lines).send().await.expect(201);
    let id = granted["reservation_id"].as_str().unwrap();
    let order = gateway.order("ann", id).await;
    let expected = json!({
        "id": id,
        "sale_id": SALE,
        "status": "pending_payment",
        "lines": granted["lines"],
        "total": 3 * 1_999,
        "currency": "EUR",
        "created_at": granted["held_at"],
        "expires_at": granted["expires_at"],
        "updated_at": granted["held_at"],
        "payment_ref": null,
    });
    assert_eq!(order, expected);
    gateway.close().await;
}

/// Proves that an order follows its reservation, and keeps the time at which it was made.
#[tokio::test]
async fn orders_follow() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    for (user, status) in [("ann", "cancelled"), ("bob", "paid")] {
        let id = gateway.hold(user).await;
        let before = gateway.order(user, &id).await;
        match status {
            "cancelled" => drop(gateway.cancel(user, &id).await.expect(200)),
            _ => drop(gateway.pay(&id, "p-1").await.expect(200)),
        }
        let after = gateway.order_becomes(user, &id, status).await;
        for same in ["id", "lines", "total", "created_at", "expires_at"] {
            assert_eq!(before[same], after[same], "{same}");
        }
        let payment = if status == "paid" { json!("p-1") } else { Value::Null };
        assert_eq!(after["payment_ref"], payment);
    }
    gateway.close().await;
}

/// Proves that a user sees their own orders only.
#[tokio::test]
async fn orders_belong_to_their_owner() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    let path = format!("/v1/orders/{id}");
    gateway.call("GET", &path).user("eve").send().await.refused(404, "not-found");
    let list = gateway.call("GET", "/v1/orders").user("eve").send().await.expect(200);
    assert_eq!(list["orders"], json!([]));
    for path in ["/v1/orders", path.as_str()] {
        gateway.call("GET", path).send().await.refused(401, "identity-required");
    }
    for nothing in ["/v1/orders/no-uuid", "/v1/orders/00000000-0000-8000-8000-000000000000"] {
        gateway.call("GET", nothing).user("ann").send().await.refused(404, "not-found");
    }
    gateway.close().await;
}

async fn page(shop: &Shop, query: &str) -> Value {
    shop.call("GET", &format!("/v1/orders?{query}")).user("ann").send().await.expect(200)
}

/// Proves that pages, newest first, hold every order once, and end.
#[tokio::test]
async fn orders_come_in_pages() {
    const ORDERS: usize = 7;
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(ORDERS as u64).await;
    let mut reserved = std::collections::BTreeSet::new();
    for _ in 0..ORDERS {
        reserved.insert(gateway.hold("ann").await);
    }
    gateway.settled().await;
    let mut seen = Vec::new();
    let mut query = "limit=3".to_owned();
    for expected in [3, 3, 1] {
        let page = page(&gateway, &query).await;
        let orders = page["orders"].as_array().unwrap();
        assert_eq!(orders.len(), expected, "{page}");
        seen.extend(orders.iter().cloned());
        query = format!("limit=3&after={}", page["next"].as_str().unwrap_or("none"));
        assert_eq!(page["next"].is_null(), expected < 3, "{page}");
    }
    let times: Vec<_> = seen.iter().map(|order| order["created_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let ids = seen.iter().map(|order| order["id"].as_str().unwrap().to_owned());
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>(), reserved);
    assert_eq!(page(&gateway, "limit=100").await["orders"], json!(seen));

    for bad in ["limit=0", "limit=101", "limit=x", "after=x", "after=1.x"] {
        let refused = gateway.call("GET", &format!("/v1/orders?{bad}")).user("ann").send().await;
        refused.refused(400, "malformed-request");
    }
    gateway.close().await;
}
