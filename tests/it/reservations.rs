//! `POST /v1/sales/{sale}/reservations`: what a buyer gets, and gets to see.

use floodgate::clock::Millis;
use floodgate::ledger::Durability;
use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, GAME, SALE, sale};

fn ms(time: &Value) -> u64 {
    let text = time.as_str().unwrap();
    assert!(text.len() == 24 && &text[19..20] == "." && text.ends_with('Z'), "{text}");
    Millis::parse_rfc3339(text).unwrap().0
}

/// Proves that the 201 has exactly the fields of the contract, and the headers that go with it.
#[tokio::test]
async fn a_grant_says_what_was_taken() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let before = gateway.now_ms().await;
    let answer = gateway.want("ann", CONSOLE, 2).key("k-1").send().await;
    let mut body = answer.expect(201);

    let (held_at, expires_at) = (ms(&body["held_at"]), ms(&body["expires_at"]));
    assert!(held_at >= before && held_at <= gateway.now_ms().await);
    assert_eq!(expires_at - held_at, 600_000, "the sale's hold");
    let id = body["reservation_id"].as_str().unwrap().to_owned();
    for read in ["held_at", "expires_at", "reservation_id"] {
        body.as_object_mut().unwrap().remove(read);
    }
    let expected = json!({
        "sale_id": SALE,
        "status": "held",
        "lines": [{ "item_id": CONSOLE, "quantity": 2, "unit_price": 1_999, "currency": "EUR" }],
        "total": 3_998,
        "currency": "EUR",
        "durability": "fsync",
    });
    assert_eq!(body, expected);
    assert_eq!(answer.header("location").unwrap(), format!("/v1/reservations/{id}"));
    assert!(!answer.headers.contains_key("idempotent-replayed"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(gateway.counters().await, [3, 1, 2, 0]);
    gateway.close().await;
}

/// Proves that request id and trace context come back, and that an id that could break a log line
/// is replaced.
#[tokio::test]
async fn requests_keep_their_names() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = gateway.want("ann", CONSOLE, 1).header("traceparent", trace);
    let answer = call.clone().header("x-request-id", "Req_1-a").send().await;
    answer.expect(201);
    assert_eq!(answer.header("x-request-id"), Some("Req_1-a"));
    assert_eq!(answer.header("traceparent"), Some(trace));
    for bad in ["has space", "semi;colon", &"x".repeat(65)] {
        let answer = call.clone().header("x-request-id", bad).send().await;
        let made = answer.header("x-request-id").unwrap();
        assert!(made != bad && !made.is_empty(), "{made}");
    }
    let refused = gateway.want("ann", "nothing", 1).header("x-request-id", "r").send().await;
    refused.refused(422, "unknown-item");
    assert_eq!(refused.header("x-request-id"), Some("r"), "on refusals too");
    gateway.close().await;
}

/// Proves that a reservation is there for its owner right after the 201, and for nobody else.
#[tokio::test]
async fn owners_read_their_writes() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(20).await;
    for number in 0..20 {
        let user = format!("user-{number}");
        let granted = gateway.want(&user, CONSOLE, 1).send().await.expect(201);
        let id = granted["reservation_id"].as_str().unwrap();
        assert_eq!(gateway.look(&user, id).await.expect(200), granted);
        gateway.look("stranger", id).await.refused(404, "not-found");
    }
    let nobody = "00000000-0000-8000-8000-000000000000";
    gateway.look("ann", nobody).await.refused(404, "not-found");
    gateway.close().await;
}

/// Proves that several lines are taken together, in their order, with one total.
#[tokio::test]
async fn lines_are_taken_together() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 5), (GAME, 5)]);
    definition["items"][1]["price"] = json!(501);
    gateway.sell(&definition).await;
    let lines = json!([{ "item_id": GAME, "quantity": 3 }, { "item_id": CONSOLE, "quantity": 1 }]);
    let granted = gateway.reserve("ann", &json!({ "lines": lines })).send().await.expect(201);
    assert_eq!(granted["total"], 3 * 501 + 1_999);
    let items: Vec<_> = granted["lines"].as_array().unwrap().iter().collect();
    assert_eq!((&items[0]["item_id"], &items[0]["quantity"]), (&json!(GAME), &json!(3)));
    assert_eq!((&items[1]["item_id"], &items[1]["quantity"]), (&json!(CONSOLE), &json!(1)));
    assert_eq!(gateway.counters().await, [5, 4, 1, 0]);
    gateway.close().await;
}

/// Proves that where one line cannot be served, no line is taken, wherever it stands.
#[tokio::test]
async fn all_lines_or_none() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 5), (GAME, 1)])).await;
    let untouched = gateway.sale(SALE).await["items"].clone();
    let good = json!({ "item_id": CONSOLE, "quantity": 5 });
    let bad = [
        (json!({ "item_id": GAME, "quantity": 2 }), 409, "sold-out"),
        (json!({ "item_id": "nothing", "quantity": 1 }), 422, "unknown-item"),
        (json!({ "item_id": GAME, "quantity": 0 }), 422, "invalid-quantity"),
    ];
    for (bad, status, code) in bad {
        for lines in [[&good, &bad], [&bad, &good]] {
            let answer = gateway.reserve("ann", &json!({ "lines": lines })).send().await;
            answer.refused(status, code);
            assert_eq!(gateway.sale(SALE).await["items"], untouched, "{code}");
        }
    }
    gateway.close().await;
}

/// Proves that `durability = stored` means that the order is in the books when the 201 is sent.
#[tokio::test]
async fn stored_means_stored() {
    let gateway =
        TestGateway::start_with(|settings| settings.durability = Durability::Stored).await;
    gateway.sell_consoles(10).await;
    for number in 0..10 {
        let user = format!("user-{number}");
        let granted = gateway.want(&user, CONSOLE, 1).send().await.expect(201);
        assert_eq!(granted["durability"], "stored");
        let path = format!("/v1/orders/{}", granted["reservation_id"].as_str().unwrap());
        let order = gateway.call("GET", &path).user(&user).send().await.expect(200);
        assert_eq!(order["status"], "pending_payment");
    }
    gateway.close().await;
}

/// Proves that a whole number is one however it is written.
#[tokio::test]
async fn whole_numbers() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    for (text, left) in [("2", 7), ("2.0", 5), ("2e0", 3), ("0.2e1", 1)] {
        let body = format!("{{ \"item_id\": \"{CONSOLE}\", \"quantity\": {text} }}");
        let answer = gateway.reserve("ann", &Value::Null).body(body).send().await;
        assert_eq!(answer.expect(201)["lines"][0]["quantity"], 2, "{text}");
        assert_eq!(gateway.counters().await, [9, left, 9 - left, 0]);
    }
    gateway.close().await;
}
