//! Carts: the user's own lines, those of their reservations, and a version that guards both.

use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::patience::eventually;
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, GAME, SALE, Shop, sale};

fn put(shop: &Shop, item: &str, quantity: u32) -> Call {
    let path = format!("/v1/cart/items/{item}");
    shop.call("PUT", &path).user("ann").json(&json!({ "quantity": quantity }))
}

fn take_out(shop: &Shop, item: &str) -> Call {
    shop.call("DELETE", &format!("/v1/cart/items/{item}")).user("ann")
}

/// The version of a cart's answer, which is its tag too.
fn version(answer: &Answer) -> u64 {
    let version = answer.expect(200)["version"].as_u64().unwrap();
    assert_eq!(answer.header("etag").unwrap(), format!("\"{version}\""));
    version
}

fn own(item: &str, quantity: u32) -> Value {
    json!({ "item_id": item, "quantity": quantity, "source": "user" })
}

async fn lines_become(shop: &Shop, lines: &Value) {
    eventually(&format!("the cart holds {lines}"), async || {
        (shop.cart("ann").await["lines"] == *lines).then_some(())
    })
    .await;
}

/// Proves that each change makes a new version, that no change makes none, and that carts are not
/// shared.
#[tokio::test]
async fn versions_rise_with_changes() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 1), (GAME, 1)])).await;
    let empty = gateway.call("GET", "/v1/cart").user("ann").send().await;
    assert_eq!(empty.expect(200), json!({ "version": 0, "lines": [] }));
    let first = put(&gateway, CONSOLE, 2).send().await;
    assert_eq!(first.json()["lines"], json!([own(CONSOLE, 2)]));
    let steps = [
        (put(&gateway, CONSOLE, 2), 0, json!([own(CONSOLE, 2)])),
        (put(&gateway, CONSOLE, 3), 1, json!([own(CONSOLE, 3)])),
        (put(&gateway, GAME, 999), 2, json!([own(CONSOLE, 3), own(GAME, 999)])),
        (take_out(&gateway, CONSOLE), 3, json!([own(GAME, 999)])),
        (take_out(&gateway, CONSOLE), 3, json!([own(GAME, 999)])),
        (take_out(&gateway, "never-heard-of"), 3, json!([own(GAME, 999)])),
        (take_out(&gateway, GAME), 4, json!([])),
    ];
    for (call, further, lines) in steps {
        let answer = call.send().await;
        assert_eq!(version(&answer), version(&first) + further, "{answer}");
        assert_eq!(answer.json()["lines"], lines);
    }
    let other = gateway.cart("bob").await;
    assert_eq!(other, json!({ "version": 0, "lines": [] }));
    gateway.close().await;
}

/// Proves that a write for another version changes nothing, and says which version there is.
#[tokio::test]
async fn writes_for_another_version() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let now = version(&put(&gateway, CONSOLE, 1).send().await);
    for stale in [now - 1, now + 1] {
        let tag = format!("\"{stale}\"");
        for call in [put(&gateway, CONSOLE, 5), take_out(&gateway, CONSOLE)] {
            let refused = call.header("if-match", &tag).send().await;
            assert_eq!(refused.refused(412, "version-mismatch")["version"], now);
        }
    }
    let padded = format!("\"0{now}\"");
    for never in ["\"x\"", "W/\"1\"", "\"\"", &padded] {
        let refused = put(&gateway, CONSOLE, 5).header("if-match", never).send().await;
        refused.refused(412, "version-mismatch");
    }
    for bad in ["7", "\"1", "\"1\", \"2\""] {
        let refused = put(&gateway, CONSOLE, 5).header("if-match", bad).send().await;
        refused.refused(400, "malformed-request");
    }
    assert_eq!(gateway.cart("ann").await["lines"], json!([own(CONSOLE, 1)]));
    let tag = format!("\"{now}\"");
    let next = put(&gateway, CONSOLE, 5).header("if-match", &tag).send().await;
    assert_eq!(version(&next), now + 1);
    let any = take_out(&gateway, CONSOLE).header("if-match", "*").send().await;
    assert_eq!(version(&any), now + 2);
    gateway.close().await;
}

