//! What a running gateway takes over from its configuration file, and when.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::binary::{Serving, audit};
use crate::patience::eventually;
use crate::shop::CONSOLE;

const SUCCESSFUL: &str = "floodgate_config_last_reload_successful";
const SUCCEEDED_AT: &str = "floodgate_config_last_reload_success_timestamp_seconds";

/// Users have so many requests, and one more in a quarter of an hour.
fn write(file: &Path, burst: u32, more: &str) {
    let text = format!("{more}\n[admission.per_user]\nrate = 0.001\nburst = {burst}\n");
    std::fs::write(file, text).unwrap();
}

async fn start(data: &Path, file: &Path) -> Serving {
    let gateway = Serving::start_limited(data, &["--config", file.to_str().unwrap()], &[]).await;
    gateway.sell_consoles(99).await;
    gateway
}

/// How many requests a user has left.
pub async fn left(gateway: &Serving, user: &str) -> usize {
    for passed in 0..99 {
        let answer = gateway.want(user, CONSOLE, 1).send().await;
        if answer.status == 429 {
            return passed;
        }
        answer.expect(201);
    }
    99
}

/// Proves that SIGHUP puts another rate into force without a restart; that a file with a fault leaves
/// the old one in force, and says so in the metrics and the log; and that a change which has to wait for
/// a restart is named.
#[tokio::test]
async fn sighup_changes_a_rate() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("floodgate.toml"), dir.path().join("data"));
    write(&file, 2, "");
    let gateway = start(&data, &file).await;
    assert_eq!(gateway.metric(SUCCESSFUL).await, 1.0);
    let started_at = gateway.metric(SUCCEEDED_AT).await;
    assert!(started_at > 1e9);
    assert_eq!(left(&gateway, "ann").await, 2);
    write(&file, 5, "");
    gateway.signal(Signal::HUP);
    gateway.log().wait_for("configuration reloaded");
    assert_eq!(left(&gateway, "ann").await, 5);
    let reloaded_at = gateway.metric(SUCCEEDED_AT).await;
    assert!(reloaded_at > started_at);
    std::fs::write(&file, "[admission.per_user]\nrate = \"fast\"\n").unwrap();
    gateway.signal(Signal::HUP);
    eventually("the metric says so", async || {
        (gateway.metric(SUCCESSFUL).await == 0.0).then_some(())
    })
    .await;
    let said = gateway.log().wait_for("the configuration was not reloaded; the old one stays");
    let error = said["error"].as_str().unwrap();
    assert!(error.contains("admission.per_user.rate"), "{error}");
    assert_eq!(left(&gateway, "ann").await, 0, "her bucket is as it was");
    assert_eq!(left(&gateway, "bob").await, 5);
    assert_eq!(gateway.metric(SUCCEEDED_AT).await, reloaded_at);
    write(&file, 5, "client_address = \"peer\"");
    gateway.signal(Signal::HUP);
    let said = gateway.log().wait_for("changed keys are in force after a restart only");
    assert_eq!(said["keys"], "client_address");
    assert_eq!(gateway.metric(SUCCESSFUL).await, 1.0);
    assert_eq!(left(&gateway, "bob").await, 0, "a quota that stays keeps its buckets");
    let newest = async || {
        let log = gateway.admin("GET", "/admin/v1/audit-log?limit=1").send().await.expect(200);
        log["entries"][0].clone()
    };
    let entry = eventually("the audit log says so", async || {
        let entry = newest().await;
        (entry["after"]["changed"] == json!(["client_address"])).then_some(entry)
    })
    .await;
    assert_eq!((&entry["actor"], &entry["action"]), (&json!("configuration"), &json!("reload")));
    assert_eq!(entry["after"]["after_restart"], json!(["client_address"]));
    gateway.stop();
    audit(&data);
}

/// Proves that a reload of a file that is no TOML logs the place of the fault, and not the line with the
/// secret.
#[tokio::test]
async fn a_fault_of_syntax_logs_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("floodgate.toml"), dir.path().join("data"));
    write(&file, 2, "");
    let gateway = start(&data, &file).await;
    write(&file, 2, "[jwt]\nsecret = canary-canary-canary");
    gateway.signal(Signal::HUP);
    let said = gateway.log().wait_for("the configuration was not reloaded; the old one stays");
    assert!(said["error"].as_str().unwrap().contains("line 2, column 10"), "{said}");
    let log = gateway.log().clone();
    gateway.stop();
    assert!(!log.text().contains("canary"), "{}", log.text());
}

/// Proves that a change of the file is noticed within five seconds, without a signal.
#[tokio::test]
async fn a_changed_file_is_noticed() {
    const SOON: Duration = Duration::from_secs(5);
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("floodgate.toml"), dir.path().join("data"));
    write(&file, 2, "");
    let gateway = start(&data, &file).await;
    assert_eq!(left(&gateway, "ann").await, 2);
    write(&file, 4, "");
    let changed = Instant::now();
    eventually("the file is noticed", async || {
        (gateway.want("ann", CONSOLE, 1).send().await.status == 201).then_some(())
    })
    .await;
    assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
    assert_eq!(left(&gateway, "ann").await, 3);
    gateway.stop();
    audit(&data);
}

/// Proves that every metric of ours says what it is, also those that belong to the program alone.
#[tokio::test]
async fn every_metric_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(9).await;
    gateway.hold("ann").await;
    let scrape = gateway.stranger("GET", "/metrics").send().await;
    let scrape = String::from_utf8(scrape.body.to_vec()).unwrap();
    let named = |kind: &str| -> Vec<&str> {
        let lines = scrape.lines().filter_map(|line| line.strip_prefix(kind));
        lines.filter_map(|line| line.split(' ').next()).collect()
    };
    let (typed, helped) = (named("# TYPE "), named("# HELP "));
    assert!(typed.contains(&SUCCESSFUL) && typed.contains(&SUCCEEDED_AT), "{scrape}");
    for metric in typed {
        assert!(helped.contains(&metric), "{metric} has no HELP");
    }
    gateway.stop();
}
