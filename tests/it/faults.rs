//! `floodgate audit` finds what is wrong, and nothing else: books and journals with a fault planted
//! in them, and good ones that change while they are read.

use std::path::Path;

use floodgate_loadtest::buyers::{self, Control, CrowdPlan};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{Serving, audit, run_to};
use crate::gateway::{TestGateway, copy};
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE};

/// A data dir with every kind of order in it, and no gateway.
async fn good_books() -> TempDir {
    let kept = tempfile::tempdir().unwrap();
    let gateway = TestGateway::start_with(|settings| settings.ledger.lanes = 1).await;
    gateway.sell_consoles(9).await;
    gateway.hold("ann").await;
    let paid = gateway.hold("bob").await;
    gateway.pay(&paid, "p").await.expect(200);
    let cancelled = gateway.hold("eve").await;
    gateway.cancel("eve", &cancelled).await.expect(200);
    gateway.want("joe", CONSOLE, 2).send().await.expect(201);
    gateway.close_into(kept.path()).await;
    kept
}

fn change(dir: &Path, file: &str, sql: &str) {
    let connection = Connection::open(dir.join(file)).unwrap();
    // The books refuse an oversell by themselves; a fault has to get past that.
    connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
    let changed = connection.execute(sql, []).unwrap();
    assert!(changed > 0, "{sql}");
}

/// Proves that each of many planted faults is found, by the check that is there for it, and that
/// the same books without it are clean.
#[tokio::test]
async fn planted_faults_are_found() {
    let good = good_books().await;
    audit(good.path());
    let (store, ledger) = ("store.db", "ledger-0.db");
    let orders = "every reservation is exactly one order, and the same";
    let journal = "journal is whole: no gap, no damage, every step possible";
    let books = "the books' own counters agree, and do not oversell";
    let carts = "carts hold the lines of standing orders, and no others";
    let table = [
        (store, "UPDATE orders SET status = 'paid' WHERE user_id = 'ann'", orders),
        (store, "UPDATE orders SET status = 'expired' WHERE user_id = 'eve'", orders),
        (store, "UPDATE orders SET total = total - 1 WHERE user_id = 'joe'", orders),
        (store, "UPDATE orders SET created_at = created_at + 1 WHERE user_id = 'joe'", orders),
        (store, "UPDATE orders SET payment_ref = 'q' WHERE user_id = 'bob'", orders),
        (store, "UPDATE orders SET user_id = 'mallory' WHERE user_id = 'joe'", orders),
        (
            store,
            "UPDATE orders SET lines = replace(lines, '\"quantity\":2', '\"quantity\":1')
                 WHERE user_id = 'joe'",
            orders,
        ),
        (store, "DELETE FROM orders WHERE user_id = 'joe'", orders),
        (
            store,
            "INSERT INTO orders SELECT 'mallory', 'ffffffff-ffff-8fff-bfff-ffffffffffff',
                 sale_id, status, version, lines, total, currency, created_at, expires_at,
                 updated_at, payment_ref FROM orders WHERE user_id = 'joe'",
            orders,
        ),
        (store, "UPDATE items SET allocated = allocated - 1", books),
        (store, "UPDATE items SET stock = stock + 1", books),
        (store, "UPDATE items SET allocated = stock + 1", books),
        (store, "DELETE FROM items", books),
        (store, "DELETE FROM cart_lines WHERE user_id = 'ann'", carts),
        (store, "UPDATE cart_lines SET quantity = 3 WHERE user_id = 'joe'", carts),
        (store, "UPDATE cart_lines SET user_id = 'mallory' WHERE user_id = 'joe'", carts),
        (
            store,
            "INSERT INTO cart_lines SELECT user_id, 'console', order_id, 1 FROM orders
                 WHERE user_id = 'eve'",
            carts,
        ),
        (
            store,
            "INSERT INTO dead_letters VALUES (0, 1, 1, 'r', x'00', 0, 1, 0)",
            "no dead letters",
        ),
        (
            ledger,
            "UPDATE outbox SET payload = cast(replace(payload, 'joe', 'jim') AS BLOB)
                  WHERE instr(payload, 'joe')",
            journal,
        ),
        (ledger, "UPDATE outbox SET crc = crc + 1 WHERE seq = 3", journal),
        (ledger, "UPDATE outbox SET at = at + 1 WHERE seq = 3", journal),
        (ledger, "DELETE FROM outbox WHERE seq = 4", journal),
        (ledger, "DELETE FROM outbox WHERE seq = (SELECT max(seq) FROM outbox)", journal),
        (ledger, "DELETE FROM outbox", journal),
    ];
    for (file, sql, check) in table {
        let dir = tempfile::tempdir().unwrap();
        copy(good.path(), dir.path());
        change(dir.path(), file, sql);
        let (report, _) =
            run_to(3, &["audit", "--json", "--data-dir", dir.path().to_str().unwrap()]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["ok"], false, "{sql}");
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|found| found["name"] == check).unwrap();
        assert_eq!(found["ok"], false, "{sql}: {report}");
        assert!(!found["offenders"].as_array().unwrap().is_empty(), "{sql}: {report}");
    }
}

