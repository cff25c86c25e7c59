//! Gateways whose books are in a real PostgreSQL: alone, shared, killed, cut off, replayed.

use std::path::Path;
use std::time::Duration;

use floodgate_loadtest::fault_proxy::FaultProxy;
use floodgate_loadtest::postgres_server::{PostgresServer, url_at};
use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::binary::{Serving, audit_with, run_to};
use crate::crowd::{Crowd, buy, rounds};
use crate::patience::eventually;
use crate::shop::{CONSOLE, GAME, SALE, Shop, sale};

fn postgres() -> PostgresServer {
    PostgresServer::start().unwrap()
}

async fn serve(dir: &Path, url: &str) -> Serving {
    Serving::start_with(dir, &["--database-url", url]).await
}

#[track_caller]
fn audit(dir: &Path, url: &str) -> Value {
    audit_with(dir, &["--database-url", url])
}

/// Statements to the database, as an operator would give them: the first column of the last row.
async fn sql(url: &str, statements: &str) -> Option<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let answers = client.simple_query(statements).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    answers.into_iter().rev().find_map(|answer| {
        if let SimpleQueryMessage::Row(row) = answer {
            return row.get(0).map(str::to_owned);
        }
        None
    })
}

async fn count(url: &str, what: &str) -> usize {
    sql(url, &format!("SELECT count(*) FROM {what}")).await.unwrap().parse().unwrap()
}

fn item(shop: &Shop, method: &str, user: &str, item: &str, quantity: u32) -> crate::request::Call {
    let path = format!("/v1/cart/items/{item}");
    shop.call(method, &path).user(user).json(&json!({ "quantity": quantity }))
}

/// Proves the whole way with books in PostgreSQL: reserve, pay, refund, cancel, expire, rebook, order, cart,
/// restart, audit.
#[tokio::test]
async fn a_sale_into_postgres() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let url = postgres.url();
    let gateway = serve(dir.path(), &url).await;
    let mut definition = sale(SALE, &[(CONSOLE, 4)]);
    definition["hold_seconds"] = json!(2);
    gateway.sell(&definition).await;
    let paid = gateway.hold("ann").await;
    gateway.pay(&paid, "p-1").await.expect(200);
    let refunded = gateway.hold("bea").await;
    gateway.pay(&refunded, "p-2").await.expect(200);
    let path = format!("/admin/v1/reservations/{refunded}/cancel");
    gateway.admin("POST", &path).json(&json!({ "restock": false })).send().await.expect(200);
    let cancelled = gateway.hold("bob").await;
    gateway.cancel("bob", &cancelled).await.expect(200);
    let expired = gateway.hold("cid").await;
    item(&gateway, "PUT", "cid", CONSOLE, 3).send().await.expect(200);
    gateway.order_becomes("cid", &expired, "expired").await;
    let cart = gateway.cart("cid").await;
    assert_eq!(cart["lines"], json!([{ "item_id": CONSOLE, "quantity": 3, "source": "user" }]));
    assert_eq!(cart["removed"][0]["reservation_id"], expired, "{cart}");
    assert_eq!(cart["removed"][0]["reason"], "reservation-expired");
    let rebooked = gateway.pay(&expired, "late").await.expect(200);
    assert_eq!(rebooked["rebooked"], true);
    gateway.order_becomes("cid", &expired, "paid").await;
    assert!(gateway.cart("cid").await.get("removed").is_none());
    gateway.order_becomes("ann", &paid, "paid").await;
    gateway.order_becomes("bea", &refunded, "cancelled").await;
    gateway.order_becomes("bob", &cancelled, "cancelled").await;
    let orders = gateway.call("GET", "/v1/orders").user("ann").send().await.expect(200);
    assert_eq!(orders["orders"][0]["id"], paid);
    let held_at = gateway.look("ann", &paid).await.expect(200)["held_at"].clone();
    assert_eq!(orders["orders"][0]["created_at"], held_at, "to the millisecond");
    let log = gateway.admin("GET", "/admin/v1/audit-log").send().await.expect(200);
    assert_eq!(log["entries"].as_array().unwrap().len(), 3, "create, open, refund: {log}");
    gateway.settled().await;
    let archive = format!("/admin/v1/sales/{SALE}/archive");
    gateway.admin("POST", &archive).send().await.refused(409, "sale-not-over");
    gateway.step(SALE, "close").await.expect(200);
    let ops_url = format!("http://{}", gateway.ops);
    let ops = ["--ops-url", &ops_url, "--admin-token", &gateway.token];
    let (told, _) = run_to(0, &[&["sale", "archive", SALE], &ops[..]].concat());
    assert!(told.starts_with("4 orders archived"), "{told}");
    assert_eq!((count(&url, "orders").await, count(&url, "all_orders").await), (0, 4));
    let again = gateway.call("GET", "/v1/orders").user("ann").send().await.expect(200);
    assert_eq!(again, orders);
    let before = gateway.cart("cid").await;
    gateway.stop();
    audit(dir.path(), &url);
    let gateway = serve(dir.path(), &url).await;
    assert_eq!(gateway.cart("cid").await, before);
    assert_eq!(gateway.counters().await, [3, 1, 0, 2]);
    gateway.stop();
    let report = audit(dir.path(), &url);
    assert_eq!(report["sales"][0]["orders"], 4);
    // The database itself refuses an oversell.
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let oversell = client.execute("UPDATE items SET allocated = stock + 1", &[]).await;
    let refused = oversell.unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!((refused.code().code(), refused.constraint()), ("23514", Some("no_oversell")));
}

