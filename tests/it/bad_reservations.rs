//! Requests to reserve that make no sense: each gets its status and code, and changes nothing.

use serde_json::{Value, json};

use crate::gateway::{TestGateway, rows};
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, GAME, SALE, Shop, sale};

/// What is sent, and what has to come back.
struct Row {
    what: String,
    call: Call,
    status: u16,
    code: &'static str,
}

/// The rows of a table, in groups of one status and code.
struct Table<'s> {
    shop: &'s Shop,
    rows: Vec<Row>,
}

impl Table<'_> {
    fn add(&mut self, what: impl Into<String>, call: Call, status: u16, code: &'static str) {
        self.rows.push(Row { what: what.into(), call, status, code });
    }

    /// Bodies that are sent as they stand.
    fn texts(&mut self, status: u16, code: &'static str, texts: &[&str]) {
        for text in texts {
            let call = self.shop.reserve("ann", &Value::Null).body((*text).to_owned());
            self.add(format!("body {text}"), call, status, code);
        }
    }

    fn bodies(&mut self, status: u16, code: &'static str, bodies: &[Value]) {
        for body in bodies {
            self.add(format!("body {body}"), self.shop.reserve("ann", body), status, code);
        }
    }

    /// Good requests with one header too many, or one that is bad.
    fn headers(&mut self, status: u16, code: &'static str, headers: &[(&str, &str)]) {
        for (name, value) in headers {
            let call = self.shop.want("ann", CONSOLE, 1).header(name, value);
            self.add(format!("header {name}: {value}"), call, status, code);
        }
    }

    fn users(&mut self, status: u16, code: &'static str, users: &[&str]) {
        for user in users {
            self.add(format!("user {user}"), self.shop.want(user, CONSOLE, 1), status, code);
        }
    }

    fn paths(&mut self, status: u16, code: &'static str, paths: &[&str]) {
        let body = json!({ "item_id": CONSOLE, "quantity": 1 });
        for path in paths {
            let call = self.shop.call("POST", path).user("ann").json(&body);
            self.add(format!("path {path}"), call, status, code);
        }
    }
}

fn line(item: &str, quantity: i64) -> Value {
    json!({ "item_id": item, "quantity": quantity })
}

fn malformed(table: &mut Table<'_>) {
    let code = "malformed-request";
    table.texts(
        400,
        code,
        &[
            "",
            "{",
            "nonsense",
            "\u{0}",
            "[]",
            r#"["console",1,null,null,null]"#,
            "null",
            "\"text\"",
            "{}",
            r#"{"item_id":"console"}"#,
            r#"{"quantity":1}"#,
            r#"{"item_id":"console","quantity":1}}"#,
            r#"{"item_id":"console","quantity":1,"quantity":1}"#,
            r#"{"item_id":"console","quantity":01}"#,
            r#"{"item_id":"console","quantity":+1}"#,
            r#"{"item_id":"console","quantity":NaN}"#,
            r#"{'item_id':'console','quantity':1}"#,
            "{\"item_id\":\"con\u{7}sole\",\"quantity\":1}",
        ],
    );
    let not_utf8 = b"{\"item_id\":\"\xff\xfe\",\"quantity\":1}".to_vec();
    table.add("not UTF-8", table.shop.reserve("ann", &Value::Null).body(not_utf8), 400, code);
    let deep = format!("{}1{}", "[".repeat(8_000), "]".repeat(8_000));
    table.add("deeply nested", table.shop.reserve("ann", &Value::Null).body(deep), 400, code);
    for quantity in [json!("1"), Value::Null, json!(1.5), json!(true), json!([1]), json!({})] {
        table.bodies(400, code, &[json!({ "item_id": CONSOLE, "quantity": quantity })]);
    }
    for item in [
        json!(""),
        json!("a b"),
        json!("a\u{1}b"),
        json!("a\nb"),
        json!("a/b"),
        json!("é"),
        json!("x".repeat(65)),
        json!(7),
        Value::Null,
        json!(["console"]),
    ] {
        table.bodies(400, code, &[json!({ "item_id": item, "quantity": 1 })]);
        table.bodies(400, code, &[json!({ "lines": [{ "item_id": item, "quantity": 1 }] })]);
    }
    let seventeen: Vec<Value> = (0..17).map(|number| line(&format!("item-{number}"), 1)).collect();
    table.bodies(
        400,
        code,
        &[
            json!({ "lines": [] }),
            json!({ "lines": seventeen }),
            json!({ "lines": [line(CONSOLE, 1), line(CONSOLE, 1)] }),
            json!({ "lines": [line(CONSOLE, 1), line(GAME, 1), line(CONSOLE, 2)] }),
            json!({ "lines": line(CONSOLE, 1) }),
            json!({ "lines": [[CONSOLE, 1]] }),
            json!({ "lines": [{ "item_id": CONSOLE }] }),
            json!({ "lines": [{ "item_id": CONSOLE, "quantity": 1, "price": 1 }] }),
            json!({ "lines": [line(CONSOLE, 1)], "item_id": CONSOLE, "quantity": 1 }),
            json!({ "lines": [line(CONSOLE, 1)], "quantity": 1 }),
            json!({ "item_id": CONSOLE, "quantity": 1, "colour": "red" }),
            json!({ "item_id": CONSOLE, "quantity": 1, "price": 1 }),
            json!({ "item_id": CONSOLE, "quantity": 1, "user_id": "ann" }),
            json!({ "item_id": CONSOLE, "quantity": 1, "idempotency_key": "k" }),
        ],
    );
    let long = "k".repeat(256);
    table.headers(
        400,
        code,
        &[
            ("idempotency-key", ""),
            ("idempotency-key", "\"\""),
            ("idempotency-key", &long),
            ("idempotency-key", "\"open"),
            ("idempotency-key", "\"a\"b\""),
            ("idempotency-key", "\"a\\b\""),
            ("idempotency-key", "\"a\\\""),
            ("idempotency-key", "two words"),
            ("idempotency-key", "é"),
            ("x-user-id", "ann"),
            ("x-user-id", "bob"),
        ],
    );
    let doubled = table.shop.want("ann", CONSOLE, 1).key("k").key("k");
    table.add("two keys", doubled, 400, code);
    table.users(400, code, &["", "a b", "a\tb", "é", &"u".repeat(129)]);
}

