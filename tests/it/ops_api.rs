//! The ops listener: who may do what, and what Prometheus and probes get to see.

use serde_json::json;

use crate::gateway::TestGateway;
use crate::shop::{CONSOLE, SALE};

/// Proves that everything below `/admin` wants the token, whether it exists or not, and that
/// nothing changes without it.
#[tokio::test]
async fn operators_show_their_token() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let id = gateway.hold("ann").await;
    let sale = format!("/admin/v1/sales/{SALE}");
    let routes = [
        ("GET", "/admin/v1/sales".to_owned()),
        ("POST", "/admin/v1/sales".to_owned()),
        ("GET", sale.clone()),
        ("POST", format!("{sale}/open")),
        ("POST", format!("{sale}/pause")),
        ("POST", format!("{sale}/resume")),
        ("POST", format!("{sale}/close")),
        ("POST", format!("{sale}/items/{CONSOLE}/restock")),
        ("POST", format!("/admin/v1/reservations/{id}/confirm")),
        ("POST", format!("/admin/v1/reservations/{id}/cancel")),
        ("GET", "/admin/v1/audit-log".to_owned()),
        ("DELETE", "/admin/v1/audit-log".to_owned()),
        ("GET", "/admin/v1/nothing".to_owned()),
        ("GET", "/admin".to_owned()),
    ];
    let token = &gateway.token;
    let wrong = [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some("Bearer wrong".to_owned()),
        Some(format!("Bearer {}", &token[1..])),
        Some(format!("Bearer {token}x")),
        Some(format!("Basic {token}")),
        Some(token.clone()),
    ];
    let body = json!({ "delta": 1, "reason": "r", "payment_ref": "p" });
    for (method, path) in &routes {
        for wrong in &wrong {
            let call = gateway.stranger(method, path);
            let call = match wrong {
                Some(wrong) => call.header("authorization", wrong),
                None => call,
            };
            let call = if *method == "POST" { call.json(&body) } else { call };
            let answer = call.send().await;
            answer.refused(401, "identity-required");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        }
    }
    assert_eq!(gateway.counters().await, [5, 4, 1, 0]);
    assert_eq!(gateway.state(SALE).await, "open");
    let lower = gateway.stranger("GET", &sale).header("authorization", &format!("bearer {token}"));
    lower.send().await.expect(200);
    gateway.close().await;
}