/// Proves that gateways share ledger and books: orders and carts of one are those of the other at once, a
/// gateway that dies is followed by another, and together they are audited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_books() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (postgres, redis) = (postgres(), RedisServer::start(Keeps::Everything).unwrap());
    let (url, redis_url) = (postgres.url(), redis.url());
    let both = ["--database-url", &url, "--redis-url", &redis_url];
    let first = Serving::start_with(dirs[0].path(), &both).await;
    let second = Serving::start_with(dirs[1].path(), &both).await;
    first.sell_consoles(1_000_000).await;
    eventually("the other gateway sells it", async || {
        (second.want("zoe", CONSOLE, 1).key("z").send().await.status == 201).then_some(())
    })
    .await;
    let id = first.hold("ann").await;
    second.order("ann", &id).await;
    // Read into the memory of both, then changed through one.
    for round in 1..=20 {
        first.cart("ann").await;
        second.cart("ann").await;
        item(&first, "PUT", "ann", CONSOLE, round).send().await.expect(200);
        eventually("the other gateway has it", async || {
            let cart = second.cart("ann").await;
            (cart["lines"][0]["quantity"] == round).then_some(())
        })
        .await;
    }
    let crowds = [Crowd::start(&first, 4, 1_000_000), Crowd::start(&second, 4, 5_000_000)];
    let url_of_fight = url.clone();
    let fights = rounds(20);
    let fight = tokio::spawn(async move {
        // Whoever writes is robbed of the lease, so that both are at it.
        for _ in 0..fights {
            sql(&url_of_fight, "UPDATE lanes SET holder = NULL").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    fight.await.unwrap();
    let [one, two] = crowds;
    let granted = one.end().await + two.end().await;
    first.settled().await;
    second.settled().await;
    // A gateway that dies holds its leases until they run out; then the other goes on.
    let crowd = Crowd::start(&second, 4, 9_000_000);
    let id = first.hold("bob").await;
    first.kill();
    second.order("bob", &id).await;
    let granted = granted + crowd.end().await + 3;
    second.settled().await;
    assert_eq!(count(&url, "orders").await, granted);
    assert_eq!(count(&url, "dead_letters").await, 0);
    // A third one comes, and the second dies without a word.
    let third = Serving::start_with(dirs[2].path(), &both).await;
    second.kill();
    let id = third.hold("cid").await;
    third.order("cid", &id).await;
    third.settled().await;
    third.stop();
    audit_with(dirs[2].path(), &both);
}

/// Proves that a Redis which gateways share, and which comes back empty under load, is written anew from the
/// books that they share, by whichever comes first, and oversells nothing: exactly the stock stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_redis_forgets() {
    let stock = 100 * rounds(3);
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (postgres, mut redis) = (postgres(), RedisServer::start(Keeps::Everything).unwrap());
    let (url, redis_url) = (postgres.url(), redis.url());
    let both = ["--database-url", &url, "--redis-url", &redis_url];
    let first = Serving::start_with(dirs[0].path(), &both).await;
    let second = Serving::start_with(dirs[1].path(), &both).await;
    first.sell_consoles(stock.into()).await;
    first.settled().await;
    eventually("the other gateway has the sale", async || {
        let sale = second.call("GET", &format!("/v1/sales/{SALE}")).send().await;
        (sale.status == 200 && sale.json()["state"] == "open").then_some(())
    })
    .await;
    for round in 0..rounds(3) {
        let mut crowd = JoinSet::new();
        for (buyer, gateway) in (0..4_u32).zip([&first, &second].into_iter().cycle()) {
            let users = (round * 4 + buyer) * 1_000..;
            crowd.spawn(buy(Shop::clone(gateway), users.take(15)));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        redis.run_empty().unwrap();
        crowd.join_all().await;
    }
    let (_, refused) = buy(Shop::clone(&second), 500_000..500_000 + stock).await;
    assert!(refused > 0, "it is sold out");
    for gateway in [&first, &second] {
        gateway.settled().await;
        assert_eq!(gateway.counters().await, [stock.into(), 0, stock.into(), 0]);
    }
    let anew = |gateway: &Serving| gateway.log().text().contains("the lane was written anew");
    assert!(anew(&first) || anew(&second));
    first.stop();
    second.stop();
    assert_eq!(audit_with(dirs[0].path(), &both)["sales"][0]["standing"], stock);
}

/// Proves that a sale goes on while PostgreSQL is killed, again and again, and that everything arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_killed() {
    let (dir, mut postgres) = (tempfile::tempdir().unwrap(), postgres());
    let url = postgres.url();
    let gateway = serve(dir.path(), &url).await;
    gateway.sell_consoles(1_000_000).await;
    let crowd = Crowd::start(&gateway, 8, 1_000_000);
    for round in 0..rounds(3) {
        let id = gateway.hold(&format!("ann-{round}")).await;
        postgres.kill();
        gateway.hold(&format!("bob-{round}")).await;
        let orders = gateway.call("GET", "/v1/orders").user("ann");
        let orders = orders.header("x-request-id", "ann-asked").send().await;
        orders.refused(503, "store-unavailable");
        if round == 0 {
            let fault = gateway.log().wait_for("the store failed a request");
            assert_eq!(fault["request_id"], "ann-asked", "who quotes it is found: {fault}");
        }
        postgres.run().unwrap();
        gateway.order(&format!("ann-{round}"), &id).await;
    }
    let granted = crowd.end().await + 2 * rounds(3) as usize;
    gateway.settled().await;
    assert_eq!(count(&url, "orders").await, granted);
    gateway.stop();
    audit(dir.path(), &url);
}

/// Proves that a transaction whose answer is lost is done once: the cursor tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_without_an_answer() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let proxy = FaultProxy::start(postgres.address()).unwrap();
    let url = url_at(proxy.address());
    let gateway = serve(dir.path(), &url).await;
    gateway.sell_consoles(1_000_000).await;
    let crowd = Crowd::start(&gateway, 4, 1_000_000);
    proxy.swallow_commits(2);
    let wanted = u64::from(rounds(20));
    // Carts as well: whoever is told nothing asks again.
    let mut quantity = 0;
    while proxy.swallowed() < wanted {
        quantity = quantity % 999 + 1;
        let changed = item(&gateway, "PUT", "ann", CONSOLE, quantity).send().await;
        assert!(matches!(changed.status, 200 | 503), "{changed}");
        eventually("the change is there", async || {
            let cart = gateway.call("GET", "/v1/cart").user("ann").send().await;
            (cart.status == 200 && cart.json()["lines"][0]["quantity"] == quantity).then_some(())
        })
        .await;
    }
    proxy.swallow_commits(0);
    let granted = crowd.end().await;
    gateway.settled().await;
    assert_eq!(count(&url, "orders").await, granted);
    gateway.stop();
    audit(dir.path(), &url);
}

