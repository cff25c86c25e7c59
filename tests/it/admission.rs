//! Who may ask how often, as clients see it. The buckets here fill too slowly for a test to notice, so
//! what is admitted does not depend on how fast it runs.

use floodgate::admission::{AdmissionSettings, HeaderStyle, Mode, RateSetting, ReadSettings};
use floodgate::http::{Auth, ClientAddress};
use serde_json::json;

use crate::gateway::TestGateway;
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, SALE, sale};

/// A bucket of so many tokens, and one more in a quarter of an hour.
const fn only(burst: u32) -> RateSetting {
    RateSetting { rate: 0.001, burst }
}

/// A gateway with these limits that sells consoles.
async fn limited(admission: AdmissionSettings) -> TestGateway {
    let gateway = TestGateway::start_with(|settings| settings.admission = admission).await;
    gateway.sell_consoles(100_000).await;
    gateway
}

fn unlimited() -> AdmissionSettings {
    AdmissionSettings::unlimited()
}

/// How many of so many requests are admitted, which are the first ones; the last answer.
async fn admitted(tries: usize, call: &Call) -> (usize, Answer) {
    let mut last = call.clone().send().await;
    let mut statuses = vec![last.status];
    for _ in 1..tries {
        last = call.clone().send().await;
        statuses.push(last.status);
    }
    let refused = statuses.iter().position(|status| *status == 429).unwrap_or(tries);
    assert!(statuses[refused..].iter().all(|status| *status == 429), "{statuses:?}");
    (refused, last)
}

/// Proves that a burst is served and the next request is told what it ran into: scope, policy, state and
/// when to come back; and that it got nowhere near the ledger.
#[tokio::test]
async fn beyond_the_burst() {
    let gateway = limited(AdmissionSettings { per_user: only(3), ..unlimited() }).await;
    let call = gateway.want("ann", CONSOLE, 1);
    for left in [2, 1, 0] {
        let answer = call.clone().send().await;
        answer.expect(201);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"user\";q=3;w=3000"));
        let state = format!("\"user\";r={left};t=1000");
        assert_eq!(answer.header("ratelimit"), Some(state.as_str()));
    }
    let answer = call.send().await;
    assert_eq!(answer.refused(429, "rate-limited")["scope"], "user");
    let retry = answer.retry_after().unwrap();
    assert!((990..=1_001).contains(&retry), "{retry}");
    assert_eq!(answer.header("ratelimit-policy"), Some("\"user\";q=3;w=3000"));
    let state = format!("\"user\";r=0;t={retry}");
    assert_eq!(answer.header("ratelimit"), Some(state.as_str()));
    gateway.want("bob", CONSOLE, 1).send().await.expect(201);
    let series = |gate: &str, outcome: &str| {
        format!("floodgate_admission_total{{gate=\"{gate}\",outcome=\"{outcome}\"}}")
    };
    assert_eq!(gateway.metric(&series("all", "passed")).await, 4.0);
    assert_eq!(gateway.metric(&series("per_user", "passed")).await, 4.0);
    assert_eq!(gateway.metric(&series("per_user", "refused")).await, 1.0);
    let outcome =
        format!("floodgate_reservations_total{{sale=\"{SALE}\",outcome=\"rate-limited\"}}");
    assert_eq!(gateway.metric(&outcome).await, 1.0);
    gateway.close().await;
}

/// Proves that the headers are those that the setting names.
#[tokio::test]
async fn header_styles() {
    const DRAFT: [&str; 2] = ["ratelimit-policy", "ratelimit"];
    const X: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    for (headers, draft, x) in [
        (HeaderStyle::Draft11, true, false),
        (HeaderStyle::X, false, true),
        (HeaderStyle::Both, true, true),
        (HeaderStyle::Off, false, false),
    ] {
        let settings = AdmissionSettings { per_user: only(1), headers, ..unlimited() };
        let gateway = limited(settings).await;
        let (passed, refused) = admitted(2, &gateway.want("ann", CONSOLE, 1)).await;
        assert_eq!(passed, 1);
        assert!(refused.retry_after().is_some());
        let has = |name: &&str| refused.header(name).is_some();
        assert_eq!((DRAFT.iter().all(has), X.iter().all(has)), (draft, x), "{headers:?}");
        assert_eq!((DRAFT.iter().any(has), X.iter().any(has)), (draft, x), "{headers:?}");
        gateway.close().await;
    }
}

