//! Stock: the last unit sells, once.

use serde_json::json;

use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, SALE, sale};

/// Proves that of 64 buyers who come at once for the last unit exactly one gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_unit_sells_once() {
    const BUYERS: usize = 64;
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    let want = |number| gateway.want(&format!("user-{number}"), CONSOLE, 1);
    let calls: Vec<_> = (0..BUYERS).map(|number| tokio::spawn(want(number).send())).collect();
    let mut granted = 0;
    for call in calls {
        let answer = call.await.unwrap();
        if answer.status == 201 {
            granted += 1;
        } else {
            answer.refused(409, "sold-out");
        }
    }
    assert_eq!(granted, 1);
    assert_eq!(gateway.counters().await, [1, 0, 1, 0]);
    gateway.close().await;
}

/// Proves that whoever wants more than is left is refused, and that what is left still sells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_odd_unit_sells() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let want = |number| gateway.want(&format!("user-{number}"), CONSOLE, 2);
    let calls: Vec<_> = (0..16).map(|number| tokio::spawn(want(number).send())).collect();
    let mut granted = 0;
    for call in calls {
        granted += usize::from(call.await.unwrap().status == 201);
    }
    assert_eq!(granted, 2);
    gateway.hold("last").await;
    assert_eq!(gateway.counters().await, [5, 0, 5, 0]);
    gateway.close().await;
}

/// Proves that "sold out" names a time to come back while units are held, and none once all are
/// paid.
#[tokio::test]
async fn sold_out_says_whether_to_come_back() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(2).await;
    let ids = [gateway.hold("ann").await, gateway.hold("bob").await];
    let held = gateway.want("eve", CONSOLE, 1).send().await;
    held.refused(409, "sold-out");
    assert!(held.retry_after().is_some_and(|seconds| seconds > 0), "{held}");
    for id in &ids {
        gateway.pay(id, "p").await.expect(200);
    }
    let paid = gateway.want("eve", CONSOLE, 1).send().await;
    paid.refused(409, "sold-out");
    assert_eq!(paid.retry_after(), None, "{paid}");
    gateway.close().await;
}

/// Proves that a unit given back is for sale at once, time and again.
#[tokio::test]
async fn a_cancelled_unit_sells_again() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(1).await;
    for number in 0..10 {
        let user = format!("user-{number}");
        let id = gateway.hold(&user).await;
        gateway.want("eve", CONSOLE, 1).send().await.refused(409, "sold-out");
        gateway.cancel(&user, &id).await.expect(200);
    }
    gateway.hold("eve").await;
    let item = gateway.sale(SALE).await["items"][0].clone();
    assert_eq!((&item["cancelled_total"], &item["held"]), (&json!(10), &json!(1)));
    gateway.close().await;
}

/// Proves that an item of which there is none is sold out from the start, beside one that sells.
#[tokio::test]
async fn no_stock_at_all() {
    let gateway = TestGateway::start().await;
    gateway.sell(&sale(SALE, &[("none", 0), (CONSOLE, 1)])).await;
    let refused = gateway.want("ann", "none", 1).send().await;
    refused.refused(409, "sold-out");
    assert_eq!(refused.retry_after(), None);
    gateway.hold("ann").await;
    gateway.close().await;
}
