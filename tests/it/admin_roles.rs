//! Operators by name: who may see, who may change, and whose name the audit log keeps.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binary::{Serving, audit, run_to};
use crate::gateway::TestGateway;
use crate::patience::eventually;
use crate::request::Call;
use crate::shop::{CONSOLE, SALE, Shop};

/// A new token and its line for the file, as the program makes them.
fn create(name: &str, role: &str) -> (String, String) {
    let (printed, _) = run_to(0, &["token", "create", "--name", name, "--role", role]);
    let [token, line] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    (token.to_owned(), line.to_owned())
}

fn ask(shop: &Shop, token: &str, method: &str, path: &str) -> Call {
    shop.stranger(method, path).header("authorization", &format!("Bearer {token}"))
}

/// Everything that operators can ask, and whether it changes something.
fn routes(reservation: &str) -> Vec<(&'static str, String, bool)> {
    let sale = format!("/admin/v1/sales/{SALE}");
    let of = |reservation: &str| format!("/admin/v1/reservations/{reservation}");
    vec![
        ("GET", "/admin/v1/sales".to_owned(), false),
        ("HEAD", "/admin/v1/sales".to_owned(), false),
        ("GET", sale.clone(), false),
        ("GET", "/admin/v1/audit-log".to_owned(), false),
        ("GET", "/admin/v1/dead-letters".to_owned(), false),
        ("POST", "/admin/v1/sales".to_owned(), true),
        ("POST", format!("{sale}/pause"), true),
        ("POST", format!("{sale}/close"), true),
        ("POST", format!("{sale}/archive"), true),
        ("POST", format!("{sale}/items/{CONSOLE}/restock"), true),
        ("POST", format!("{}/confirm", of(reservation)), true),
        ("POST", format!("{}/cancel", of(reservation)), true),
        ("POST", "/admin/v1/dead-letters/0-1-1/retry".to_owned(), true),
        ("DELETE", "/admin/v1/dead-letters/0-1-1".to_owned(), true),
        ("PUT", "/admin/v1/sales".to_owned(), true),
        ("POST", "/admin/v1/nothing".to_owned(), true),
    ]
}

/// Proves that a token to read with sees everything and changes nothing, that one to operate with changes what
/// its bearer asks for, under its name, and that the gateway's own still does both.
#[tokio::test]
async fn roles() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (reader, first) = create("grafana", "read");
    let (operator, second) = create("ann", "operate");
    std::fs::write(&file, format!("# who may what\n{first}\n\n{second}\n")).unwrap();
    let gateway = TestGateway::start_with(|settings| {
        settings.admin_tokens_file = Some(file.clone());
    })
    .await;
    gateway.sell_consoles(5).await;
    let id = gateway.hold("bob").await;
    let body = json!({ "delta": 1, "reason": "r", "payment_ref": "p" });
    for (method, path, changes) in routes(&id) {
        let call = ask(&gateway, &reader, method, &path);
        let call = if changes && method != "DELETE" { call.json(&body) } else { call };
        let answer = call.send().await;
        if changes {
            answer.refused(403, "forbidden");
            assert_eq!(answer.header("www-authenticate"), None, "it is known who asks");
        } else {
            assert_eq!(answer.status, 200, "{method} {path}: {answer}");
        }
    }
    assert_eq!(
        (gateway.counters().await, gateway.state(SALE).await.as_str()),
        ([5, 4, 1, 0], "open")
    );

    let pause = format!("/admin/v1/sales/{SALE}/pause");
    ask(&gateway, &operator, "POST", &pause).send().await.expect(200);
    gateway.step(SALE, "resume").await.expect(200);
    let restock = format!("/admin/v1/sales/{SALE}/items/{CONSOLE}/restock");
    let restock = ask(&gateway, &operator, "POST", &restock);
    restock.json(&json!({ "delta": 2, "reason": "found" })).send().await.expect(200);
    let cancel = format!("/admin/v1/reservations/{id}/cancel");
    ask(&gateway, &operator, "POST", &cancel).send().await.expect(200);
    gateway.settled().await;
    let log = ask(&gateway, &reader, "GET", "/admin/v1/audit-log").send().await.expect(200);
    let mut entries: Vec<&Value> = log["entries"].as_array().unwrap().iter().collect();
    entries.sort_by_key(|entry| entry["link"].as_i64());
    let who: Vec<_> = entries
        .iter()
        .map(|entry| (entry["actor"].as_str().unwrap(), entry["action"].as_str().unwrap()))
        .collect();
    let expected = [
        ("admin", "create"),
        ("admin", "open"),
        ("ann", "pause"),
        ("admin", "resume"),
        ("ann", "restock"),
        ("ann", "cancel"),
    ];
    assert_eq!(who, expected);
    for token in [&reader, &operator, &gateway.token] {
        assert!(!log.to_string().contains(token.as_str()), "no secret in an answer");
    }
    gateway.close().await;
}