/// Proves that a sale has a limit of its own, that everybody together has one, and that each is told as
/// what it is.
#[tokio::test]
async fn sales_and_everybody() {
    let settings = AdmissionSettings { per_sale: only(3), global: only(5), ..unlimited() };
    let gateway = limited(settings).await;
    gateway.sell(&sale("other", &[(CONSOLE, 9)])).await;
    let (passed, refused) = admitted(4, &gateway.want("ann", CONSOLE, 1)).await;
    assert_eq!((passed, &refused.json()["scope"]), (3, &json!("sale")));
    let body = json!({ "item_id": CONSOLE, "quantity": 1 });
    let other = gateway.call("POST", "/v1/sales/other/reservations").user("bob").json(&body);
    let (passed, refused) = admitted(3, &other).await;
    assert_eq!((passed, &refused.json()["scope"]), (2, &json!("global")));
    gateway.close().await;
}

/// Proves that what is refused without the ledger costs nothing: neither a sale that is not open nor one
/// that is sold out takes a token.
#[tokio::test]
async fn cheap_refusals_are_free() {
    let settings = AdmissionSettings { per_user: only(2), ..unlimited() };
    let gateway = TestGateway::start_with(|all| all.admission = settings).await;
    gateway.sell_consoles(1).await;
    gateway.step(SALE, "pause").await.expect(200);
    for _ in 0..5 {
        gateway.want("ann", CONSOLE, 1).send().await.refused(409, "sale-paused");
    }
    gateway.step(SALE, "resume").await.expect(200);
    gateway.hold("ann").await;
    for _ in 0..5 {
        gateway.want("ann", CONSOLE, 1).send().await.refused(409, "sold-out");
        gateway.want("bob", CONSOLE, 1).send().await.refused(409, "sold-out");
    }
    gateway.close().await;
}

/// Proves that a winner who asks again too often is told "later", never "no"; and that a retry counts.
#[tokio::test]
async fn retries_are_told_later() {
    let settings = AdmissionSettings { per_user: only(3), ..unlimited() };
    let gateway = TestGateway::start_with(|all| all.admission = settings).await;
    gateway.sell_consoles(1).await;
    let call = gateway.want("ann", CONSOLE, 1).key("k");
    assert!(!call.clone().send().await.replayed());
    for _ in 0..2 {
        assert!(call.clone().send().await.replayed(), "sold out by herself");
    }
    call.send().await.refused(429, "rate-limited");
    gateway.close().await;
}

/// Proves that cart writes count with reservations, and that what reads, or gives units back, has a limit
/// of its own.
#[tokio::test]
async fn writes_and_reads() {
    let reads = ReadSettings { per_user: only(4), per_ip: only(2) };
    let settings = AdmissionSettings { per_user: only(3), reads, ..unlimited() };
    let gateway = limited(settings).await;
    let path = format!("/v1/cart/items/{CONSOLE}");
    let put = gateway.call("PUT", &path).user("ann").json(&json!({ "quantity": 1 }));
    let answer = put.clone().send().await;
    answer.expect(200);
    assert_eq!(answer.header("ratelimit"), Some("\"user\";r=2;t=1000"));
    let hold = gateway.hold("ann").await;
    gateway.call("DELETE", "/v1/cart").user("ann").send().await.expect(200);
    put.send().await.refused(429, "rate-limited");
    gateway.want("ann", CONSOLE, 1).send().await.refused(429, "rate-limited");
    gateway.cart("ann").await;
    gateway.look("ann", &hold).await.expect(200);
    gateway.cancel("ann", &hold).await.expect(200);
    gateway.call("GET", "/v1/orders").user("ann").send().await.expect(200);
    let refused = gateway.call("GET", "/v1/cart").user("ann").send().await;
    assert_eq!(refused.refused(429, "rate-limited")["scope"], "user");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"user-reads\";q=4;w=4000"));
    // Pages need no user.
    let page = |address| gateway.call("GET", "/v1/sales").header("x-forwarded-for", address);
    let (passed, refused) = admitted(3, &page("192.0.2.1")).await;
    assert_eq!((passed, &refused.json()["scope"]), (2, &json!("ip")));
    page("192.0.2.2").send().await.expect(200);
    assert_eq!(admitted(9, &gateway.call("GET", "/healthz")).await.0, 9);
    gateway.close().await;
}

