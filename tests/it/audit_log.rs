//! The audit log's chain, from the gateway that writes it to the audit that follows it.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::binary::{Serving, audit, run_to};
use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, SALE};

/// Proves that operators see the chain, and that gateways that come one after the other make one chain of it.
#[tokio::test]
async fn one_chain() {
    let mut gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    gateway.settled().await;
    gateway = gateway.restart(async || {}).await;
    for step in ["pause", "resume", "close"] {
        gateway.step(SALE, step).await.expect(200);
    }
    gateway.settled().await;
    let archive = format!("/admin/v1/sales/{SALE}/archive");
    gateway.admin("POST", &archive).send().await.expect(200);
    let log = gateway.admin("GET", "/admin/v1/audit-log").send().await.expect(200);
    let mut entries: Vec<&Value> = log["entries"].as_array().unwrap().iter().collect();
    entries.sort_by_key(|entry| entry["link"].as_i64());
    assert_eq!(entries.len(), 5, "there was nothing to archive");
    let mut before = "0".repeat(64);
    for (link, entry) in (1..).zip(entries) {
        assert_eq!((&entry["link"], &entry["previous_hash"]), (&json!(link), &json!(before)));
        before = entry["hash"].as_str().unwrap().to_owned();
        assert_eq!(before.len(), 64);
    }
    gateway.close().await;
}

/// Proves with the real program that the end of the chain is told to the log, and that the audit ends with 3
/// and names the entry once one was changed, or once the end that was told is not there.
#[tokio::test]
async fn the_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(5).await;
    let restock = format!("/admin/v1/sales/{SALE}/items/{CONSOLE}/restock");
    let restock = gateway.admin("POST", &restock).json(&json!({ "delta": 7, "reason": "found" }));
    restock.send().await.expect(200);
    gateway.settled().await;
    let log = gateway.log().clone();
    gateway.stop();
    let log = log.text();
    let report = audit(dir.path());
    let end = &report["audit_log"][0];
    assert_eq!(end["links"], 3);
    let told: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "the audit log has grown")
        .collect();
    let last = told.last().unwrap();
    assert_eq!(
        (&last["lane"], &last["link"], &last["hash"]),
        (&end["lane"], &end["links"], &end["hash"])
    );
    let mark = format!("{}:{}:{}", end["lane"], end["links"], end["hash"].as_str().unwrap());
    let data_dir = dir.path().to_str().unwrap();
    let marked = ["audit", "--data-dir", data_dir, "--log-mark", &mark];
    run_to(0, &marked);
    run_to(2, &["audit", "--data-dir", data_dir, "--log-mark", "0:1"]);

    let books = Connection::open(dir.path().join("store.db")).unwrap();
    let change = |sql: &str| assert_eq!(books.execute(sql, []).unwrap(), 1, "{sql}");
    change("UPDATE audit_log SET reason = 'stolen' WHERE action = 'restock'");
    let (told, _) = run_to(3, &["audit", "--data-dir", data_dir]);
    assert!(told.contains("FAIL  the audit log is whole"), "{told}");
    assert!(told.contains("link 3") && told.contains("was changed"), "{told}");
    let (told, _) = run_to(0, &["reconcile", "--data-dir", data_dir]);
    assert!(told.contains("agree"), "nothing that could be mended is wrong: {told}");
    change("UPDATE audit_log SET reason = 'found' WHERE action = 'restock'");
    run_to(0, &marked);
    change("DELETE FROM audit_log WHERE action = 'restock'");
    run_to(0, &["audit", "--data-dir", data_dir]);
    let (told, _) = run_to(3, &marked);
    assert!(told.contains(&mark) && told.contains("cut off"), "{told}");
}