/// Proves that the whole outbox may come again: the books are what they were.
#[tokio::test]
async fn the_outbox_comes_again() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let url = postgres.url();
    let mut gateway = serve(dir.path(), &url).await;
    gateway.sell(&sale(SALE, &[(CONSOLE, 1_000), (GAME, 5)])).await;
    for user in 0..200 {
        let user = format!("user-{user}");
        let id = gateway.hold(&user).await;
        match user.len() % 3 {
            0 => gateway.pay(&id, &format!("p-{user}")).await.expect(200),
            1 => gateway.cancel(&user, &id).await.expect(200),
            _ => json!(null),
        };
    }
    gateway.settled().await;
    let picture = "SELECT md5(string_agg(t::text, ';')) FROM
        (SELECT * FROM orders ORDER BY order_id) AS t";
    let lines = "SELECT md5(string_agg(t::text, ';')) FROM
        (SELECT * FROM cart_lines ORDER BY user_id, item_id, reservation_id) AS t";
    let before = (sql(&url, picture).await, sql(&url, lines).await);
    for _ in 0..rounds(3) {
        gateway.stop();
        sql(&url, "UPDATE lanes SET epoch = 0, cursor = 0").await;
        gateway = serve(dir.path(), &url).await;
        gateway.settled().await;
        assert_eq!((sql(&url, picture).await, sql(&url, lines).await), before);
        audit(dir.path(), &url);
    }
    gateway.stop();
}

