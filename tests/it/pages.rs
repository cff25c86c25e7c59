//! `GET /v1/sales`, `GET /v1/sales/{sale}`: what a sale's page shows to everybody.

use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::patience::eventually;
use crate::request::Answer;
use crate::shop::{CONSOLE, GAME, SALE, Shop, sale};

async fn page(shop: &Shop) -> Answer {
    shop.call("GET", &format!("/v1/sales/{SALE}")).send().await
}

async fn availability(shop: &Shop) -> String {
    let page = page(shop).await.expect(200);
    page["items"][0]["availability"].as_str().unwrap().to_owned()
}

/// Proves that a page has exactly the fields of the contract: no counter, and nobody's name.
#[tokio::test]
async fn a_page_shows_no_numbers() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 20)]);
    definition["items"][0]["per_user_limit"] = json!(2);
    gateway.sell(&definition).await;
    gateway.hold("ann").await;
    let answer = page(&gateway).await;
    let mut shown = answer.expect(200);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
    for time in ["opens_at", "server_time"] {
        let removed = shown.as_object_mut().unwrap().remove(time).unwrap();
        assert!(floodgate::clock::Millis::parse_rfc3339(removed.as_str().unwrap()).is_some());
    }
    let expected = json!({
        "id": SALE,
        "title": "Black Friday",
        "state": "open",
        "closes_at": null,
        "hold_seconds": 600,
        "per_user_limit": null,
        "items": [{
            "id": CONSOLE, "title": CONSOLE, "price": 1_999, "currency": "EUR",
            "per_user_limit": 2, "availability": "available",
        }],
    });
    assert_eq!(shown, expected);
    let list = gateway.call("GET", "/v1/sales").send().await.expect(200);
    assert_eq!(list["sales"][0]["items"], expected["items"]);
    gateway.call("GET", "/v1/sales/nothing").send().await.refused(404, "not-found");
    gateway.close().await;
}

/// Proves the word for every amount: plenty, a tenth, all held, all paid, and back again.
#[tokio::test]
async fn words_of_availability() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(20).await;
    assert_eq!(availability(&gateway).await, "available");
    let ids = [gateway.want("ann", CONSOLE, 17), gateway.want("bob", CONSOLE, 1)];
    let [many, one] = ids;
    let many = many.send().await.expect(201)["reservation_id"].as_str().unwrap().to_owned();
    assert_eq!(availability(&gateway).await, "available", "3 of 20");
    let one = one.send().await.expect(201)["reservation_id"].as_str().unwrap().to_owned();
    assert_eq!(availability(&gateway).await, "low", "2 of 20");
    let rest = gateway.want("eve", CONSOLE, 2).send().await.expect(201);
    let rest = rest["reservation_id"].as_str().unwrap().to_owned();
    assert_eq!(availability(&gateway).await, "held");
    for id in [&many, &one, &rest] {
        gateway.pay(id, "p").await.expect(200);
    }
    assert_eq!(availability(&gateway).await, "sold_out");
    let refund = format!("/admin/v1/reservations/{many}/cancel");
    gateway.admin("POST", &refund).send().await.expect(200);
    assert_eq!(availability(&gateway).await, "available", "17 of 20 are back");
    gateway.close().await;
}

/// Proves that the page follows its operator at once: open, paused, closed.
#[tokio::test]
async fn a_page_follows_the_operator() {
    let gateway = TestGateway::start().await;
    let definition = sale(SALE, &[(CONSOLE, 2)]);
    gateway.admin("POST", "/admin/v1/sales").json(&definition).send().await.expect(201);
    assert_eq!(page(&gateway).await.expect(200)["state"], "scheduled");
    for (step, state) in
        [("open", "open"), ("pause", "paused"), ("resume", "open"), ("close", "closed")]
    {
        gateway.step(SALE, step).await.expect(200);
        assert_eq!(page(&gateway).await.expect(200)["state"], state);
    }
    gateway.close().await;
}

/// Proves that an unchanged page costs a 304 without a body, and that a changed one has another
/// tag.
#[tokio::test]
async fn unchanged_pages_are_not_sent() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 1), (GAME, 9)])).await;
    let first = page(&gateway).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\"") && tag.ends_with('"'), "weak, the time is not in it: {tag}");
    eventually("the clock moves on", async || {
        let again = page(&gateway).await.expect(200);
        (again["server_time"] != first.json()["server_time"]).then_some(())
    })
    .await;
    let ask = |known: &str| {
        gateway.call("GET", &format!("/v1/sales/{SALE}")).header("if-none-match", known)
    };
    for known in [
        tag.clone(),
        tag.trim_start_matches("W/").to_owned(),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let unchanged = ask(&known).send().await;
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{known}: {unchanged}");
        assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
        assert_eq!(unchanged.header("cache-control"), Some("public, max-age=1"));
    }
    gateway.hold("ann").await;
    let changed = ask(&tag).send().await;
    assert_eq!(changed.expect(200)["items"][0]["availability"], "held");
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    gateway.close().await;
}

/// Proves that `HEAD` answers as `GET` does, without the body.
#[tokio::test]
async fn heads_without_bodies() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    for path in ["/v1/sales", "/v1/sales/bf", "/v1/time", "/healthz"] {
        let get = gateway.call("GET", path).send().await;
        let head = gateway.call("HEAD", path).send().await;
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(head.body.len(), 0, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    let health: Value = gateway.call("GET", "/healthz").send().await.expect(200);
    assert_eq!(health, json!({ "status": "ok" }));
    gateway.close().await;
}