/// Proves that tokens come and go with the file, that a file with a fault changes nothing, and that who is not
/// let in is counted.
#[tokio::test]
async fn tokens_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (ann, first) = create("ann", "operate");
    let (bob, second) = create("bob", "read");
    std::fs::write(&file, format!("{first}\n")).unwrap();
    let gateway = TestGateway::start_with(|settings| {
        settings.admin_tokens_file = Some(file.clone());
    })
    .await;
    let known = async |token: &str| {
        ask(&gateway, token, "GET", "/admin/v1/sales").send().await.status == 200
    };
    assert_eq!((known(&ann).await, known(&bob).await), (true, false));
    std::fs::write(&file, format!("{second}\n")).unwrap();
    gateway.reload_identity().unwrap();
    assert_eq!((known(&ann).await, known(&bob).await), (false, true));
    std::fs::write(&file, format!("{first}\n{second}\nnonsense\n")).unwrap();
    let fault = gateway.reload_identity().unwrap_err();
    assert!(fault.contains("admin_tokens_file") && fault.contains("line 3"), "{fault}");
    assert_eq!((known(&ann).await, known(&bob).await), (false, true));
    std::fs::remove_file(&file).unwrap();
    gateway.reload_identity().unwrap_err();
    assert!(known(&bob).await && known(&gateway.token).await);
    // The hash is no token, nor is half of one, nor are two.
    let hash: Value = serde_json::from_str(&second).unwrap();
    for wrong in [hash["sha256"].as_str().unwrap(), &bob[1..], "", "admin"] {
        assert!(!known(wrong).await, "{wrong}");
    }
    gateway.stranger("GET", "/admin/v1/sales").send().await.refused(401, "identity-required");
    let twice = ask(&gateway, &bob, "GET", "/admin/v1/sales");
    let twice = twice.header("authorization", &format!("Bearer {bob}"));
    twice.send().await.refused(400, "malformed-request");
    let scrape = gateway.stranger("GET", "/metrics").send().await;
    let scrape = String::from_utf8(scrape.body.to_vec()).unwrap();
    assert!(scrape.contains("\nfloodgate_admin_auth_failures_total 8\n"), "{scrape}");
    gateway.close().await;
}

/// Proves with the real program that a token is printed once, that its bearer's name is in log and audit log,
/// that SIGHUP reads the list anew, and that no token is written anywhere.
#[tokio::test]
async fn tokens_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("tokens"), dir.path().join("data"));
    let (ann, line) = create("ann", "operate");
    assert!(ann.len() >= 64 && !line.contains(&ann), "32 random bytes, in the file as their hash");
    assert_ne!(ann, create("ann", "operate").0);
    let (json, _) = run_to(0, &["token", "create", "--name", "bob", "--role", "read", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let (bob, bobs) = (json["token"].as_str().unwrap(), json["line"].as_str().unwrap());
    for wrong in [["admin", "read"], ["a b", "read"], ["ann", "root"]] {
        run_to(2, &["token", "create", "--name", wrong[0], "--role", wrong[1]]);
    }
    std::fs::write(&file, &line).unwrap();
    let setting = format!("admin_tokens_file={}", file.display());
    let gateway = Serving::start_with(&data, &["--set", &setting]).await;
    gateway.sell_consoles(1).await;
    ask(&gateway, &ann, "POST", &format!("/admin/v1/sales/{SALE}/close")).send().await.expect(200);
    let operated = gateway.log().wait_for("operated");
    assert_eq!(operated["actor"], "admin", "who created it");
    let look = |token: &str| ask(&gateway, token, "GET", "/admin/v1/sales").send();
    look(bob).await.refused(401, "identity-required");
    std::fs::write(&file, format!("{line}\n{bobs}\n")).unwrap();
    gateway.signal(Signal::HUP);
    eventually("bob is let in", async || (look(bob).await.status == 200).then_some(())).await;
    gateway.settled().await;
    // The log is read beside the test: with this line all that was written before is there.
    gateway.log().wait_for("configuration reloaded");
    let log = gateway.log().text();
    assert!(log.contains(r#""actor":"ann""#), "{log}");
    let told = gateway.token.clone();
    gateway.stop();
    let report = audit(&data).to_string();
    for token in [ann.as_str(), bob] {
        assert!(!log.contains(token) && !report.contains(token));
    }
    let after_the_first_line: Vec<_> = log.lines().filter(|line| line.contains(&told)).collect();
    assert_eq!(after_the_first_line.len(), 1, "the one that was made just now is told once");
}
