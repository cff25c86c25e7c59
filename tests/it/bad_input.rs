//! Requests that make no sense, to every other route of the public listener.

use serde_json::json;

use floodgate::config::Settings;
use floodgate::http::Auth;

use crate::gateway::{TestGateway, rows};
use crate::shop::{CONSOLE, SALE};

/// Proves that a path takes its methods only, and says which.
#[tokio::test]
async fn other_methods() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let id = "00000000-0000-8000-8000-000000000000";
    let table = [
        ("/v1/sales".to_owned(), "GET, HEAD"),
        (format!("/v1/sales/{SALE}"), "GET, HEAD"),
        (format!("/v1/sales/{SALE}/reservations"), "POST"),
        (format!("/v1/reservations/{id}"), "GET, HEAD, DELETE"),
        ("/v1/orders".to_owned(), "GET, HEAD"),
        (format!("/v1/orders/{id}"), "GET, HEAD"),
        ("/v1/cart".to_owned(), "GET, HEAD, DELETE"),
        (format!("/v1/cart/items/{CONSOLE}"), "PUT, POST, DELETE"),
        ("/v1/cart/merge".to_owned(), "POST"),
        ("/v1/time".to_owned(), "GET, HEAD"),
        ("/healthz".to_owned(), "GET, HEAD"),
    ];
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];
    for (path, allow) in &table {
        let allowed: Vec<&str> = allow.split(", ").collect();
        for method in methods.into_iter().filter(|method| !allowed.contains(method)) {
            let answer = gateway.call(method, path).user("ann").send().await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer}");
            assert_eq!(answer.header("allow"), Some(*allow), "{method} {path}");
            if method != "HEAD" {
                answer.refused(405, "method-not-allowed");
            }
        }
    }
    assert_eq!(gateway.counters().await, [1, 1, 0, 0]);
    gateway.close().await;
}

/// Proves that a path that leads nowhere is not found, whatever the method, and whoever asks.
#[tokio::test]
async fn other_paths() {
    let gateway = TestGateway::start().await;
    for path in
        ["/", "/v1", "/v1/", "/v2/sales", "/v1/sales/", "/admin/v1/sales", "/metrics", "/%2e"]
    {
        for method in ["GET", "POST", "DELETE"] {
            gateway.call(method, path).send().await.refused(404, "not-found");
        }
    }
    gateway.close().await;
}

/// Proves that reservations and orders are found by well-formed ids only, and that nobody learns
/// more from a bad one than from one that does not exist.
#[tokio::test]
async fn other_ids() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    let bad = [
        "x".to_owned(),
        id.replace('-', ""),
        format!("%7B{id}%7D"),
        format!("{id}0"),
        id[1..].to_owned(),
        "ffffffff-ffff-8fff-bfff-ffffffffffff".to_owned(),
        "x".repeat(1_000),
    ];
    for id in bad {
        for (method, path) in [
            ("GET", format!("/v1/reservations/{id}")),
            ("DELETE", format!("/v1/reservations/{id}")),
            ("GET", format!("/v1/orders/{id}")),
        ] {
            let answer = gateway.call(method, &path).user("ann").send().await;
            answer.refused(404, "not-found");
        }
    }
    for method in ["GET", "DELETE"] {
        let path = format!("/v1/reservations/{id}");
        gateway.call(method, &path).send().await.refused(401, "identity-required");
        let answer = gateway.call(method, &path).user("ann").user("ann").send().await;
        answer.refused(400, "malformed-request");
    }
    assert_eq!(gateway.counters().await, [1, 0, 1, 0]);
    gateway.close().await;
}

/// Proves that a target that is too long is refused as such, on every listener.
#[tokio::test]
async fn long_targets() {
    let gateway = TestGateway::start().await;
    let long = format!("/v1/sales?{}", "x".repeat(2 * 1024));
    gateway.call("GET", &long).send().await.refused(414, "uri-too-long");
    gateway.stranger("GET", &long).send().await.refused(414, "uri-too-long");
    let short = format!("/v1/sales?{}", "x".repeat(2 * 1024 - "/v1/sales?".len()));
    gateway.call("GET", &short).send().await.expect(200);
    gateway.close().await;
}

/// Proves that an identity in the header is not believed from whoever is no trusted proxy.
#[tokio::test]
async fn strangers_are_nobody() {
    let distrust = |settings: &mut Settings| settings.trusted_proxies = Vec::new();
    let gateway = TestGateway::start_with(distrust).await;
    gateway.sell_consoles(1).await;
    gateway.want("ann", CONSOLE, 1).send().await.refused(401, "identity-required");
    let cart = gateway.call("GET", "/v1/cart").user("ann").send().await;
    cart.refused(401, "identity-required");
    assert_eq!(gateway.counters().await, [1, 1, 0, 0]);
    gateway.close().await;
}

/// Proves that in insecure mode identity and key may stand in the body, that the header's word
/// counts first, and that both are checked there as well.
#[tokio::test]
async fn identity_in_the_body() {
    let insecure = |settings: &mut Settings| {
        settings.auth = Auth::Insecure;
        settings.trusted_proxies = Vec::new();
    };
    let gateway = TestGateway::start_with(insecure).await;
    gateway.sell_consoles(9).await;
    let path = format!("/v1/sales/{SALE}/reservations");
    let body = |user: &str, key: &str| {
        let mut body = json!({ "item_id": CONSOLE, "quantity": 1, "user_id": user });
        body["idempotency_key"] = json!(key);
        body
    };
    let call = gateway.call("POST", &path).json(&body("ann", "k"));
    let first = call.clone().send().await;
    let id = first.expect(201)["reservation_id"].as_str().unwrap().to_owned();
    let again = call.send().await;
    assert!(again.replayed() && again.body == first.body, "{again}");
    gateway.look("ann", &id).await.expect(200);
    let header = gateway.reserve("bob", &body("eve", "k")).key("other").send().await.expect(201);
    gateway.look("bob", header["reservation_id"].as_str().unwrap()).await.expect(200);
    let long = "u".repeat(129);
    for (user, key) in [("", "k"), ("a b", "k"), (&long, "k"), ("ann", ""), ("ann", "é")] {
        let answer = gateway.call("POST", &path).json(&body(user, key)).send().await;
        answer.refused(400, "malformed-request");
    }
    let nobody = json!({ "item_id": CONSOLE, "quantity": 1 });
    let answer = gateway.call("POST", &path).json(&nobody).send().await;
    answer.refused(401, "identity-required");
    gateway.settled().await;
    assert_eq!(rows(gateway.dir(), "orders"), 2);
    gateway.close().await;
}
