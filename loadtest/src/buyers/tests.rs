//! A crowd against a toy shop: in order, flaky, lying, and dying.

mod shop;

use std::time::Duration;

use self::shop::{Quirk, Shop};
use super::{Control, CrowdPlan, CrowdReport, Habits, Identity, resolve, run};
use crate::ops::OpsAccess;
use crate::oracle::{Scope, Verdict, examine};

const ITEMS: [(&str, i64); 2] = [("a", 60), ("b", 40)];

fn plan(shop: &Shop, users: u64) -> CrowdPlan {
    let mut plan = CrowdPlan::new(shop.addr, "flash", &["a", "b"], users);
    plan.ops = Some(OpsAccess::new(shop.addr, "token"));
    plan.connections = 16;
    plan.patience.backoff_max = Duration::from_millis(20);
    plan.habits = Habits {
        duplicate_ratio: 0.4,
        retry_ratio: 0.4,
        reuse_ratio: 0.3,
        look_ratio: 0.3,
        cancel_ratio: 0.3,
        confirm_ratio: 0.5,
        basket_ratio: 0.2,
    };
    plan
}

async fn go(plan: &CrowdPlan) -> CrowdReport {
    let report = run(plan, Control::default()).await.unwrap();
    assert_eq!(report.attempts, report.outcomes.values().sum::<u64>(), "figures add up");
    assert_eq!(report.latency_us["all"].count + not_timed(&report), report.attempts);
    report
}

fn not_timed(report: &CrowdReport) -> u64 {
    let never_ended = report.history.entries().iter().filter(|entry| entry.end_us == 0).count();
    report.outcomes.get("not-sent").copied().unwrap_or(0) + never_ended as u64
}

async fn judge(shop: &Shop, report: &CrowdReport, sold_out: bool) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    shop.write_store(dir.path());
    let ops = OpsAccess::new(shop.addr, "token");
    let scope = Scope { complete: true, sold_out, ..Scope::default() };
    let within = Duration::from_secs(5);
    examine(&ops, dir.path(), "flash", &report.history, scope, within).await.unwrap()
}

/// Proves the whole way with a shop in order: everything is sold, every standing winner has paid,
/// nothing is strange, every habit was seen, and the oracle is content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_in_order() {
    let shop = Shop::open(&ITEMS, Quirk::None).await;
    let report = go(&plan(&shop, 400)).await;
    assert_eq!(report.anomalies, Vec::<String>::new());
    for outcome in [
        "reserved",
        "replayed",
        "cancelled",
        "cancel-replayed",
        "confirmed",
        "confirm-replayed",
        "seen",
        "not-found",
        "sold-out",
        "idempotency-key-reused",
        "reservation-confirmed",
    ] {
        assert!(report.outcomes.contains_key(outcome), "{outcome}: {:?}", report.outcomes);
    }
    assert_eq!(report.reservations, report.outcomes["reserved"]);
    let verdict = judge(&shop, &report, true).await;
    assert!(verdict.ok, "{verdict}");
    let pending = shop.books.lock().unwrap().count("pending_payment");
    assert_eq!(pending, 0, "everybody has paid");
}

/// Proves that a crowd without the ops listener also sells everything, with identities in bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ops_and_with_bodies() {
    let shop = Shop::open(&ITEMS, Quirk::None).await;
    let mut plan = plan(&shop, 400);
    (plan.ops, plan.identity) = (None, Identity::Body);
    let report = go(&plan).await;
    assert_eq!(report.anomalies, Vec::<String>::new());
    assert!(!report.outcomes.contains_key("confirmed"));
    let verdict = judge(&shop, &report, true).await;
    assert!(verdict.ok, "{verdict}");
}

/// Proves that lost answers and "come back later" end in the same order: nothing is sold twice to
/// one key, and what stays unknown is resolved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flaky_shop() {
    let shop = Shop::open(&ITEMS, Quirk::Flaky).await;
    let plan = plan(&shop, 300);
    let mut report = go(&plan).await;
    assert_eq!(report.anomalies, Vec::<String>::new());
    assert!(report.outcomes["unknown"] > 0 && report.outcomes["overloaded"] > 0);
    let shop = shop.reopen().await;
    let resolution = resolve(&mut report.history, &plan, Control::default()).await.unwrap();
    assert_eq!(resolution.unresolved, 0);
    let verdict = judge(&shop, &report, false).await;
    assert!(verdict.ok, "{verdict}");
}