/// Proves that of many writers with one version exactly one writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_writer_a_version() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let now = version(&put(&gateway, CONSOLE, 1).send().await);
    let tag = format!("\"{now}\"");
    let writers: Vec<_> = (2..18)
        .map(|quantity| put(&gateway, CONSOLE, quantity).header("if-match", &tag))
        .map(|call| tokio::spawn(call.send()))
        .collect();
    let mut wrote = 0;
    for writer in writers {
        let answer = writer.await.unwrap();
        if answer.status == 200 {
            wrote += 1;
        } else {
            answer.refused(412, "version-mismatch");
        }
    }
    assert_eq!((wrote, &gateway.cart("ann").await["version"]), (1, &json!(now + 1)));
    gateway.close().await;
}

/// Proves that a reservation's lines come into the cart beside the user's own, stay when paid, are
/// not the user's to take out, and leave when it is cancelled.
#[tokio::test]
async fn lines_of_reservations() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 9), (GAME, 9)])).await;
    let before = version(&put(&gateway, CONSOLE, 4).send().await);
    let lines = json!({ "lines": [
        { "item_id": CONSOLE, "quantity": 1 }, { "item_id": GAME, "quantity": 2 },
    ] });
    let granted = gateway.reserve("ann", &lines).send().await.expect(201);
    let id = granted["reservation_id"].as_str().unwrap();
    let line = |item: &str, quantity: u32| {
        json!({
            "item_id": item, "quantity": quantity, "source": "reservation", "reservation_id": id,
        })
    };
    lines_become(&gateway, &json!([own(CONSOLE, 4), line(CONSOLE, 1), line(GAME, 2)])).await;
    assert_eq!(gateway.cart("ann").await["version"], before + 1);
    take_out(&gateway, GAME).send().await.expect(200);
    take_out(&gateway, CONSOLE).send().await.expect(200);
    lines_become(&gateway, &json!([line(CONSOLE, 1), line(GAME, 2)])).await;
    gateway.cancel("ann", id).await.expect(200);
    lines_become(&gateway, &json!([])).await;
    gateway.close().await;
}

/// Proves that what cannot be read or held changes nothing.
#[tokio::test]
async fn writes_that_make_no_sense() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let path = format!("/v1/cart/items/{CONSOLE}");
    for quantity in [json!(0), json!(-1), json!(1_000), json!(i64::MAX)] {
        let call = gateway.call("PUT", &path).user("ann").json(&json!({ "quantity": quantity }));
        call.send().await.refused(422, "invalid-quantity");
    }
    for body in [
        json!({}),
        json!({ "quantity": "1" }),
        json!({ "quantity": 1.5 }),
        json!({ "quantity": 1, "x": 1 }),
    ] {
        let call = gateway.call("PUT", &path).user("ann").json(&body);
        call.send().await.refused(400, "malformed-request");
    }
    put(&gateway, "unknown", 1).send().await.refused(422, "unknown-item");
    put(&gateway, &"x".repeat(65), 1).send().await.refused(404, "not-found");
    gateway.call("GET", "/v1/cart").send().await.refused(401, "identity-required");
    let nobody = gateway.call("PUT", &path).json(&json!({ "quantity": 1 })).send().await;
    nobody.refused(401, "identity-required");
    assert_eq!(gateway.cart("ann").await, json!({ "version": 0, "lines": [] }));
    gateway.close().await;
}

/// Proves that a cart is bounded, and that the bound keeps nobody from changing what is in it.
#[tokio::test]
async fn carts_are_bounded() {
    const LINES_MAX: usize = floodgate::limits::CART_LINES_MAX;
    let gateway = TestGateway::start().await;
    let names: Vec<String> = (0..=LINES_MAX).map(|number| format!("item-{number:03}")).collect();
    let items: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    gateway.sell(&sale(SALE, &items)).await;
    for name in &names[..LINES_MAX] {
        put(&gateway, name, 1).send().await.expect(200);
    }
    put(&gateway, &names[LINES_MAX], 1).send().await.refused(422, "cart-full");
    put(&gateway, &names[0], 2).send().await.expect(200);
    take_out(&gateway, &names[1]).send().await.expect(200);
    put(&gateway, &names[LINES_MAX], 1).send().await.expect(200);
    gateway.close().await;
}