/// Proves that books in a database are mended beside a running gateway, which goes on, and that dead letters
/// are settled by its operator.
#[tokio::test]
async fn books_are_reconciled() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let (url, redis) = (postgres.url(), RedisServer::start(Keeps::Everything).unwrap());
    let redis_url = redis.url();
    let both = ["--database-url", &url, "--redis-url", &redis_url];
    let gateway = Serving::start_with(dir.path(), &both).await;
    gateway.sell_consoles(10).await;
    for user in ["ann", "bob", "cid"] {
        let id = gateway.hold(user).await;
        gateway.order(user, &id).await;
    }
    // The books are made to have sold out: what comes then is put aside.
    sql(&url, "UPDATE items SET allocated = stock").await;
    let dead = gateway.hold("dan").await;
    gateway.settled().await;
    let letters = gateway.admin("GET", "/admin/v1/dead-letters").send().await.expect(200);
    let id = letters["dead_letters"][0]["id"].as_str().unwrap();
    assert_eq!(letters["dead_letters"][0]["events"][0]["Held"]["user"], "dan", "{letters}");
    let path = format!("/admin/v1/dead-letters/{id}");
    gateway.admin("POST", &format!("{path}/retry")).send().await.refused(409, "still-dead");
    gateway.stranger("DELETE", &path).send().await.refused(401, "identity-required");
    sql(&url, "DELETE FROM orders WHERE user_id = 'ann'; DELETE FROM cart_lines").await;
    sql(&url, "UPDATE orders SET status = 'expired' WHERE user_id = 'bob'").await;
    let reconcile = |code: i32, more: &[&str]| {
        let command = ["reconcile", "--data-dir", dir.path().to_str().unwrap()];
        run_to(code, &[&command[..], &both, more].concat()).0
    };
    let told = reconcile(3, &[]);
    assert!(told.contains("DISAGREE") && told.contains("--repair"), "{told}");
    let told = reconcile(0, &["--repair"]);
    assert!(told.contains("agree"), "{told}");
    gateway.order_becomes("dan", &dead, "pending_payment").await;
    gateway.admin("GET", &path).send().await.refused(404, "not-found");
    gateway.hold("eve").await;
    gateway.settled().await;
    // By the command line, through the ops API.
    sql(&url, "UPDATE items SET allocated = stock").await;
    gateway.hold("fay").await;
    gateway.settled().await;
    let ops_url = format!("http://{}", gateway.ops);
    let ask = |code: i32, words: &[&str]| {
        let ops = ["--ops-url", &ops_url, "--admin-token", &gateway.token];
        run_to(code, &[&["deadletters"], words, &ops].concat()).0
    };
    let listed = ask(0, &["list"]);
    let id = listed.lines().last().unwrap().split_whitespace().next().unwrap();
    assert!(ask(0, &["show", id]).contains("fay"), "{listed}");
    ask(1, &["retry", id]);
    ask(2, &["drop", "nonsense"]);
    assert!(ask(0, &["drop", id]).contains("dropped"));
    ask(1, &["show", id]);
    let log = gateway.admin("GET", "/admin/v1/audit-log?limit=1").send().await.expect(200);
    assert_eq!(log["entries"][0]["action"], "drop dead letter");
    let told = reconcile(0, &["--repair"]);
    assert!(told.contains("mended"), "the order that was given up is in the ledger: {told}");
    gateway.stop();
    audit_with(dir.path(), &both);
}