/// Proves that buyers who were turned away at a closed door come back in a later wave, so that the
/// last unit sells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_chances() {
    let shop = Shop::open(&ITEMS, Quirk::PausedAtFirst).await;
    let mut plan = plan(&shop, 130);
    plan.habits = Habits::PLAIN;
    let report = go(&plan).await;
    assert!(report.waves > 0 && report.outcomes["sale-paused"] == 50, "{:?}", report.outcomes);
    let verdict = judge(&shop, &report, true).await;
    assert!(verdict.ok, "{verdict}");
}

/// Proves that the lies of a shop are noticed, by the buyers and by the oracle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_shops() {
    for (quirk, anomaly, check) in [
        (Quirk::ForgetsKeys, "two reservations for one key", Some("one reservation a key")),
        (Quirk::ChangesReplays, "a replay with another body", Some("replays are equal")),
        (Quirk::ShowsStrangers, "stranger reads", None),
    ] {
        let shop = Shop::open(&ITEMS, quirk).await;
        let report = go(&plan(&shop, 200)).await;
        assert!(report.anomalies_total >= report.anomalies.len() as u64);
        assert!(report.anomalies.iter().any(|found| found.contains(anomaly)), "{quirk:?}");
        if let Some(check) = check {
            let verdict = judge(&shop, &report, false).await;
            assert!(!verdict.check(check).unwrap().ok, "{quirk:?}\n{verdict}");
        }
    }
}

/// Proves that a crowd goes home when the shop dies, keeps what it does not know as unknown, and
/// gets definite answers when the shop is back; then the oracle is content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_that_dies() {
    let shop = Shop::open(&ITEMS, Quirk::DiesAtHundred).await;
    let mut plan = plan(&shop, 2_000);
    plan.stop_on_disconnect = true;
    let mut report = go(&plan).await;
    assert!(report.stopped && report.outcomes["unknown"] > 0);
    assert!(report.attempts < 1_000, "went home early");

    let shop = shop.reopen().await;
    let before = report.history.len();
    let resolution = resolve(&mut report.history, &plan, Control::default()).await.unwrap();
    assert!(resolution.unknown > 0 && resolution.unresolved == 0, "{resolution:?}");
    assert_eq!(resolution.unknown, resolution.granted + resolution.refused);
    assert!(report.history.len() >= before + usize::try_from(resolution.unknown).unwrap());

    // A second crowd of other people buys the rest; both histories together are complete.
    (plan.first_user, plan.users, plan.stop_on_disconnect) = (10_000, 300, false);
    let rest = go(&plan).await;
    assert_eq!(rest.anomalies, Vec::<String>::new());
    report.history.append(rest.history);
    let verdict = judge(&shop, &report, true).await;
    assert!(verdict.ok, "{verdict}");
}

/// Proves that a stop flag ends a crowd that would otherwise wait for long.
#[tokio::test]
async fn stop_flag_ends_it() {
    let shop = Shop::open(&ITEMS, Quirk::None).await;
    let control = Control::default();
    control.stop.set();
    let report = run(&plan(&shop, 100_000), control).await.unwrap();
    assert!(report.stopped && report.attempts == 0);
}

/// Proves that progress is told, up to the last buyer of the burst.
#[tokio::test]
async fn tells_progress() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let shop = Shop::open(&ITEMS, Quirk::None).await;
    let home = Arc::new(AtomicU64::new(0));
    let seen = home.clone();
    let progress = crate::progress::ProgressFn::new(move |progress| {
        if progress.wave == 0 {
            seen.fetch_max(progress.done, Ordering::Relaxed);
            assert_eq!(progress.total, 50);
        }
    });
    let control = Control { progress: Some(progress), ..Control::default() };
    run(&plan(&shop, 50), control).await.unwrap();
    assert_eq!(home.load(Ordering::Relaxed), 50);
}
