use super::*;
use crate::admission::settings::{Mode, ReadSettings};

/// A bucket that fills too slowly for a test to see.
const fn only(burst: u32) -> RateSetting {
    RateSetting { rate: 0.001, burst }
}

fn unlimited() -> AdmissionSettings {
    AdmissionSettings::unlimited()
}

fn buckets(settings: &AdmissionSettings) -> Buckets {
    Buckets::new(settings, &Metrics::new())
}

fn asking<'a>(user: &'a str, client: &str, sale: &'a str) -> Asking<'a> {
    Asking { user: Some(user), client: client.parse().ok(), sale: Some(sale) }
}

/// How many of so many tries are let through, and which limit stops the rest.
async fn writes(buckets: &Buckets, tries: usize, asking: Asking<'_>) -> (usize, Option<Limit>) {
    let (mut passed, mut stopped) = (0, None);
    for _ in 0..tries {
        match buckets.admit_write(asking).await {
            Ok(_) => passed += 1,
            Err(RateLimited(standing)) => stopped = Some(standing.limit),
        }
    }
    (passed, stopped)
}

/// Proves that each limit stops what it is for, and nobody else.
#[tokio::test]
async fn each_limit() {
    let ann = asking("ann", "192.0.2.1", "s1");
    let cases = [
        (Limit::PerUser, AdmissionSettings { per_user: only(3), ..unlimited() }),
        (Limit::PerIp, AdmissionSettings { per_ip: only(3), ..unlimited() }),
        (Limit::PerSale, AdmissionSettings { per_sale: only(3), ..unlimited() }),
        (Limit::Global, AdmissionSettings { global: only(3), ..unlimited() }),
    ];
    for (limit, settings) in cases {
        let buckets = buckets(&settings);
        assert_eq!(writes(&buckets, 5, ann).await, (3, Some(limit)));
        // Another user, another address, another sale: each alone, then all three.
        let others = [
            (Limit::PerUser, asking("bob", "192.0.2.1", "s1")),
            (Limit::PerIp, asking("ann", "192.0.2.2", "s1")),
            (Limit::PerSale, asking("ann", "192.0.2.1", "s2")),
        ];
        for (differs, other) in others {
            let passed = if differs == limit { 3 } else { 0 };
            assert_eq!(writes(&buckets, 3, other).await.0, passed, "{limit:?} {differs:?}");
        }
        assert!(buckets.admit_read(ann).is_ok(), "reads are apart");
    }
}

/// Proves that reads have limits of their own, by user and by address.
#[tokio::test]
async fn reads_are_apart() {
    let reads = ReadSettings { per_user: only(2), per_ip: only(3) };
    let buckets = buckets(&AdmissionSettings { reads, ..unlimited() });
    let read = |user, client| {
        let asking = Asking { user, ..asking("", client, "") };
        buckets.admit_read(asking).map_err(|RateLimited(standing)| standing.limit)
    };
    let address = "192.0.2.1";
    assert_eq!([read(Some("ann"), address), read(Some("ann"), address)], [Ok(()); 2]);
    assert_eq!(read(Some("ann"), address), Err(Limit::ReadsPerUser));
    assert_eq!(read(None, address), Ok(()), "a user that was refused took nothing of the address");
    assert_eq!(read(Some("bob"), address), Err(Limit::ReadsPerIp));
    assert_eq!(read(Some("bob"), "192.0.2.2"), Ok(()));
    assert_eq!(writes(&buckets, 9, asking("ann", address, "s")).await, (9, None));
}

/// Proves that a user who is refused takes nothing from those behind the same address, and nobody who is
/// refused takes anything from the sale.
#[tokio::test]
async fn refusals_take_nothing_from_others() {
    let settings =
        AdmissionSettings { per_user: only(2), per_ip: only(5), per_sale: only(8), ..unlimited() };
    let buckets = buckets(&settings);
    fn at<'a>(user: &'a str, client: &str) -> Asking<'a> {
        asking(user, client, "s")
    }
    assert_eq!(writes(&buckets, 1_000, at("ann", "192.0.2.1")).await, (2, Some(Limit::PerUser)));
    assert_eq!(writes(&buckets, 2, at("bob", "192.0.2.1")).await, (2, None));
    assert_eq!(writes(&buckets, 1_000, at("cat", "192.0.2.1")).await.0, 1);
    for user in 0..1_000 {
        let user = format!("robot-{user}");
        assert_eq!(writes(&buckets, 1, at(&user, "192.0.2.1")).await, (0, Some(Limit::PerIp)));
    }
    assert_eq!(writes(&buckets, 2, at("dan", "192.0.2.2")).await, (2, None));
    assert_eq!(writes(&buckets, 2, at("eve", "192.0.2.3")).await.0, 1, "eight of the sale");
}