/// Proves that a database that is far away or silent slows nobody who buys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_a_silent_database() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let proxy = FaultProxy::start(postgres.address()).unwrap();
    let url = url_at(proxy.address());
    let gateway = serve(dir.path(), &url).await;
    gateway.sell_consoles(1_000_000).await;
    proxy.delay(Duration::from_millis(50));
    let crowd = Crowd::start(&gateway, 4, 1_000_000);
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    let slow = crowd.end().await;
    gateway.settled().await;
    proxy.delay(Duration::ZERO);
    proxy.swallow_all(true);
    let crowd = Crowd::start(&gateway, 4, 5_000_000);
    eventually("readers are told", async || {
        let orders = gateway.call("GET", "/v1/orders").user("ann").send().await;
        (orders.status == 503).then_some(())
    })
    .await;
    gateway.hold("bob").await;
    let silent = crowd.end().await;
    proxy.swallow_all(false);
    gateway.settled().await;
    assert_eq!(count(&url, "orders").await, slow + silent + 2);
    gateway.stop();
    audit(dir.path(), &url);
}

/// Proves that what cannot be is said with what to change, before a port is bound.
#[tokio::test]
async fn databases_that_do_not_serve() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut postgres = PostgresServer::start_with(&["fsync=off"]).unwrap();
    let url = postgres.url();
    let any = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let serve_to = |code: i32, dir: &Path, more: &[&str]| {
        let data = ["serve", "--data-dir", dir.to_str().unwrap()];
        run_to(code, &[&data[..], &any, more].concat()).1
    };
    for bad in ["mysql://x", "postgres://", "sqlite:", "sqlite::memory:"] {
        let told = serve_to(64, dir.path(), &["--database-url", bad]);
        assert!(told.contains("database_url"), "{bad}: {told}");
    }
    let stored = ["--database-url", &url, "--set", "durability=stored"];
    let told = serve_to(64, dir.path(), &stored);
    assert!(told.contains("fsync"), "{told}");
    // Books are one ledger's.
    serve(dir.path(), &url).await.stop();
    let told = serve_to(64, other.path(), &["--database-url", &url]);
    assert!(told.contains("another ledger"), "{told}");
    // A database that speaks no TLS is not spoken to where TLS is wanted.
    let encrypted = format!("{url}?sslmode=require");
    let told = serve_to(4, dir.path(), &["--database-url", &encrypted]);
    assert!(told.contains("TLS"), "{told}");
    let (told, _) = run_to(0, &["doctor", "--database-url", &url]);
    assert!(told.contains("PostgreSQL") && told.contains("fsync"), "{told}");
    postgres.kill();
    run_to(4, &["doctor", "--database-url", &url]);
    let told = serve_to(4, dir.path(), &["--database-url", &url]);
    assert!(told.contains("PostgreSQL"), "{told}");
    run_to(4, &["audit", "--data-dir", dir.path().to_str().unwrap(), "--database-url", &url]);
    // Books in a file elsewhere are one process's.
    let file = format!("sqlite:{}", other.path().join("books.db").display());
    let gateway = Serving::start_with(dir.path(), &["--database-url", &file]).await;
    gateway.sell_consoles(1).await;
    let told = serve_to(1, other.path(), &["--database-url", &file]);
    assert!(told.contains("books.lock"), "{told}");
    gateway.settled().await;
    gateway.signal(Signal::TERM);
    gateway.stop();
    audit(dir.path(), &file);
}

/// Proves that whoever buys over Redis does not need the database, nor do connections to Redis that are made while it
/// is away, where the lane was laid beside the books before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sells_while_the_database_is_away() {
    let (dir, mut postgres) = (tempfile::tempdir().unwrap(), postgres());
    let (url, redis) = (postgres.url(), RedisServer::start(Keeps::Everything).unwrap());
    let redis_url = redis.url();
    let both = ["--database-url", &url, "--redis-url", &redis_url];
    let gateway = Serving::start_with(dir.path(), &both).await;
    gateway.sell_consoles(1_000).await;
    gateway.settled().await;
    postgres.kill();
    // So many at once that every worker of the lane is wanted.
    let buyers = (0..200).map(|number| {
        let shop = Shop::clone(&gateway);
        tokio::spawn(async move {
            let user = format!("user-{number}");
            shop.want(&user, CONSOLE, 1).key("k").send().await.expect(201);
        })
    });
    for buyer in buyers.collect::<Vec<_>>() {
        buyer.await.unwrap();
    }
    postgres.run().unwrap();
    gateway.settled().await;
    assert_eq!(count(&url, "orders").await, 200);
    gateway.stop();
    audit_with(dir.path(), &both);
}

