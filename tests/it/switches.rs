//! The degradation switches: what is refused, what goes on, and who is told what.

use serde_json::{Value, json};

use crate::binary::{Serving, run_to};
use crate::gateway::TestGateway;
use crate::patience::eventually;
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, SALE, Shop, sale};

async fn put(shop: &Shop, name: &str, on: bool) -> Value {
    let body = json!({ "on": on, "reason": "for a test" });
    let path = format!("/admin/v1/switches/{name}");
    shop.admin("PUT", &path).json(&body).send().await.expect(200)
}

/// What is switched off is refused as that, with the switch by its name.
#[track_caller]
fn switched_off(answer: &Answer, by: &str) {
    assert_eq!(answer.refused(503, "switched-off")["switch"], by, "{answer}");
    assert!(answer.retry_after().is_some_and(|seconds| seconds > 0), "{answer}");
}

fn cart(shop: &Shop, method: &str) -> Call {
    let call = shop.call(method, &format!("/v1/cart/items/{CONSOLE}")).user("ann");
    if method == "DELETE" { call } else { call.json(&json!({ "quantity": 2 })) }
}

async fn pause(shop: &Shop) -> Answer {
    shop.step(SALE, "pause").await
}

/// Proves that with reservations off nobody is granted a new one, whoever was granted one finds it under
/// their key and nobody else does, everything else goes on, and it sells again once it is on.
#[tokio::test]
async fn reservations_off() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let mine = gateway.want("ann", CONSOLE, 1).key("k");
    let granted = mine.clone().send().await.expect(201);
    let refused_before = gateway.want("bob", CONSOLE, 9).key("k");
    refused_before.clone().send().await.refused(409, "sold-out");
    assert_eq!(put(&gateway, "reservations", false).await["on"], false);
    switched_off(&gateway.want("ann", CONSOLE, 1).send().await, "reservations");
    switched_off(&gateway.want("ann", CONSOLE, 1).key("new").send().await, "reservations");
    switched_off(&refused_before.send().await, "reservations");
    let again = mine.send().await;
    assert!(again.replayed(), "{again}");
    assert_eq!(again.expect(201), granted);
    gateway.want("ann", CONSOLE, 2).key("k").send().await.refused(422, "idempotency-key-reused");
    cart(&gateway, "PUT").send().await.expect(200);
    let id = granted["reservation_id"].as_str().unwrap();
    gateway.pay(id, "p").await.expect(200);
    assert_eq!(gateway.counters().await, [9, 8, 0, 1]);
    put(&gateway, "reservations", true).await;
    gateway.hold("bob").await;
    gateway.close().await;
}

/// Proves that carts that are read-only are shown and not changed, and that reservations still put their
/// lines in.
#[tokio::test]
async fn carts_read_only() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    cart(&gateway, "PUT").send().await.expect(200);
    put(&gateway, "carts_read_only", true).await;
    for method in ["PUT", "POST", "DELETE"] {
        switched_off(&cart(&gateway, method).send().await, "carts_read_only");
    }
    let clear = gateway.call("DELETE", "/v1/cart").user("ann").send().await;
    switched_off(&clear, "carts_read_only");
    let guest = json!({ "guest_id": "guest-0123456789abcdef" });
    let merge = gateway.call("POST", "/v1/cart/merge").user("ann").json(&guest).send().await;
    switched_off(&merge, "carts_read_only");
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    let shown = gateway.cart("ann").await;
    assert_eq!(shown["lines"].as_array().unwrap().len(), 2, "{shown}");
    put(&gateway, "carts_read_only", false).await;
    cart(&gateway, "DELETE").send().await.expect(200);
    gateway.close().await;
}