fn refused(table: &mut Table<'_>) {
    for quantity in [0, -1, 4, i64::from(u32::MAX) + 1, i64::MAX, i64::MIN] {
        let bodies = [line(CONSOLE, quantity), json!({ "lines": [line(CONSOLE, quantity)] })];
        table.bodies(422, "invalid-quantity", &bodies);
    }
    table.texts(
        422,
        "invalid-quantity",
        &[
            r#"{"item_id":"console","quantity":18446744073709551616}"#,
            r#"{"item_id":"console","quantity":1e300}"#,
            r#"{"item_id":"console","quantity":-1e300}"#,
        ],
    );
    table.bodies(
        422,
        "unknown-item",
        &[
            line("unknown", 1),
            line("Console", 1),
            json!({ "lines": [line(CONSOLE, 1), line("unknown", 1)] }),
        ],
    );
    let anonymous = format!("/v1/sales/{SALE}/reservations");
    let anonymous = table.shop.call("POST", &anonymous).json(&line(CONSOLE, 1));
    table.add("nobody", anonymous, 401, "identity-required");
    table.paths(
        404,
        "not-found",
        &[
            "/v1/sales/unknown/reservations",
            "/v1/sales/BF/reservations",
            "/v1/sales/b%66/reservations",
            "/v1/sales/bf%00/reservations",
            "/v1/sales/../reservations",
            "/v1/sales/bf/reservations/",
            "/v1/sales//reservations",
            "/v1/sales/bf/reservation",
            "/V1/sales/bf/reservations",
        ],
    );
    let long = format!("/v1/sales/{}/reservations", "x".repeat(65));
    table.paths(404, "not-found", &[&long]);
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", ""]
    {
        let path = format!("/v1/sales/{SALE}/reservations");
        let call = table.shop.call("POST", &path).user("ann").header("content-type", media);
        let call = call.body(line(CONSOLE, 1).to_string());
        table.add(format!("media type {media}"), call, 415, "unsupported-media-type");
    }
    let large = format!("{}{}", line(CONSOLE, 1), " ".repeat(16 * 1024));
    table.texts(413, "body-too-large", &[&large]);
}

async fn items(shop: &Shop) -> Value {
    shop.sale(SALE).await["items"].clone()
}

/// Proves the whole table: status, code and form of every answer, and that nothing changes: no
/// counter, no order, no cart, not one event in the ledger.
#[tokio::test]
async fn bad_requests_change_nothing() {
    let gateway = TestGateway::start().await;
    let mut definition = sale(SALE, &[(CONSOLE, 9), (GAME, 9)]);
    definition["per_user_limit"] = json!(3);
    gateway.sell(&definition).await;
    gateway.settled().await;
    let before = items(&gateway).await;
    let mut table = Table { shop: &gateway, rows: Vec::new() };
    malformed(&mut table);
    refused(&mut table);
    for Row { what, call, status, code } in table.rows {
        let answer: Answer = call.send().await;
        let came = (answer.status, answer.code());
        assert_eq!(came, (status, code.to_owned()), "{what}: {answer}");
        answer.refused(status, code);
        assert_eq!(items(&gateway).await, before, "{what}");
        // What could be read in two ways, or is not read to its end.
        let unsound =
            answer.json()["detail"] == "a header that may stand there once stands there twice";
        let closes = answer.header("connection") == Some("close");
        assert_eq!(
            closes,
            status == 413 || unsound,
            "{what}: no other refusal ends the connection"
        );
    }
    gateway.settled().await;
    for table in ["orders", "cart_lines", "dead_letters", "refunds_needed"] {
        assert_eq!(rows(gateway.dir(), table), 0, "{table}");
    }
    let sql = "SELECT sum(cursor) FROM lanes";
    let events: i64 =
        crate::gateway::books(gateway.dir()).query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(events, 2, "the sale was created and opened, and nothing else ever happened");
    gateway.want("ann", CONSOLE, 3).send().await.expect(201);
    gateway.close().await;
}
