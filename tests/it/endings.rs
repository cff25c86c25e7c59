//! How a reservation ends by its owner's or the payment's word: once, whoever asks again.

use serde_json::json;

use crate::gateway::{TestGateway, rows};
use crate::shop::{CONSOLE, SALE};

/// A well-formed id that no reservation has.
const NOBODY: &str = "00000000-0000-8000-8000-000000000000";

/// Proves that a cancellation says so, is the same when repeated, and returns the units once.
#[tokio::test]
async fn cancelling_is_idempotent() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let id = gateway.hold("ann").await;
    let first = gateway.cancel("ann", &id).await.expect(200);
    assert_eq!((&first["status"], &first["reservation_id"]), (&json!("cancelled"), &json!(id)));
    assert_eq!(gateway.cancel("ann", &id).await.expect(200), first);
    assert_eq!(gateway.look("ann", &id).await.expect(200), first);
    assert_eq!(gateway.counters().await, [3, 3, 0, 0]);
    gateway.close().await;
}

/// Proves that nobody but the owner cancels, and that a stranger is not even told that it exists.
#[tokio::test]
async fn only_the_owner_cancels() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let id = gateway.hold("ann").await;
    let stranger = gateway.cancel("eve", &id).await;
    let nobody = gateway.cancel("eve", NOBODY).await;
    stranger.refused(404, "not-found");
    assert_eq!(stranger.body, nobody.body);
    assert_eq!(gateway.counters().await, [3, 2, 1, 0]);
    gateway.close().await;
}

/// Proves that a payment confirms once: its reference again is the same answer, another is refused.
#[tokio::test]
async fn paying_is_idempotent_by_reference() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let id = gateway.hold("ann").await;
    let first = gateway.pay(&id, "pay-1").await.expect(200);
    assert_eq!((&first["status"], &first["rebooked"]), (&json!("confirmed"), &json!(false)));
    assert_eq!((&first["user_id"], &first["payment_ref"]), (&json!("ann"), &json!("pay-1")));
    assert_eq!(gateway.pay(&id, "pay-1").await.expect(200), first);
    gateway.pay(&id, "pay-2").await.refused(409, "reservation-confirmed");
    gateway.cancel("ann", &id).await.refused(409, "reservation-confirmed");
    assert_eq!(gateway.look("ann", &id).await.expect(200)["status"], "confirmed");
    assert_eq!(gateway.counters().await, [3, 2, 0, 1]);
    let order = gateway.order_becomes("ann", &id, "paid").await;
    assert_eq!(order["payment_ref"], "pay-1");
    gateway.close().await;
}

/// Proves that a payment for a cancelled reservation is refused, and noted for a refund once.
#[tokio::test]
async fn paying_for_what_was_cancelled() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let id = gateway.hold("ann").await;
    gateway.cancel("ann", &id).await.expect(200);
    for _ in 0..2 {
        gateway.pay(&id, "late").await.refused(409, "reservation-cancelled");
    }
    assert_eq!(gateway.counters().await, [3, 3, 0, 0]);
    gateway.settled().await;
    assert_eq!(rows(gateway.dir(), "refunds_needed"), 1);
    gateway.close().await;
}

/// Proves that payments are read with care: bodies, references and ids that are none.
#[tokio::test]
async fn payments_that_cannot_be_read() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let id = gateway.hold("ann").await;
    let path = format!("/admin/v1/reservations/{id}/confirm");
    for body in [
        json!({}),
        json!({ "payment_ref": "" }),
        json!({ "payment_ref": 7 }),
        json!({ "payment_ref": "has space" }),
        json!({ "payment_ref": "x".repeat(256) }),
        json!({ "payment_ref": "p", "amount": 1 }),
    ] {
        gateway.admin("POST", &path).json(&body).send().await.refused(400, "malformed-request");
    }
    gateway.pay(NOBODY, "p").await.refused(404, "not-found");
    gateway.pay("no-uuid", "p").await.refused(404, "not-found");
    assert_eq!(gateway.counters().await, [3, 2, 1, 0]);
    gateway.close().await;
}

/// Proves that of a cancellation and payments that race for a reservation one wins, and that the
/// units follow the winner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ending_wins() {
    const ROUNDS: u64 = 20;
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(ROUNDS).await;
    let (mut paid, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        let user = format!("user-{round}");
        let id = gateway.hold(&user).await;
        let (pay, again, cancel) = tokio::join!(
            gateway.pay(&id, "one"),
            gateway.pay(&id, "other"),
            gateway.cancel(&user, &id),
        );
        let wins = [&pay, &again, &cancel].iter().filter(|answer| answer.status == 200).count();
        assert_eq!(wins, 1, "{pay}\n{again}\n{cancel}");
        cancelled += u64::from(cancel.status == 200);
        paid += u64::from(cancel.status != 200);
    }
    assert_eq!(gateway.counters().await, [ROUNDS, cancelled, 0, paid]);
    gateway.close().await;
}

/// Proves that ends are kept over a restart, and can be repeated after it.
#[tokio::test]
async fn ends_survive_a_restart() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(3).await;
    let [held, paid, cancelled] =
        [gateway.hold("ann").await, gateway.hold("ann").await, gateway.hold("ann").await];
    gateway.pay(&paid, "p").await.expect(200);
    gateway.cancel("ann", &cancelled).await.expect(200);
    let gateway = gateway.restart(async || {}).await;
    for (id, status) in [(&held, "held"), (&paid, "confirmed"), (&cancelled, "cancelled")] {
        assert_eq!(gateway.look("ann", id).await.expect(200)["status"], status);
    }
    gateway.pay(&paid, "p").await.expect(200);
    gateway.cancel("ann", &cancelled).await.expect(200);
    gateway.pay(&held, "q").await.expect(200);
    assert_eq!(gateway.counters().await, [3, 1, 0, 2]);
    gateway.want("ann", CONSOLE, 2).send().await.refused(409, "sold-out");
    assert_eq!(gateway.state(SALE).await, "open");
    gateway.close().await;
}