/// Proves that books which differ from what the ledger did are mended by what it did, that what nobody can
/// explain is left alone and said, and that nothing is mended from a journal that is in doubt.
#[tokio::test]
async fn books_are_reconciled() {
    let good = good_books().await;
    let (store, ledger) = ("store.db", "ledger-0.db");
    let reconcile = |dir: &Path, code: i32, more: &[&str]| {
        let command = ["reconcile", "--json", "--data-dir", dir.to_str().unwrap()];
        let (report, _) = run_to(code, &[&command[..], more].concat());
        serde_json::from_str::<Value>(&report).unwrap()
    };
    let agree = reconcile(good.path(), 0, &["--repair"]);
    assert_eq!((&agree["ok"], &agree["repaired"]), (&true.into(), &Value::Null));
    let mendable = [
        "UPDATE orders SET status = 'paid' WHERE user_id = 'ann'",
        "UPDATE orders SET total = total - 1, version = 9 WHERE user_id = 'joe'",
        "UPDATE orders SET payment_ref = 'q' WHERE user_id = 'bob'",
        "UPDATE orders SET lines = replace(lines, '\"quantity\":2', '\"quantity\":1')
             WHERE user_id = 'joe'",
        "DELETE FROM orders",
        "UPDATE items SET allocated = allocated - 1",
        "UPDATE items SET stock = stock + 1",
        "UPDATE items SET allocated = stock + 1",
        "DELETE FROM items",
        "DELETE FROM cart_lines",
        "UPDATE cart_lines SET quantity = 3 WHERE user_id = 'joe'",
        "INSERT INTO cart_lines SELECT user_id, 'console', order_id, 1 FROM orders
             WHERE user_id = 'eve'",
        // Nothing of what it tells is missing.
        "INSERT INTO dead_letters VALUES (0, 1, 1, 'r', x'00', 0, 1, 0)",
    ];
    for sql in mendable {
        let dir = tempfile::tempdir().unwrap();
        copy(good.path(), dir.path());
        change(dir.path(), store, sql);
        let found = reconcile(dir.path(), 3, &[]);
        assert_eq!(found["repaired"], Value::Null, "{sql}");
        let mended = reconcile(dir.path(), 0, &["--repair"]);
        let done = |what: &str| mended["repaired"][what].as_u64().unwrap();
        assert!(done("rows") + done("dead_letters") > 0, "{sql}: {mended}");
        audit(dir.path());
    }
    let left = [
        (store, "UPDATE orders SET user_id = 'mallory' WHERE user_id = 'joe'"),
        (ledger, "DELETE FROM outbox WHERE seq = 4"),
    ];
    for (file, sql) in left {
        let dir = tempfile::tempdir().unwrap();
        copy(good.path(), dir.path());
        change(dir.path(), file, sql);
        let report = reconcile(dir.path(), 3, &["--repair"]);
        assert_eq!(report["ok"], false, "{sql}: {report}");
        assert!(file != ledger || report["repaired"]["rows"] == 0, "{sql}: {report}");
    }
    run_to(2, &["reconcile", "--sale", "not an id"]);
    let empty = tempfile::tempdir().unwrap();
    run_to(4, &["reconcile", "--data-dir", empty.path().to_str().unwrap()]);
}