/// Proves that a gateway that is read-only changes nothing for buyers and operators, but takes payments
/// and gives refunds.
#[tokio::test]
async fn read_only() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let id = gateway.hold("ann").await;
    put(&gateway, "read_only", true).await;
    let create = gateway.admin("POST", "/admin/v1/sales").json(&sale("other", &[(CONSOLE, 1)]));
    for answer in [
        gateway.want("bob", CONSOLE, 1).key("k").send().await,
        gateway.cancel("ann", &id).await,
        cart(&gateway, "PUT").send().await,
        pause(&gateway).await,
        create.send().await,
    ] {
        switched_off(&answer, "read_only");
    }
    assert_eq!(gateway.counters().await, [9, 8, 1, 0]);
    gateway.look("ann", &id).await.expect(200);
    gateway.pay(&id, "p").await.expect(200);
    let refund = gateway.admin("POST", &format!("/admin/v1/reservations/{id}/cancel"));
    refund.send().await.expect(200);
    put(&gateway, "read_only", false).await;
    pause(&gateway).await.expect(200);
    gateway.close().await;
}

/// Proves that with reads from the cache a user sees what they last saw, with its age, and what they
/// have not seen or have changed themselves is read; and that nobody sees what another one saw.
#[tokio::test]
async fn reads_from_cache() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let ids = [gateway.hold("ann").await, gateway.hold("ann").await];
    let show =
        |user: &str, id: &str| gateway.call("GET", &format!("/v1/orders/{id}")).user(user).send();
    for id in &ids {
        gateway.order("ann", id).await;
    }
    let held = gateway.look("ann", &ids[0]).await.expect(200);
    gateway.look("ann", &ids[1]).await.expect(200);
    put(&gateway, "reads_from_cache", true).await;
    gateway.pay(&ids[0], "p").await.expect(200);
    gateway.settled().await;
    let kept = gateway.look("ann", &ids[0]).await;
    assert!(kept.header("age").is_some(), "{kept}");
    assert_eq!((kept.expect(200), held["status"].as_str()), (held.clone(), Some("held")));
    let order = show("ann", &ids[0]).await;
    assert!(order.header("age").is_some() && order.expect(200)["status"] != "paid", "{order}");
    gateway.look("bob", &ids[0]).await.refused(404, "not-found");
    show("bob", &ids[0]).await.refused(404, "not-found");
    gateway.cancel("ann", &ids[1]).await.expect(200);
    let cancelled = gateway.look("ann", &ids[1]).await;
    assert_eq!(cancelled.header("age"), None, "{cancelled}");
    assert_eq!(cancelled.expect(200)["status"], "cancelled");
    put(&gateway, "reads_from_cache", false).await;
    let read = gateway.look("ann", &ids[0]).await;
    assert_eq!((read.header("age"), &read.expect(200)["status"]), (None, &json!("confirmed")));
    gateway.close().await;
}

