//! Holds that run out, and payments that come too late.

use floodgate::clock::Millis;
use serde_json::{Value, json};

use crate::gateway::{TestGateway, books, rows};
use crate::shop::{CONSOLE, SALE, Shop, sale};

async fn sell_with_short_hold(shop: &Shop, stock: u64) {
    let mut definition = sale(SALE, &[(CONSOLE, stock)]);
    definition["hold_seconds"] = json!(1);
    shop.sell(&definition).await;
}

fn ms(time: &Value) -> u64 {
    Millis::parse_rfc3339(time.as_str().unwrap()).unwrap().0
}

/// Proves that a hold ends by itself, not before its time and within a second of it, though nobody
/// asks the ledger anything meanwhile; and that its order and cart line go with it.
#[tokio::test]
async fn a_hold_ends_by_itself() {
    let gateway = TestGateway::start().await;
    sell_with_short_hold(&gateway, 1).await;
    let id = gateway.hold("ann").await;
    // Orders are read from the books, so that this does not wake the lane.
    let order = gateway.order_becomes("ann", &id, "expired").await;
    let late = ms(&order["updated_at"]).checked_sub(ms(&order["expires_at"])).unwrap();
    assert!(late <= 1_000, "{late} ms late");
    assert_eq!(gateway.cart("ann").await["lines"], json!([]));
    assert_eq!(gateway.look("ann", &id).await.expect(200)["status"], "expired");
    assert_eq!(gateway.counters().await, [1, 1, 0, 0]);
    gateway.cancel("ann", &id).await.refused(409, "reservation-expired");
    gateway.close().await;
}

/// Proves that whoever waits for a held unit gets it when the hold is over, and not before.
#[tokio::test]
async fn an_expired_unit_sells_again() {
    let gateway = TestGateway::start().await;
    sell_with_short_hold(&gateway, 1).await;
    let first = gateway.want("ann", CONSOLE, 1).send().await.expect(201);
    let second = gateway.hold_in_time("bob").await;
    assert!(ms(&second["held_at"]) >= ms(&first["expires_at"]));
    gateway.close().await;
}

/// Proves that a payment that comes late takes the units again if they are still there.
#[tokio::test]
async fn a_late_payment_is_rebooked() {
    let gateway = TestGateway::start().await;
    sell_with_short_hold(&gateway, 1).await;
    let id = gateway.hold("ann").await;
    gateway.order_becomes("ann", &id, "expired").await;
    let paid = gateway.pay(&id, "late").await.expect(200);
    assert_eq!((&paid["status"], &paid["rebooked"]), (&json!("confirmed"), &json!(true)));
    assert_eq!(gateway.pay(&id, "late").await.expect(200), paid, "and again");
    gateway.pay(&id, "other").await.refused(409, "reservation-confirmed");
    assert_eq!(gateway.counters().await, [1, 0, 0, 1]);
    gateway.order_becomes("ann", &id, "paid").await;
    let lines = gateway.cart("ann").await["lines"].clone();
    assert_eq!(lines[0]["reservation_id"], json!(id));
    gateway.want("bob", CONSOLE, 1).send().await.refused(409, "sold-out");
    gateway.close().await;
}

/// Proves that a payment that comes when the units are gone is refused for good and noted for a
/// refund, once, even if a unit comes back later.
#[tokio::test]
async fn a_late_payment_is_refunded() {
    let gateway = TestGateway::start().await;
    sell_with_short_hold(&gateway, 1).await;
    let late = gateway.hold("ann").await;
    gateway.order_becomes("ann", &late, "expired").await;
    let other = gateway.hold("bob").await;
    gateway.pay(&other, "in-time").await.expect(200);
    gateway.pay(&late, "late").await.refused(409, "reservation-expired");
    gateway.pay(&late, "late").await.refused(409, "reservation-expired");

    let cancel = format!("/admin/v1/reservations/{other}/cancel");
    gateway.admin("POST", &cancel).send().await.expect(200);
    assert_eq!(gateway.counters().await, [1, 1, 0, 0]);
    gateway.pay(&late, "late").await.refused(409, "reservation-expired");
    gateway.settled().await;
    assert_eq!(rows(gateway.dir(), "refunds_needed"), 1);
    let sql = "SELECT order_id, payment_ref, user_id, amount, currency FROM refunds_needed";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    let refund: (String, String, String, i64, String) =
        books(gateway.dir()).query_row(sql, [], read).unwrap();
    let expected = (late, "late".into(), "ann".into(), 1_999, "EUR".into());
    assert_eq!(refund, expected);
    gateway.close().await;
}

/// Proves that a late payment does not carry a user over the limit that new units already fill.
#[tokio::test]
async fn a_late_payment_keeps_the_limit() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 9)]);
    definition["hold_seconds"] = json!(1);
    definition["per_user_limit"] = json!(1);
    gateway.sell(&definition).await;
    let late = gateway.hold("ann").await;
    gateway.order_becomes("ann", &late, "expired").await;
    let new = gateway.hold("ann").await;
    gateway.pay(&new, "in-time").await.expect(200);
    gateway.pay(&late, "late").await.refused(409, "reservation-expired");
    assert_eq!(gateway.counters().await, [9, 8, 0, 1]);
    gateway.close().await;
}

/// Proves that a hold that ran out while no gateway was there is over when one is back.
#[tokio::test]
async fn a_hold_ends_while_nobody_is_there() {
    let gateway = TestGateway::start().await;
    sell_with_short_hold(&gateway, 1).await;
    let granted = gateway.want("ann", CONSOLE, 1).send().await.expect(201);
    let ends = ms(&granted["expires_at"]);
    let gateway = gateway.restart(async || crate::windows::wait_until(ends).await).await;
    gateway.hold_in_time("bob").await;
    let id = granted["reservation_id"].as_str().unwrap();
    gateway.order_becomes("ann", id, "expired").await;
    gateway.close().await;
}