/// Removes a lane's journal, with what SQLite keeps beside it.
fn lose(dir: &Path, lane: u16) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.join(format!("ledger-{lane}.db{end}")));
    }
    assert!(!dir.join(format!("ledger-{lane}.db")).exists());
}

/// Proves that a journal that is gone is a broken promise, whichever it is and however many are gone with
/// it, that the other lanes are audited all the same, and that nothing is mended from what is left.
#[tokio::test]
async fn lost_journals_are_told() {
    const LANES: u16 = 4;
    let good = tempfile::tempdir().unwrap();
    let gateway = TestGateway::start_with(|settings| settings.ledger.lanes = LANES).await;
    gateway.sell_consoles(9).await;
    gateway.hold("ann").await;
    gateway.close_into(good.path()).await;
    audit(good.path());
    // The lane that the sale is in; then, with all of them gone, it is the books that know of it.
    let mut own = None;
    let each = (0..LANES).map(|lane| lane..lane + 1);
    for lost in each.chain(std::iter::once(0..LANES)) {
        let dir = tempfile::tempdir().unwrap();
        copy(good.path(), dir.path());
        lost.clone().for_each(|lane| lose(dir.path(), lane));
        let here = ["--json", "--data-dir", dir.path().to_str().unwrap()];
        let report = run_to(3, &[&["audit"][..], &here].concat()).0;
        let report: Value = serde_json::from_str(&report).unwrap();
        let told = report["checks"][0]["offenders"].to_string();
        let is_told = |lane: u16| told.contains(&format!("ledger-{lane}.db"));
        if lost.len() > 1 {
            assert!(is_told(own.unwrap()), "{report}");
        } else if report["sales"].as_array().unwrap().is_empty() {
            assert_eq!(own.replace(lost.start), None, "one lane takes the sale away");
            assert!(is_told(lost.start), "{report}");
        } else {
            assert_eq!(report["sales"][0]["reservations"], 1, "{lost:?}: {report}");
            assert!(is_told(lost.start), "{report}");
        }
        run_to(3, &[&["audit", "--sale", SALE][..], &here].concat());
        run_to(3, &[&["reconcile"][..], &here].concat());
        let (mended, _) = run_to(3, &[&["reconcile", "--repair"][..], &here].concat());
        let mended: Value = serde_json::from_str(&mended).unwrap();
        assert_eq!(mended["repaired"]["rows"], 0, "{lost:?}: {mended}");
    }
}

/// Proves that books of another ledger are refused rather than compared, by name: those of Redis without
/// one, those of a data dir with one, those of other lanes, those of another data dir.
#[tokio::test]
async fn books_of_another_ledger_are_no_alarm() {
    let good = good_books().await;
    let redis = ["--redis-url", "redis://127.0.0.1:1"];
    let look = |code: i32, dir: &Path, more: &[&str]| {
        let here = ["--data-dir", dir.to_str().unwrap()];
        let told = run_to(code, &[&["audit"][..], &here, more].concat()).1;
        let also = run_to(code, &[&["reconcile"][..], &here, more].concat()).1;
        assert_eq!(told, also);
        told
    };
    let told = look(64, good.path(), &redis);
    assert!(told.contains("another ledger (embedded)") && told.contains("REDIS_URL"), "{told}");
    let elsewhere = good.path().join("elsewhere.db");
    std::fs::copy(good.path().join("store.db"), &elsewhere).unwrap();
    let url = format!("sqlite:{}", elsewhere.display());
    let told = look(64, good.path(), &["--database-url", &url]);
    assert!(told.contains("another ledger (embedded)"), "{told}");

    let dir = tempfile::tempdir().unwrap();
    copy(good.path(), dir.path());
    std::fs::write(dir.path().join("gateway.id"), "the-right-one\n").unwrap();
    change(dir.path(), "store.db", "UPDATE ledger SET name = 'embedded, the-right-one'");
    look(0, dir.path(), &[]);
    change(dir.path(), "store.db", "UPDATE ledger SET name = 'embedded, another'");
    look(64, dir.path(), &[]);
    change(dir.path(), "store.db", "UPDATE ledger SET name = 'redis, ledger.lanes=2'");
    let told = look(64, dir.path(), &redis);
    assert!(told.contains("ledger.lanes=2") && told.contains("ledger.lanes=4"), "{told}");
    look(64, dir.path(), &[]);
    lose(dir.path(), 0);
    let told = look(64, dir.path(), &[]);
    assert!(told.contains("ledger in Redis") && told.contains("REDIS_URL"), "{told}");
}

