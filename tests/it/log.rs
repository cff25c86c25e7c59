//! The log of the real program: what nobody reads, and what users write into it.

use serde_json::Value;

use crate::binary::{Serving, audit};
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE};

/// Proves that a gateway sells on although nobody takes its log from the pipe, at the filter that
/// writes most, that it counts what it drops, and that it still ends well.
#[tokio::test]
async fn nobody_reads_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("RUST_LOG", "debug"), ("FLOODGATE_HTTP__CONNECTION_REQUESTS", "1000000")];
    let (gateway, log) = Serving::start_unread(dir.path(), &variables).await;
    gateway.sell_consoles(1_000_000).await;
    let dropped = eventually("lines are dropped", async || {
        for _ in 0..50 {
            let wish = gateway.want("ann", "unknown", 1);
            // As long as a line may be made by a user.
            let wish = wish.header("x-request-id", &"r".repeat(64));
            wish.send().await.refused(422, "unknown-item");
        }
        let dropped = gateway.metric("floodgate_log_lines_dropped_total").await;
        (dropped > 0.0).then_some(dropped)
    })
    .await;
    gateway.want("ann", CONSOLE, 1).send().await.expect(201);
    println!("{dropped} lines were dropped");
    gateway.stop();
    drop(log);
    audit(dir.path());
}

/// Proves that what users write stays inside its own line and its own field.
#[tokio::test]
async fn users_write_into_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start_in(dir.path(), &[], &[("RUST_LOG", "debug")]).await;
    gateway.sell_consoles(9).await;
    let forged =
        "x\\n{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"forged\\\"}\\u001b[2J\\u202e";
    let body = format!("{{\"item_id\":\"{forged}\",\"quantity\":1}}");
    let path = format!("/v1/sales/{SALE}/reservations");
    let call = gateway.call("POST", &path).user("ann").body(body);
    assert!(call.send().await.status >= 400);
    gateway.log().wait_for("refused");
    // The token is told to whoever starts it, not to the log.
    let is_told = |line: &&str| line.starts_with("admin token, kept in ");
    for line in gateway.log().text().lines().filter(|line| !is_told(line)) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        assert_ne!(event["message"], "forged", "{line}");
        let plain = |character: char| !character.is_control() && character != '\u{202e}';
        assert!(line.chars().all(plain), "{line:?}");
    }
    gateway.stop();
}