/// Proves that a client whose address is not known is not limited by address.
#[tokio::test]
async fn unknown_addresses() {
    let buckets = buckets(&AdmissionSettings { per_ip: only(1), ..unlimited() });
    let unknown = Asking { client: None, ..asking("ann", "", "s") };
    assert_eq!(writes(&buckets, 50, unknown).await, (50, None));
}

/// Proves that other settings are in force at once, that a limit whose quota stays keeps what was taken
/// out of its buckets, and that one that changes begins anew.
#[tokio::test]
async fn reconfiguring() {
    let settings = AdmissionSettings { per_user: only(2), per_sale: only(9), ..unlimited() };
    let buckets = buckets(&settings);
    let ann = asking("ann", "192.0.2.1", "s");
    assert_eq!(writes(&buckets, 5, ann).await, (2, Some(Limit::PerUser)));
    buckets.reconfigure(&AdmissionSettings { headers: HeaderStyle::X, ..settings.clone() });
    let RateLimited(standing) = buckets.admit_write(ann).await.unwrap_err();
    assert_eq!((standing.limit, standing.headers), (Limit::PerUser, HeaderStyle::X));
    buckets.reconfigure(&AdmissionSettings { per_user: only(4), ..settings.clone() });
    assert_eq!(writes(&buckets, 9, ann).await, (4, Some(Limit::PerUser)));
    buckets.reconfigure(&AdmissionSettings { per_user: RateSetting::OFF, ..settings });
    assert_eq!(writes(&buckets, 9, ann).await, (3, Some(Limit::PerSale)), "nine in all");
}

/// Proves that a client is told a quota that it can keep to, and when to come back: a burst in the time
/// that it takes to refill, and the whole seconds until there is a token.
#[tokio::test]
async fn what_clients_are_told() {
    let per_user = RateSetting { rate: 0.4, burst: 3 };
    let buckets = buckets(&AdmissionSettings { per_user, ..unlimited() });
    let ann = asking("ann", "192.0.2.1", "s");
    let first = buckets.admit_write(ann).await.unwrap().standing.unwrap();
    let told = |standing: &Standing| (standing.burst, standing.window_seconds, standing.remaining);
    assert_eq!(told(&first), (3, 8, 2), "three in 7.5 s");
    assert_eq!(first.more_in_seconds, 3, "one in 2.5 s");
    assert_eq!(writes(&buckets, 2, ann).await, (2, None));
    let limited = buckets.admit_write(ann).await.unwrap_err();
    assert_eq!(told(&limited.0), (3, 8, 0));
    assert_eq!(limited.retry_seconds(), (3, 1));
}

/// One a user at once, and one more every ten seconds, for which two have the patience to wait.
fn smooth() -> AdmissionSettings {
    AdmissionSettings {
        per_user: RateSetting { rate: 0.1, burst: 1 },
        mode: Mode::Smooth,
        smooth_max_ms: 25_000,
        ..unlimited()
    }
}

/// Proves that with smoothing each request gets a token of its own to wait for, and one for which none
/// comes in time is refused.
#[test]
fn smoothing() {
    let buckets = buckets(&smooth());
    let ann = asking("ann", "192.0.2.1", "s");
    let pay = || {
        let set = buckets.set.load();
        let paid = buckets.pay(&set, Limit::WRITES, ann, set.patience);
        paid.map(|payment| payment.wait.as_secs_f64().round()).map_err(|limited| limited.0.limit)
    };
    assert_eq!([pay(), pay(), pay()], [Ok(0.0), Ok(10.0), Ok(20.0)]);
    assert_eq!(pay(), Err(Limit::PerUser));
    assert_eq!(pay(), Err(Limit::PerUser), "a refusal takes no place in the queue");
}

/// Proves that no more requests wait than may: the next is refused where it would have waited.
#[tokio::test]
async fn waiting_is_bounded() {
    let buckets = buckets(&smooth());
    let ann = asking("ann", "192.0.2.1", "s");
    let all = u32::try_from(limits::SMOOTH_WAITING_MAX).unwrap();
    let _all = buckets.waiting.acquire_many(all).await.unwrap();
    assert_eq!(writes(&buckets, 3, ann).await, (1, Some(Limit::PerUser)));
}

/// Proves that sweeping tells how many buckets there are, and forgets those that are full again.
#[tokio::test]
async fn the_gauge_of_keys() {
    let metrics = Metrics::new();
    let settings = AdmissionSettings {
        per_user: only(1),
        per_ip: RateSetting { rate: 1_000_000.0, burst: 1 },
        ..unlimited()
    };
    let buckets = Buckets::new(&settings, &metrics);
    for user in 0..300 {
        let user = format!("user-{user}");
        buckets.admit_write(asking(&user, &format!("10.0.0.{}", user.len()), "s")).await.ok();
    }
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    buckets.sweep().await;
    let text = metrics.render();
    assert!(text.contains("floodgate_admission_keys{gate=\"per_user\"} 300"), "{text}");
    assert!(text.contains("floodgate_admission_keys{gate=\"per_ip\"} 0"), "{text}");
}