/// Proves that an audit of a gateway that is busy selling raises no false alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_false_alarm() {
    const AUDITS: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let gateway = Serving::start(dir.path()).await;
    gateway.sell_consoles(1_000_000).await;
    let mut plan = CrowdPlan::new(gateway.public, SALE, &[CONSOLE], 1_000_000);
    plan.ops = Some(gateway.access());
    plan.habits.cancel_ratio = 0.3;
    let control = Control::default();
    let stop = control.stop.clone();
    let crowd = tokio::spawn(async move { buyers::run(&plan, control).await });
    for number in 1..=AUDITS {
        eventually("the crowd is served", async || {
            (gateway.counters().await[2] >= 20 * number as u64).then_some(())
        })
        .await;
        run_to(0, &["audit", "--data-dir", dir.path().to_str().unwrap()]);
    }
    assert!(!crowd.is_finished(), "it was busy all the time");
    stop.set();
    assert_eq!(crowd.await.unwrap().unwrap().anomalies, Vec::<String>::new());
    gateway.stop();
    audit(dir.path());
}

/// Proves the audit's other exit codes: nothing there, no such sale, no such sale's name; and that
/// people get a report that says what is wrong.
#[tokio::test]
async fn ends_of_an_audit() {
    let empty = tempfile::tempdir().unwrap();
    let (_, told) = run_to(4, &["audit", "--data-dir", empty.path().to_str().unwrap()]);
    assert!(told.contains(empty.path().to_str().unwrap()), "{told}");
    run_to(4, &["audit", "--data-dir", "/nowhere"]);
    let good = good_books().await;
    let here = ["--data-dir", good.path().to_str().unwrap()];
    let ask = |code: i32, words: &[&str]| {
        let arguments: Vec<&str> = ["audit"].iter().chain(words).chain(&here).copied().collect();
        run_to(code, &arguments)
    };
    let (report, _) = ask(0, &["--sale", SALE, "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let item = &report["sales"][0]["items"][0];
    assert_eq!(
        (&item["stock"], &item["held"], &item["confirmed"]),
        (&9.into(), &3.into(), &1.into())
    );
    assert_eq!(report["sales"][0]["orders"], 4);
    assert!(ask(0, &[]).0.contains("audit: clean"));
    ask(1, &["--sale", "unknown"]);
    let (failed, _) = ask(1, &["--sale", "unknown", "--json"]);
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed, json!({ "ok": false, "error": "there is no sale unknown" }));
    ask(2, &["--sale", "has space"]);
    change(good.path(), "store.db", "DELETE FROM orders WHERE user_id = 'joe'");
    let (report, _) = ask(3, &[]);
    assert!(report.contains("A PROMISE IS BROKEN") && report.contains("has no order"), "{report}");
}

/// Proves that a gateway does not sell on a ledger that has forgotten what the books know.
#[tokio::test]
async fn a_ledger_that_forgot() {
    let good = good_books().await;
    let forget = "DELETE FROM outbox WHERE seq = (SELECT max(seq) FROM outbox)";
    change(good.path(), "ledger-0.db", forget);
    let (_, told) = serve_in_vain(3, good.path());
    assert!(told.contains("forgotten"), "{told}");
}

/// Proves that a gateway does not sell on a journal that is damaged, and says where.
#[tokio::test]
async fn a_journal_that_rotted() {
    let good = good_books().await;
    change(good.path(), "ledger-0.db", "UPDATE outbox SET crc = crc + 1 WHERE seq = 3");
    let (_, told) = serve_in_vain(1, good.path());
    assert!(told.contains("ledger-0.db") && told.contains("checksum"), "{told}");
}

fn serve_in_vain(code: i32, dir: &Path) -> (String, String) {
    let any_port = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let mut arguments = vec!["serve", "--set", "ledger.lanes=1"];
    arguments.extend(["--data-dir", dir.to_str().unwrap()]);
    arguments.extend(any_port);
    run_to(code, &arguments)
}