/// Proves that probes, metrics, version and description need no token, and are not for buyers.
#[tokio::test]
async fn probes_need_no_token() {
    let gateway = TestGateway::start().await;
    for path in ["/livez", "/healthz", "/readyz", "/version", "/openapi.json"] {
        gateway.stranger("GET", path).send().await.expect(200);
    }
    let version = gateway.stranger("GET", "/version").send().await.json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let described = gateway.stranger("GET", "/openapi.json").send().await.json();
    assert!(described["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    for path in ["/livez", "/readyz", "/metrics", "/version", "/openapi.json"] {
        gateway.call("GET", path).send().await.refused(404, "not-found");
    }
    gateway.stranger("GET", "/v1/sales").send().await.refused(404, "not-found");
    gateway.close().await;
}

/// Proves that readiness names its reasons when asked to.
#[tokio::test]
async fn readiness_has_reasons() {
    let gateway = TestGateway::start().await;
    let short = gateway.stranger("GET", "/readyz").send().await.expect(200);
    assert_eq!(short, json!({ "status": "ready" }));
    let long = gateway.stranger("GET", "/readyz?verbose").send().await.expect(200);
    let checks = json!({
        "serving": "ok", "ledger": "ok", "store": "ok", "writer": "ok", "lag": "ok",
    });
    assert_eq!(long["checks"], checks);
    assert_eq!(long["outbox_length"], 0);
    gateway.close().await;
}

/// The metrics of contract §5 that this version has, and those beside.
const METRICS: [&str; 18] = [
    "floodgate_requests_total",
    "floodgate_request_duration_seconds",
    "floodgate_reservations_total",
    "floodgate_admission_total",
    "floodgate_stock_units",
    "floodgate_lane_queue_depth",
    "floodgate_ledger_batch_size",
    "floodgate_ledger_call_seconds",
    "floodgate_outbox_entries",
    "floodgate_writer_lag_seconds",
    "floodgate_writer_batch_size",
    "floodgate_orders_persisted_total",
    "floodgate_dead_letters_total",
    "floodgate_admin_auth_failures_total",
    "floodgate_backend_up",
    "floodgate_lane_fenced",
    "floodgate_build_info",
    "process_resident_memory_bytes",
];

/// The value of a metric without labels other than these.
pub fn value(scrape: &str, series: &str) -> f64 {
    let line = scrape
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("{series} is not in\n{scrape}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Proves that every metric is there with its type, that figures are right, and that no user, key
/// or reservation is named.
#[tokio::test]
async fn metrics_of_the_contract() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let call = gateway.want("canary-user", CONSOLE, 2).key("canary-key");
    let granted = call.clone().send().await.expect(201);
    call.send().await.expect(201);
    gateway.want("canary-user", CONSOLE, 4).send().await.refused(409, "sold-out");
    gateway.look("canary-user", granted["reservation_id"].as_str().unwrap()).await.expect(200);
    gateway.settled().await;
    let answer = gateway.stranger("GET", "/metrics").send().await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let scrape = String::from_utf8(answer.body.to_vec()).unwrap();
    for metric in METRICS {
        assert!(
            scrape.lines().any(|line| line.starts_with(&format!("# TYPE {metric} "))),
            "{metric}\n{scrape}"
        );
    }
    let outcome = |outcome| {
        value(
            &scrape,
            &format!("floodgate_reservations_total{{sale=\"{SALE}\",outcome=\"{outcome}\"}}"),
        )
    };
    assert_eq!(["reserved", "replayed", "sold-out"].map(outcome), [1.0, 1.0, 1.0]);
    let units = |state| {
        let labels = format!("sale=\"{SALE}\",item=\"{CONSOLE}\",state=\"{state}\"");
        value(&scrape, &format!("floodgate_stock_units{{{labels}}}"))
    };
    assert_eq!(["available", "held", "confirmed"].map(units), [3.0, 2.0, 0.0]);
    assert_eq!(value(&scrape, "floodgate_orders_persisted_total"), 1.0);
    assert_eq!(value(&scrape, "floodgate_dead_letters_total"), 0.0);
    assert_eq!(value(&scrape, "floodgate_backend_up{backend=\"store\"}"), 1.0);
    let route = "route=\"/v1/sales/{sale}/reservations\"";
    assert_eq!(value(&scrape, &format!("floodgate_requests_total{{{route},status=\"201\"}}")), 2.0);
    assert!(
        scrape.contains(&format!(
            "floodgate_request_duration_seconds_bucket{{{route},le=\"0.00005\"}}"
        ))
    );
    let id = granted["reservation_id"].as_str().unwrap();
    for name in ["canary-user", "canary-key", id, gateway.token.as_str()] {
        assert!(!scrape.contains(name), "{name} is in the metrics");
    }
    gateway.close().await;
}

/// Proves that the ops API is as strict about bodies, methods and media types as the public one.
#[tokio::test]
async fn bad_input_of_operators() {
    let gateway = TestGateway::start().await;
    gateway.sell_consoles(5).await;
    let sales = "/admin/v1/sales";
    let nonsense = gateway.admin("POST", sales).body("{");
    nonsense.send().await.refused(400, "malformed-request");
    let text = gateway.admin("POST", sales).header("content-type", "text/plain").body("{}");
    text.send().await.refused(415, "unsupported-media-type");
    let large = gateway.admin("POST", sales).body(" ".repeat(1024 * 1024 + 1));
    large.send().await.refused(413, "body-too-large");
    let wrong = gateway.admin("DELETE", sales).send().await;
    wrong.refused(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, POST"));
    let wrong = gateway.admin("GET", &format!("{sales}/{SALE}/open")).send().await;
    wrong.refused(405, "method-not-allowed");
    for path in ["/admin/v1/sales/unknown", "/admin/v1/sales/b%20f", "/admin/v2/sales"] {
        gateway.admin("GET", path).send().await.refused(404, "not-found");
    }
    assert_eq!(gateway.counters().await, [5, 5, 0, 0]);
    gateway.close().await;
}