/// Proves that an address is limited whoever the users behind it are, that IPv6 is told apart by /64,
/// and that a client whom the proxy does not name is not limited.
#[tokio::test]
async fn addresses() {
    let gateway = limited(AdmissionSettings { per_ip: only(2), ..unlimited() }).await;
    let from = async |user: &str, address: &str| {
        let call = gateway.want(user, CONSOLE, 1).header("x-forwarded-for", address);
        let answer = call.send().await;
        if answer.status == 201 {
            return true;
        }
        assert_eq!(answer.refused(429, "rate-limited")["scope"], "ip");
        false
    };
    assert!(from("ann", "192.0.2.1").await && from("bob", "192.0.2.1:999").await);
    assert!(!from("cat", "::ffff:192.0.2.1").await);
    assert!(from("cat", "192.0.2.2").await);
    assert!(from("ann", "2001:db8::1").await && from("bob", "2001:db8::2").await);
    assert!(!from("cat", "2001:db8::ffff:3").await);
    assert!(from("cat", "2001:db8:0:1::3").await);
    assert_eq!(admitted(9, &gateway.want("ann", CONSOLE, 1)).await.0, 9, "not named");
    gateway.close().await;
}

/// Proves that nothing that a client writes into the headers gets it another address than the one that
/// the proxy saw.
#[tokio::test]
async fn spoofing_does_not_help() {
    let gateway = limited(AdmissionSettings { per_ip: only(3), ..unlimited() }).await;
    for (number, invented) in [
        "192.0.2.7",
        "192.0.2.7, 192.0.2.8",
        "unknown",
        "\"",
        "127.0.0.1",
        "203.0.113.9, 127.0.0.1, ",
        "[::1",
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("user-{number}");
        let call = gateway.want(&user, CONSOLE, 1).header("x-forwarded-for", invented);
        // What the proxy adds, as a line of its own and at the end of the client's.
        let call = if number % 2 == 0 {
            call.header("x-forwarded-for", "203.0.113.9")
        } else {
            let both = format!("{invented}, 203.0.113.9");
            gateway.want(&user, CONSOLE, 1).header("x-forwarded-for", &both)
        };
        let status = call.send().await.status;
        assert_eq!(status, if number < 3 { 201 } else { 429 }, "{invented}");
    }
    gateway.close().await;
}

/// Proves that a header of the other kind, which the proxy passes on, is no way out either; and that
/// with the kind named in the settings it changes nothing.
#[tokio::test]
async fn a_second_header_does_not_help() {
    for (client_address, passes) in [(ClientAddress::Auto, 2), (ClientAddress::XForwardedFor, 0)] {
        let settings = AdmissionSettings { per_ip: only(2), ..unlimited() };
        let gateway = TestGateway::start_with(|all| {
            all.admission = settings;
            all.client_address = client_address;
        })
        .await;
        gateway.sell_consoles(99).await;
        let honest = gateway.want("ann", CONSOLE, 1).header("x-forwarded-for", "203.0.113.9");
        assert_eq!(admitted(5, &honest).await.0, 2);
        let mut passed = 0;
        for number in 0..6 {
            let invented = format!("for=192.0.2.{number}");
            let answer = honest.clone().header("forwarded", &invented).send().await;
            passed += usize::from(answer.status == 201);
        }
        assert_eq!(passed, passes, "all contradictions share the proxy's bucket");
        gateway.close().await;
    }
}