/// Proves that switches say who put them and why, that putting one as it is changes nothing, that each is
/// in metrics and readiness, and that only an operator who says why may.
#[tokio::test]
async fn seen_and_put() {
    let gateway = TestGateway::start().await;
    let all = gateway.admin("GET", "/admin/v1/switches").send().await.expect(200);
    let on = |name: &str, all: &Value| {
        let switches = all["switches"].as_array().unwrap().iter();
        switches.filter(|known| known["name"] == name).map(|known| known["on"] == true).next()
    };
    assert_eq!(all["switches"].as_array().unwrap().len(), 4);
    assert_eq!((on("reservations", &all), on("read_only", &all)), (Some(true), Some(false)));
    let first = put(&gateway, "reservations", false).await;
    assert_eq!(first["by"], "admin");
    let again = json!({ "on": false, "reason": "another" });
    let path = "/admin/v1/switches/reservations";
    let again = gateway.admin("PUT", path).json(&again).send().await.expect(200);
    assert_eq!(again, first, "it was off already");
    let ready = gateway.stranger("GET", "/readyz?verbose").send().await.expect(200);
    assert_eq!(ready["switches"]["reservations"], false);
    assert_eq!(ready["switches"]["carts_read_only"], false);
    assert_eq!(ready["breakers"], json!({ "ledger": "closed", "store": "closed" }));
    let scrape = gateway.stranger("GET", "/metrics").send().await;
    let scrape = String::from_utf8(scrape.body.to_vec()).unwrap();
    for line in [
        "floodgate_switch{name=\"reservations\"} 0",
        "floodgate_switch{name=\"read_only\"} 0",
        "floodgate_switch_changes_total{name=\"reservations\"} 1",
        "floodgate_breaker_state{backend=\"store\"} 0",
    ] {
        assert!(scrape.lines().any(|known| known == line), "{line}: {scrape}");
    }
    let ask = |body: Value| gateway.admin("PUT", path).json(&body).send();
    for body in
        [json!({ "on": true }), json!({ "on": true, "reason": "" }), json!({ "reason": "r" })]
    {
        ask(body).await.refused(400, "malformed-request");
    }
    ask(json!({ "on": true, "reason": "r".repeat(501) })).await.refused(400, "malformed-request");
    let wanted = json!({ "on": true, "reason": "r" });
    let unknown = gateway.admin("PUT", "/admin/v1/switches/frobnicate").json(&wanted);
    unknown.send().await.refused(404, "not-found");
    gateway.stranger("PUT", path).json(&wanted).send().await.refused(401, "identity-required");
    gateway.admin("DELETE", path).send().await.refused(405, "method-not-allowed");
    gateway.close().await;
}

/// Proves that the configuration puts switches at the start, and the command shows and puts them.
#[tokio::test]
async fn by_configuration_and_command() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start_with(dir.path(), &["--set", "switches.reservations=false"]).await;
    gateway.sell_consoles(9).await;
    switched_off(&gateway.want("ann", CONSOLE, 1).send().await, "reservations");
    let url = format!("http://{}", gateway.ops);
    let here = ["--ops-url", &url, "--data-dir", dir.path().to_str().unwrap()];
    let run = |code: i32, words: &[&str]| run_to(code, &[&["switch"], words, &here].concat());
    let (list, _) = run(0, &["list"]);
    let line = list.lines().find(|line| line.contains("reservations")).unwrap();
    assert!(line.contains("off") && line.contains("configuration"), "{list}");
    let on = ["set", "reservations", "on", "--reason", "prices are right"];
    let (told, _) = run(0, &[&on[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["on"], &told["reason"]), (&json!(true), &json!("prices are right")));
    gateway.hold("ann").await;
    let entry = gateway.log().wait_for("switched");
    assert_eq!((&entry["switch"], &entry["by"]), (&json!("reservations"), &json!("admin")));
    run(2, &["set", "frobnicate", "on", "--reason", "r"]);
    run(2, &["set", "reservations", "on"]);
    gateway.stop();
}

/// Proves that the audit log says who switched what, when it was changed and why, and nothing where
/// nothing changed.
#[tokio::test]
async fn the_log_knows() {
    let gateway = TestGateway::start().await;
    put(&gateway, "read_only", true).await;
    put(&gateway, "read_only", true).await;
    put(&gateway, "read_only", false).await;
    let entries = async || {
        let log = gateway.admin("GET", "/admin/v1/audit-log").send().await.expect(200);
        log["entries"].as_array().unwrap().clone()
    };
    eventually("both are written", async || (entries().await.len() == 2).then_some(())).await;
    let told: Vec<Value> = entries()
        .await
        .iter()
        .map(|entry| {
            json!([
                entry["actor"],
                entry["action"],
                entry["subject"],
                entry["before"]["on"],
                entry["after"]["on"],
                entry["reason"],
                entry["lane"]
            ])
        })
        .collect();
    let entry = |on: bool| json!(["admin", "switch", "read_only", !on, on, "for a test", -1]);
    assert_eq!(told, [entry(false), entry(true)], "newest first");
    gateway.close().await;
}
