//! Sales open and close by their own times, also when no gateway was there at that moment.

use floodgate::clock::{Clock, Millis, SystemClock};
use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE, Shop, sale};

/// How far in the future "soon" is.
const SOON_MS: u64 = 300;
/// Long enough to take a gateway down before it.
const LATER_MS: u64 = 1_500;
const HOUR_MS: u64 = 3_600_000;

/// Waits until the machine's clock has reached an instant.
pub async fn wait_until(ms: u64) {
    eventually("the time comes", async || (SystemClock.now().0 >= ms).then_some(())).await;
}

fn at(ms: u64) -> Value {
    json!(Millis(ms).to_string())
}

fn ms(time: &Value) -> u64 {
    Millis::parse_rfc3339(time.as_str().unwrap()).unwrap().0
}

/// Creates [`SALE`] with these times, and opens nothing.
async fn plan(shop: &Shop, opens_at: Option<u64>, closes_at: Option<u64>) {
    let mut definition = sale(SALE, &[(CONSOLE, 1_000_000)]);
    definition["opens_at"] = opens_at.map_or(Value::Null, at);
    definition["closes_at"] = closes_at.map_or(Value::Null, at);
    shop.admin("POST", "/admin/v1/sales").json(&definition).send().await.expect(201);
}

/// Proves that before its time a sale says when it opens and when to ask again.
#[tokio::test]
async fn too_early_says_when() {
    let gateway = TestGateway::start().await;
    let opens_at = gateway.now_ms().await + HOUR_MS;
    plan(&gateway, Some(opens_at), None).await;
    assert_eq!(gateway.state(SALE).await, "scheduled");
    let refused = gateway.want("ann", CONSOLE, 1).send().await;
    assert_eq!(refused.refused(403, "sale-not-open")["opens_at"], at(opens_at));
    assert!(refused.retry_after().is_some_and(|seconds| seconds > 0), "{refused}");
    gateway.close().await;
}

/// Proves that a sale without a time waits for a hand, and says that there is no time.
#[tokio::test]
async fn without_a_time_by_hand() {
    let gateway = TestGateway::start().await;
    plan(&gateway, None, None).await;
    let refused = gateway.want("ann", CONSOLE, 1).send().await;
    assert_eq!(refused.refused(403, "sale-not-open")["opens_at"], Value::Null);
    assert!(refused.retry_after().is_some());
    gateway.step(SALE, "open").await.expect(200);
    gateway.hold("ann").await;
    gateway.close().await;
}

/// Proves that a sale opens by itself: nothing is sold before its time, and something after it.
#[tokio::test]
async fn opens_by_itself() {
    let gateway = TestGateway::start().await;
    let opens_at = gateway.now_ms().await + SOON_MS;
    plan(&gateway, Some(opens_at), None).await;
    let granted = eventually("the sale opens", async || {
        let answer = gateway.want("ann", CONSOLE, 1).send().await;
        if answer.status == 201 {
            return Some(answer.json());
        }
        answer.refused(403, "sale-not-open");
        None
    })
    .await;
    assert!(ms(&granted["held_at"]) >= opens_at);
    assert_eq!(gateway.state(SALE).await, "open");
    gateway.close().await;
}

/// Proves that a sale closes by itself: nothing is sold from that time on, and never again.
#[tokio::test]
async fn closes_by_itself() {
    let gateway = TestGateway::start().await;
    let now = gateway.now_ms().await;
    let closes_at = now + SOON_MS;
    plan(&gateway, Some(now - HOUR_MS), Some(closes_at)).await;
    eventually("the sale closes", async || {
        let answer = gateway.want("ann", CONSOLE, 1).send().await;
        if answer.status == 201 {
            assert!(ms(&answer.json()["held_at"]) < closes_at);
            return None;
        }
        answer.refused(410, "sale-closed");
        Some(())
    })
    .await;
    assert_eq!(gateway.state(SALE).await, "closed");
    gateway.step(SALE, "open").await.refused(409, "invalid-transition");
    gateway.want("ann", CONSOLE, 1).send().await.refused(410, "sale-closed");
    gateway.close().await;
}

/// Proves that a sale that should have opened while no gateway was there is open when one is back.
#[tokio::test]
async fn opens_while_nobody_is_there() {
    let gateway = TestGateway::start().await;
    let opens_at = gateway.now_ms().await + LATER_MS;
    plan(&gateway, Some(opens_at), None).await;
    let gateway = gateway.restart(async || wait_until(opens_at).await).await;
    assert_eq!(gateway.state(SALE).await, "open");
    gateway.hold("ann").await;
    gateway.close().await;
}

/// Proves the same for closing.
#[tokio::test]
async fn closes_while_nobody_is_there() {
    let gateway = TestGateway::start().await;
    let now = gateway.now_ms().await;
    let closes_at = now + LATER_MS;
    plan(&gateway, Some(now - HOUR_MS), Some(closes_at)).await;
    let gateway = gateway.restart(async || wait_until(closes_at).await).await;
    assert_eq!(gateway.state(SALE).await, "closed");
    gateway.want("ann", CONSOLE, 1).send().await.refused(410, "sale-closed");
    gateway.close().await;
}

/// Proves that what an operator did to a window stands after a restart.
#[tokio::test]
async fn steps_survive_a_restart() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(9).await;
    gateway.sell(&sale("other", &[(CONSOLE, 9)])).await;
    gateway.step(SALE, "pause").await.expect(200);
    gateway.step("other", "close").await.expect(200);
    let gateway = gateway.restart(async || {}).await;
    assert_eq!(gateway.state(SALE).await, "paused");
    assert_eq!(gateway.state("other").await, "closed");
    let refused = gateway.want("ann", CONSOLE, 1).send().await;
    refused.refused(409, "sale-paused");
    assert!(refused.retry_after().is_some());
    gateway.step(SALE, "resume").await.expect(200);
    gateway.hold("ann").await;
    gateway.close().await;
}
