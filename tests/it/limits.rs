//! Units per user: of an item, of the whole sale, and in one request.

use serde_json::json;

use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, GAME, SALE, sale};

/// Proves that a user gets no more of an item than its limit, and is told limit and taken.
#[tokio::test]
async fn limit_of_an_item() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 9), (GAME, 9)]);
    definition["items"][0]["per_user_limit"] = json!(3);
    gateway.sell(&definition).await;
    gateway.want("ann", CONSOLE, 2).send().await.expect(201);
    let refused = gateway.want("ann", CONSOLE, 2).send().await.refused(409, "limit-reached");
    assert_eq!((&refused["limit"], &refused["taken"]), (&json!(3), &json!(2)));
    gateway.want("ann", CONSOLE, 1).send().await.expect(201);
    let refused = gateway.want("ann", CONSOLE, 1).send().await.refused(409, "limit-reached");
    assert_eq!((&refused["limit"], &refused["taken"]), (&json!(3), &json!(3)));
    gateway.want("ann", GAME, 9).send().await.expect(201);
    gateway.want("bob", CONSOLE, 3).send().await.expect(201);
    gateway.close().await;
}

/// Proves that the limit of a sale counts the units of all its items together.
#[tokio::test]
async fn limit_of_a_sale() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 9), (GAME, 9)]);
    definition["per_user_limit"] = json!(3);
    gateway.sell(&definition).await;
    let both = json!({ "lines": [
        { "item_id": CONSOLE, "quantity": 1 }, { "item_id": GAME, "quantity": 1 },
    ] });
    gateway.reserve("ann", &both).send().await.expect(201);
    let refused = gateway.reserve("ann", &both).send().await.refused(409, "limit-reached");
    assert_eq!((&refused["limit"], &refused["taken"]), (&json!(3), &json!(2)));
    gateway.want("ann", GAME, 1).send().await.expect(201);
    gateway.want("ann", CONSOLE, 1).send().await.refused(409, "limit-reached");
    gateway.close().await;
}

/// Proves that what no stock could serve is told as such, with the most that may be asked for.
#[tokio::test]
async fn quantity_beyond_the_limit() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 9), (GAME, 9)]);
    definition["per_user_limit"] = json!(4);
    definition["items"][0]["per_user_limit"] = json!(2);
    gateway.sell(&definition).await;
    for (item, quantity, max) in [(CONSOLE, 3, 2), (GAME, 5, 4), (GAME, i64::MAX, 4)] {
        let refused = gateway.want("ann", item, quantity).send().await;
        assert_eq!(refused.refused(422, "invalid-quantity")["max"], max, "{quantity} of {item}");
    }
    let both = json!({ "lines": [
        { "item_id": CONSOLE, "quantity": 2 }, { "item_id": GAME, "quantity": 3 },
    ] });
    let refused = gateway.reserve("ann", &both).send().await.refused(422, "invalid-quantity");
    assert_eq!(refused["max"], 4, "the lines together");
    gateway.close().await;
}

/// Proves that cancelled units no longer count, that paid ones do, and that a limit is not lost
/// with a restart.
#[tokio::test]
async fn what_counts_against_a_limit() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 9)]);
    definition["per_user_limit"] = json!(1);
    gateway.sell(&definition).await;
    let cancelled = gateway.hold("ann").await;
    gateway.cancel("ann", &cancelled).await.expect(200);
    let paid = gateway.hold("ann").await;
    gateway.want("ann", CONSOLE, 1).send().await.refused(409, "limit-reached");
    gateway.pay(&paid, "p").await.expect(200);
    let gateway = gateway.restart(async || {}).await;
    let refused = gateway.want("ann", CONSOLE, 1).send().await.refused(409, "limit-reached");
    assert_eq!((&refused["limit"], &refused["taken"]), (&json!(1), &json!(1)));
    gateway.close().await;
}

/// Proves that one user on many connections at once does not pass the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_against_a_rush() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 100)]);
    definition["per_user_limit"] = json!(3);
    gateway.sell(&definition).await;
    let call = gateway.want("ann", CONSOLE, 1);
    let calls: Vec<_> = (0..32).map(|_| tokio::spawn(call.clone().send())).collect();
    let mut granted = 0;
    for call in calls {
        let answer = call.await.unwrap();
        if answer.status == 201 {
            granted += 1;
        } else {
            answer.refused(409, "limit-reached");
        }
    }
    assert_eq!(granted, 3);
    assert_eq!(gateway.counters().await, [100, 97, 3, 0]);
    gateway.close().await;
}