/// Proves that whoever is no trusted proxy is limited by the address that they have.
#[tokio::test]
async fn strangers_have_their_own_address() {
    let settings = AdmissionSettings { per_ip: only(2), ..unlimited() };
    let gateway = TestGateway::start_with(|all| {
        all.admission = settings;
        all.auth = Auth::Insecure;
        all.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    gateway.sell_consoles(9).await;
    let mut passed = 0;
    for number in 0..5 {
        let spoofed = format!("192.0.2.{number}");
        let call = gateway.want("ann", CONSOLE, 1).header("x-forwarded-for", &spoofed);
        passed += usize::from(call.send().await.status == 201);
    }
    assert_eq!(passed, 2);
    gateway.close().await;
}

/// Proves that with smoothing a burst of one user leaves one after the other instead of being refused;
/// that those for whom there is no time are refused; and that others do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoothing() {
    const PERIOD_MS: u32 = 50;
    let settings = AdmissionSettings {
        per_user: RateSetting { rate: 1_000.0 / f64::from(PERIOD_MS), burst: 1 },
        mode: Mode::Smooth,
        smooth_max_ms: 400,
        ..unlimited()
    };
    let gateway = limited(settings).await;
    let call = gateway.want("ann", CONSOLE, 1);
    let began = std::time::Instant::now();
    let calls: Vec<_> = (0..40).map(|_| tokio::spawn(call.clone().send())).collect();
    let mut served = 0;
    for call in calls {
        let answer = call.await.unwrap();
        if answer.status == 201 {
            served += 1;
        } else {
            answer.refused(429, "rate-limited");
        }
    }
    let took = began.elapsed().as_millis();
    let came_in = took / u128::from(PERIOD_MS) + 1;
    assert!(served <= came_in, "{served} in {took} ms");
    assert!(served >= 400 / u128::from(PERIOD_MS), "whoever had the time was served: {served}");
    gateway.close().await;
}

/// Proves that whoever waited for a token is judged by what the sale has come to meanwhile, without the
/// ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sale_goes_on_while_some_wait() {
    let settings = AdmissionSettings {
        per_user: RateSetting { rate: 0.25, burst: 1 },
        mode: Mode::Smooth,
        smooth_max_ms: 5_000,
        ..unlimited()
    };
    let gateway = TestGateway::start_with(|all| all.admission = settings).await;
    gateway.sell_consoles(2).await;
    gateway.hold("ann").await;
    let waiting = tokio::spawn(gateway.want("ann", CONSOLE, 1).send());
    crate::patience::eventually("ann waits", async || {
        let series = "floodgate_admission_total{gate=\"per_user\",outcome=\"delayed\"}";
        (gateway.metric(series).await == 1.0).then_some(())
    })
    .await;
    gateway.step(SALE, "pause").await.expect(200);
    waiting.await.unwrap().refused(409, "sale-paused");
    assert_eq!(
        gateway.metric("floodgate_admission_total{gate=\"all\",outcome=\"passed\"}").await,
        1.0
    );
    gateway.close().await;
}

/// Proves that the defaults are those of the documentation, and leave a client alone whom the proxy does
/// not name.
#[tokio::test]
async fn defaults() {
    let gateway = limited(AdmissionSettings::default()).await;
    let answer = gateway.want("ann", CONSOLE, 1).send().await;
    assert_eq!(answer.header("ratelimit-policy"), Some("\"user\";q=10;w=2"));
    for user in 0..300 {
        gateway.hold(&format!("user-{user}")).await;
    }
    gateway.close().await;
}
