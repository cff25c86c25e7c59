//! The same request again under the same key: the same answer to the byte, whatever has happened
//! since.

use serde_json::json;

use crate::gateway::TestGateway;
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, GAME, SALE, sale};

/// Asks again; it has to be the first answer once more, marked as a replay.
async fn ask_again(call: &Call, first: &Answer, after: &str) {
    let again = call.clone().send().await;
    assert_eq!((again.status, &again.body), (201, &first.body), "{after}: {again}");
    assert!(again.replayed(), "{after}: {again}");
    assert_eq!(again.header("location"), first.header("location"), "{after}");
}

/// Proves that a replay is the first answer after the units are gone, the sale is paused, closed
/// and the gateway restarted.
#[tokio::test]
async fn replays_outlive_the_sale() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(2).await;
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    let first = call.clone().send().await;
    first.expect(201);
    assert!(!first.replayed());
    ask_again(&call, &first, "at once").await;
    gateway.hold("bob").await;
    gateway.want("eve", CONSOLE, 1).key("k").send().await.refused(409, "sold-out");
    ask_again(&call, &first, "sold out").await;
    gateway.step(SALE, "pause").await.expect(200);
    gateway.want("eve", CONSOLE, 1).key("k").send().await.refused(409, "sale-paused");
    ask_again(&call, &first, "paused").await;
    gateway.step(SALE, "close").await.expect(200);
    gateway.want("eve", CONSOLE, 1).key("k").send().await.refused(410, "sale-closed");
    ask_again(&call, &first, "closed").await;
    let gateway = gateway.restart(async || {}).await;
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    ask_again(&call, &first, "restarted").await;
    assert_eq!(gateway.counters().await, [2, 0, 2, 0], "replays take nothing");
    gateway.close().await;
}

/// Proves that a replay is the first answer after the reservation was paid or cancelled.
#[tokio::test]
async fn replays_outlive_the_reservation() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    for fate in ["confirmed", "cancelled"] {
        let call = gateway.want(fate, CONSOLE, 1).key("k");
        let first = call.clone().send().await;
        let id = first.expect(201)["reservation_id"].as_str().unwrap().to_owned();
        let ended = match fate {
            "confirmed" => gateway.pay(&id, "p").await,
            _ => gateway.cancel(fate, &id).await,
        };
        assert_eq!(ended.expect(200)["status"], fate);
        ask_again(&call, &first, fate).await;
    }
    gateway.close().await;
}

/// Proves that a replay is the first answer after the hold ran out.
#[tokio::test]
async fn replays_outlive_the_hold() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 1)]);
    definition["hold_seconds"] = json!(1);
    gateway.sell(&definition).await;
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    let first = call.clone().send().await;
    let id = first.expect(201)["reservation_id"].as_str().unwrap().to_owned();
    gateway.order_becomes("ann", &id, "expired").await;
    ask_again(&call, &first, "expired").await;
    assert_eq!(gateway.counters().await, [1, 1, 0, 0], "and takes nothing");
    gateway.close().await;
}

/// Proves that a key is the same quoted and bare, with its escapes, and the body in both forms.
#[tokio::test]
async fn one_key_in_all_its_forms() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    let first = gateway.want("ann", CONSOLE, 1).key("k-1").send().await;
    first.expect(201);
    ask_again(&gateway.want("ann", CONSOLE, 1).key("\"k-1\""), &first, "quoted").await;
    let lines = json!({ "lines": [{ "item_id": CONSOLE, "quantity": 1 }] });
    ask_again(&gateway.reserve("ann", &lines).key("k-1"), &first, "as a list").await;

    let first = gateway.want("ann", CONSOLE, 1).key(r#"a"b\c"#).send().await;
    first.expect(201);
    ask_again(&gateway.want("ann", CONSOLE, 1).key(r#""a\"b\\c""#), &first, "escaped").await;
    assert_eq!(gateway.counters().await, [9, 7, 2, 0]);
    gateway.close().await;
}

/// Proves that a key with another body is refused and takes nothing, and that the first answer
/// still stands.
#[tokio::test]
async fn another_body_is_refused() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 9), (GAME, 9)])).await;
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    let first = call.clone().send().await;
    first.expect(201);
    let both = json!({ "lines": [
        { "item_id": CONSOLE, "quantity": 1 }, { "item_id": GAME, "quantity": 1 },
    ] });
    for other in [
        gateway.want("ann", CONSOLE, 2),
        gateway.want("ann", GAME, 1),
        gateway.reserve("ann", &both),
    ] {
        other.key("k").send().await.refused(422, "idempotency-key-reused");
    }
    ask_again(&call, &first, "after the misuse").await;
    assert_eq!(gateway.counters().await, [9, 8, 1, 0]);
    gateway.close().await;
}

/// Proves that a key names a request of one user in one sale; without a key every request is new.
#[tokio::test]
async fn keys_belong_to_user_and_sale() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    gateway.sell(&sale("other", &[(CONSOLE, 9)])).await;
    let elsewhere = gateway
        .call("POST", "/v1/sales/other/reservations")
        .user("ann")
        .json(&json!({ "item_id": CONSOLE, "quantity": 1 }));
    let calls = [
        gateway.want("ann", CONSOLE, 1).key("k"),
        gateway.want("bob", CONSOLE, 1).key("k"),
        elsewhere.key("k"),
        gateway.want("ann", CONSOLE, 1),
        gateway.want("ann", CONSOLE, 1),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for call in calls {
        let answer = call.send().await;
        assert!(!answer.replayed());
        ids.insert(answer.expect(201)["reservation_id"].to_string());
    }
    assert_eq!(ids.len(), 5);
    gateway.close().await;
}

/// Proves that a refusal does not use the key up: it was no answer worth keeping.
#[tokio::test]
async fn refusals_are_not_remembered() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let winner = gateway.hold("ann").await;
    let call = gateway.want("bob", CONSOLE, 1).key("k");
    call.clone().send().await.refused(409, "sold-out");
    gateway.cancel("ann", &winner).await.expect(200);
    let granted = call.send().await;
    granted.expect(201);
    assert!(!granted.replayed());
    gateway.close().await;
}

/// Proves that of many equal requests at once one takes units, and all get its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_at_once_are_one() {
    const AT_ONCE: usize = 32;
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(AT_ONCE as u64).await;
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    let calls: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(call.clone().send())).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.status == 201));
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed()).count(), 1);
    assert_eq!(gateway.counters().await, [32, 31, 1, 0]);
    gateway.close().await;
}
