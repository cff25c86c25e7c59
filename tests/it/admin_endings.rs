//! `POST /admin/v1/reservations/{id}/cancel`: refunds, with and without return to the stock.

use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::request::Answer;
use crate::shop::{SALE, Shop};

async fn refund(shop: &Shop, id: &str, body: Option<Value>) -> Answer {
    let call = shop.admin("POST", &format!("/admin/v1/reservations/{id}/cancel"));
    match body {
        Some(body) => call.json(&body).send().await,
        None => call.send().await,
    }
}

/// Proves that an operator cancels held and paid reservations, and that the units are for sale
/// again.
#[tokio::test]
async fn refunds_return_units() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let (held, paid) = (gateway.hold("ann").await, gateway.hold("ann").await);
    gateway.pay(&paid, "p").await.expect(200);
    let answer = refund(&gateway, &held, None).await.expect(200);
    assert_eq!((&answer["status"], &answer["user_id"]), (&json!("cancelled"), &json!("ann")));
    refund(&gateway, &paid, Some(json!({ "restock": true }))).await.expect(200);
    assert_eq!(gateway.counters().await, [5, 5, 0, 0]);
    for id in [&held, &paid] {
        gateway.order_becomes("ann", id, "cancelled").await;
    }
    assert_eq!(gateway.cart("ann").await["lines"], json!([]));
    gateway.close().await;
}

/// Proves that a refund without restock takes the units out of the stock, once.
#[tokio::test]
async fn refunds_can_withdraw_units() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let id = gateway.hold("ann").await;
    gateway.pay(&id, "p").await.expect(200);
    for _ in 0..2 {
        let answer = refund(&gateway, &id, Some(json!({ "restock": false }))).await;
        assert_eq!(answer.expect(200)["status"], "cancelled");
        assert_eq!(gateway.counters().await, [4, 4, 0, 0]);
    }
    let gateway = gateway.restart(async || {}).await;
    assert_eq!(gateway.counters().await, [4, 4, 0, 0]);
    gateway.close().await;
}

/// Proves that the audit log says which reservation was cancelled, and whether units were returned.
#[tokio::test]
async fn refunds_are_logged() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let id = gateway.hold("ann").await;
    refund(&gateway, &id, Some(json!({ "restock": false }))).await.expect(200);
    let log = gateway.admin("GET", "/admin/v1/audit-log?limit=1").send().await.expect(200);
    let entry = &log["entries"][0];
    assert_eq!((&entry["action"], &entry["actor"]), (&json!("cancel"), &json!("admin")));
    assert_eq!((&entry["sale_id"], &entry["subject"]), (&json!(SALE), &json!(id)));
    assert_eq!(entry["after"], json!({ "restock": false }));
    gateway.close().await;
}

/// Proves that what cannot be read, or is not there, changes nothing.
#[tokio::test]
async fn refunds_that_make_no_sense() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let id = gateway.hold("ann").await;
    for body in [json!({ "restock": "yes" }), json!({ "retsock": true }), json!([])] {
        refund(&gateway, &id, Some(body)).await.refused(400, "malformed-request");
    }
    let nobody = "00000000-0000-8000-8000-000000000000";
    refund(&gateway, nobody, None).await.refused(404, "not-found");
    assert_eq!(gateway.counters().await, [5, 4, 1, 0]);
    gateway.close().await;
}
