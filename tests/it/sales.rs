//! The ops API's sales: created, moved, and every step written down.

use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::request::Answer;
use crate::shop::{CONSOLE, GAME, SALE, Shop, sale};

async fn create(shop: &Shop, definition: &Value) -> Answer {
    shop.admin("POST", "/admin/v1/sales").json(definition).send().await
}

/// Proves that a sale is made once: the same again is no change, another under its id is refused.
#[tokio::test]
async fn creating_is_idempotent() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 5), (GAME, 7)]);
    definition["per_user_limit"] = json!(2);
    let created = create(&gateway, &definition).await;
    let shown = created.expect(201);
    assert_eq!(created.header("location"), Some("/admin/v1/sales/bf"));
    assert_eq!((&shown["id"], &shown["state"]), (&json!(SALE), &json!("scheduled")));
    assert_eq!((&shown["hold_seconds"], &shown["per_user_limit"]), (&json!(600), &json!(2)));
    let counters = json!({
        "id": GAME, "title": GAME, "price": 1_999, "currency": "EUR", "per_user_limit": null,
        "stock": 7, "available": 7, "held": 0, "confirmed": 0, "cancelled_total": 0,
        "expired_total": 0,
    });
    assert_eq!(shown["items"][1], counters);

    create(&gateway, &definition).await.expect(200);
    gateway.step(SALE, "open").await.expect(200);
    gateway.hold("ann").await;
    let again = create(&gateway, &definition).await.expect(200);
    assert_eq!(again["items"][0]["available"], 4, "the same after it began");
    for (field, value) in [("title", json!("other")), ("hold_seconds", json!(601))] {
        let mut other = definition.clone();
        other[field] = value;
        create(&gateway, &other).await.refused(409, "sale-differs");
    }
    let log = gateway.admin("GET", "/admin/v1/audit-log").send().await.expect(200);
    assert_eq!(log["entries"].as_array().unwrap().len(), 2, "create and open: {log}");
    gateway.close().await;
}

/// Proves that a definition with faults is refused with all of them, each under its path.
#[tokio::test]
async fn all_faults_at_once() {
    let gateway = TestGateway::start().await;
    let definition = json!({
        "id": "has space", "title": "", "hold_seconds": 0, "opens_at": "tomorrow", "colour": "red",
        "items": [
            { "id": "a", "title": "a", "price": -1, "currency": "euro", "stock": 1.5 },
            { "id": "b\u{7}", "title": "b", "price": 1, "currency": "EUR", "stock": 1,
              "per_user_limit": 0 },
        ],
    });
    let refused = create(&gateway, &definition).await.refused(422, "invalid-sale");
    let fields: Vec<&str> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| {
            assert!(fault["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{fault}");
            fault["field"].as_str().unwrap()
        })
        .collect();
    let expected = [
        "colour",
        "id",
        "title",
        "opens_at",
        "hold_seconds",
        "items[0].price",
        "items[0].currency",
        "items[0].stock",
        "items[1].id",
        "items[1].per_user_limit",
    ];
    assert_eq!(fields, expected);
    for other in [json!([]), json!("sale"), json!(null)] {
        create(&gateway, &other).await.refused(400, "malformed-request");
    }
    let list = gateway.admin("GET", "/admin/v1/sales").send().await.expect(200);
    assert_eq!(list["sales"], json!([]), "nothing was made");
    gateway.close().await;
}

/// Proves every step from every state: the new state, or a refusal that names the old one.
#[tokio::test]
async fn every_step_from_every_state() {
    const STEPS: [&str; 4] = ["open", "pause", "resume", "close"];
    // How to get to a state, and what each of the steps leads to from there; "no" is a refusal.
    let table: [(&[&str], &str, [&str; 4]); 4] = [
        (&[], "scheduled", ["open", "no", "no", "closed"]),
        (&["open"], "open", ["open", "paused", "open", "closed"]),
        (&["open", "pause"], "paused", ["no", "paused", "open", "closed"]),
        (&["open", "close"], "closed", ["no", "no", "no", "closed"]),
    ];
    let gateway = TestGateway::start().await;
    for (way, state, ends) in table {
        for (step, end) in STEPS.into_iter().zip(ends) {
            let id = format!("{state}-{step}");
            create(&gateway, &sale(&id, &[(CONSOLE, 1)])).await.expect(201);
            for step in way {
                gateway.step(&id, step).await.expect(200);
            }
            assert_eq!(gateway.state(&id).await, state);
            let answer = gateway.step(&id, step).await;
            let (told, state) = match end {
                "no" => (answer.refused(409, "invalid-transition"), state),
                end => (answer.expect(200), end),
            };
            assert_eq!(told["state"], state, "{id}");
            assert_eq!(gateway.state(&id).await, state, "{id}");
        }
    }
    gateway.step("nothing", "open").await.refused(404, "not-found");
    gateway.step("scheduled-open", "destroy").await.refused(404, "not-found");
    gateway.close().await;
}

/// Proves that a step that changes something is written down, newest first, with the values before
/// and after; and that one that changes nothing is not.
#[tokio::test]
async fn steps_are_logged() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    for step in ["pause", "pause", "resume", "close", "close"] {
        gateway.step(SALE, step).await.expect(200);
    }
    gateway.step(SALE, "open").await.refused(409, "invalid-transition");
    let log = gateway.admin("GET", "/admin/v1/audit-log").send().await.expect(200);
    let entries = log["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["close", "resume", "pause", "open", "create"]);
    assert!(entries.iter().all(|entry| entry["actor"] == "admin" && entry["sale_id"] == SALE));
    let paused = &entries[2];
    assert_eq!(
        (&paused["before"]["paused"], &paused["after"]["paused"]),
        (&json!(false), &json!(true))
    );
    let opened = &entries[3];
    assert_eq!(opened["before"]["opens_at"], Value::Null);
    assert_eq!(opened["after"]["opens_at"], opened["at"]);
    let created = &entries[4];
    assert_eq!((&created["before"], &created["after"]["id"]), (&Value::Null, &json!(SALE)));

    let page = gateway.admin("GET", "/admin/v1/audit-log?limit=2&skip=2").send().await.expect(200);
    assert_eq!((&page["entries"][0], &page["entries"][1]), (paused, opened));
    let bad = gateway.admin("GET", "/admin/v1/audit-log?limit=0").send().await;
    bad.refused(400, "malformed-request");
    gateway.close().await;
}