/// Proves that a gateway that starts waits for a database that is busy, and serves once it answers.
#[tokio::test]
async fn busy_at_the_start() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let url = postgres.url();
    serve(dir.path(), &url).await.stop();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let lock = "BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE";
    client.batch_execute(lock).await.unwrap();
    // Each question is given up with its connection; who asks again has another.
    let asks = async |before: &str| {
        let waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        eventually("the gateway asks", async || sql(&url, waits).await.filter(|pid| pid != before))
            .await
    };
    let released = async {
        let first = asks("").await;
        asks(&first).await;
        client.batch_execute("COMMIT").await.unwrap();
    };
    let (gateway, ()) = tokio::join!(serve(dir.path(), &url), released);
    gateway.log().wait_for("the books are not ready; asking again");
    gateway.stop();
    drop(client);
    connection.await.unwrap().unwrap();
}

/// Proves that a role without a right to change tables serves, once another role has made them; before, a start
/// says what PostgreSQL says, and the doctor what is missing.
#[tokio::test]
async fn a_role_without_rights() {
    let (dir, postgres) = (tempfile::tempdir().unwrap(), postgres());
    let owner = postgres.url();
    sql(&owner, "CREATE ROLE clerk LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let url = owner.replace("postgres@", "clerk@");
    let any = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let data = ["serve", "--data-dir", dir.path().to_str().unwrap(), "--database-url", &url];
    let (_, told) = run_to(1, &[&data[..], &any].concat());
    assert!(told.contains("store.migrate_url"), "{told}");
    assert!(told.contains("permission denied for schema public"), "{told}");
    let doctor = ["doctor", "--data-dir", data[2], "--database-url", &url];
    assert!(run_to(1, &doctor).0.contains("tables are missing and cannot be made"));
    let migrate = format!("store.migrate_url={owner}");
    let gateway =
        Serving::start_with(dir.path(), &["--database-url", &url, "--set", &migrate]).await;
    gateway.sell_consoles(1).await;
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    gateway.stop();
    let gateway = serve(dir.path(), &url).await;
    gateway.order("ann", &id).await;
    gateway.stop();
    audit(dir.path(), &url);
}

/// Proves that a database is spoken to in the dark, and only where it is the one that it says it is.
#[tokio::test]
async fn encrypted() {
    let (dir, mut postgres) =
        (tempfile::tempdir().unwrap(), PostgresServer::start_with(&["fsync=off"]).unwrap());
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let data = postgres.data();
    std::fs::write(data.join("server.crt"), certified.cert.pem()).unwrap();
    std::fs::write(data.join("server.key"), certified.signing_key.serialize_pem()).unwrap();
    postgres.entrust(&data.join("server.key")).unwrap();
    let only_encrypted = "hostssl all all 127.0.0.1/32 trust\n";
    std::fs::write(data.join("pg_hba.conf"), only_encrypted).unwrap();
    postgres.entrust(&data.join("server.crt")).unwrap();
    postgres.run_with(&["ssl=on"]).unwrap();
    let root = dir.path().join("root.pem");
    std::fs::write(&root, certified.cert.pem()).unwrap();
    let (plain, port) = (postgres.url(), postgres.address().port());
    let trusted = format!("sslmode=verify-full&sslrootcert={}", root.display());
    let at = |host: &str, rest: &str| format!("postgres://postgres@{host}:{port}/postgres?{rest}");
    let gateway = serve(dir.path(), &at("localhost", &trusted)).await;
    gateway.sell_consoles(1).await;
    let id = gateway.hold("ann").await;
    gateway.order("ann", &id).await;
    gateway.stop();
    audit(dir.path(), &at("localhost", &trusted));
    let any = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--database-url"];
    let data = ["serve", "--data-dir", dir.path().to_str().unwrap()];
    let refused = [
        (plain, "pg_hba"),
        (at("localhost", "sslmode=require"), "certificate"),
        (at("127.0.0.1", &trusted), "certificate"),
    ];
    for (url, why) in refused {
        let output = crate::binary::run(&[&data[..], &any, &[&url]].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(why), "{url}: {told}");
    }
}
