//! A disk without room: new reservations are refused, nothing that was told is lost, and sales go
//! on when there is room again.
//!
//! Each test runs in a mount namespace of its own, with a small disk that vanishes with it. A disk on
//! which everything fails from one moment on is that of `power`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::binary::{Serving, audit};
use crate::gateway::books;
use crate::patience::eventually;
use crate::shop::{CONSOLE, SALE, Shop, sale};
use crate::windows::wait_until;

/// Names the folder of the disk in the test's second life, inside its namespace.
const INSIDE: &str = "IT_INSIDE_A_NAMESPACE";
/// Bytes of the small disk.
const DISK_BYTES: u64 = 24 << 20;

/// A small disk at a folder of its own.
struct Disk(PathBuf);

impl Disk {
    /// Mounts the disk, or, outside, runs the test of this name inside and returns `None`.
    fn mount(test: &str) -> Option<Self> {
        let Some(dir) = std::env::var_os(INSIDE) else {
            run_inside(test);
            return None;
        };
        let disk = Self(dir.into());
        disk.resize("", DISK_BYTES);
        Some(disk)
    }

    /// Mounts it (or, `remount,`, mounts it again) with so many bytes.
    fn resize(&self, how: &str, bytes: u64) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("{how}size={bytes}"), "tmpfs"]).arg(&self.0);
        assert!(mount.status().unwrap().success(), "cannot mount a tmpfs");
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Fills the disk until so many bytes are free.
    fn fill(&self, leave: u64) -> Ballast {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        let page = [7; 4096];
        while self.free() > leave && file.write_all(&page).is_ok() {}
        Ballast(path)
    }
}

/// Takes room until it is dropped.
struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Runs a test of this program again where it may mount: as root with mounts of its own, as anybody
/// else with a namespace in which they are root.
fn run_inside(test: &str) {
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let mut command = Command::new("unshare");
    command.arg(flags).arg(std::env::current_exe().unwrap());
    let dir = tempfile::tempdir().unwrap();
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, dir.path());
    let status = command.status().expect("`unshare` of util-linux is needed for this test");
    assert!(
        status.success(),
        "{test} failed in its namespace (see above), or none could be made: for another user than \
         root the kernel has to allow it (kernel.apparmor_restrict_unprivileged_userns=0)"
    );
}

/// Buys until there is no room: the users that were granted a console, with their reservations.
async fn buy_until_refused(shop: &Shop, granted: &mut Vec<(String, String)>) {
    buy_as("user", shop, granted).await;
}

/// The same under names that begin like this.
async fn buy_as(name: &str, shop: &Shop, granted: &mut Vec<(String, String)>) {
    loop {
        let user = format!("{name}-{}", granted.len());
        let answer = shop.want(&user, CONSOLE, 1).key("k").send().await;
        if answer.status == 201 {
            let id = answer.json()["reservation_id"].as_str().unwrap().to_owned();
            granted.push((user, id));
            continue;
        }
        answer.refused(503, "ledger-unavailable");
        assert!(answer.retry_after().is_some_and(|seconds| seconds > 0), "{answer}");
        return;
    }
}

/// Whoever was refused asks again under the same key until there is room.
async fn sells_again(shop: &Shop, granted: &mut Vec<(String, String)>) {
    let user = format!("user-{}", granted.len());
    let id = eventually("it sells again", async || {
        let answer = shop.want(&user, CONSOLE, 1).key("k").send().await;
        if answer.status == 201 {
            return Some(answer.json()["reservation_id"].as_str().unwrap().to_owned());
        }
        // Not "unavailable, nothing was done": for all the gateway knows the first try was granted.
        answer.refused(503, "outcome-unknown");
        None
    })
    .await;
    granted.push((user, id));
}

/// Everybody who was told has an order, and nobody else.
fn prove_orders(dir: &Path, granted: &[(String, String)]) {
    let books = books(dir);
    let mut query = books.prepare("SELECT user_id, order_id FROM orders").unwrap();
    let orders = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut orders: Vec<(String, String)> = orders.collect::<Result<_, _>>().unwrap();
    let mut granted = granted.to_vec();
    orders.sort();
    granted.sort();
    assert_eq!(orders, granted);
}

/// Proves that below the reserve nothing new is sold, while buyers still see what they have, and
/// payments and cancellations still find room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_reserve() {
    const RESERVE: u64 = 8 << 20;
    let Some(disk) = Disk::mount("disk::below_the_reserve") else { return };
    let reserve = format!("ledger.disk_reserve_bytes={RESERVE}");
    let data = disk.data();
    let mut gateway =
        Serving::start_with(&data, &["--set", "ledger.lanes=1", "--set", &reserve]).await;
    gateway.sell_consoles(1_000_000).await;
    let mut granted = Vec::new();
    for number in 0..20 {
        let user = format!("user-{number}");
        let id = gateway.want(&user, CONSOLE, 1).key("k").send().await.expect(201);
        granted.push((user, id["reservation_id"].as_str().unwrap().to_owned()));
    }
    let ballast = disk.fill(RESERVE + (256 << 10));
    buy_until_refused(&gateway, &mut granted).await;
    assert!(gateway.lives());
    for ((user, id), number) in granted[..20].iter().zip(0..) {
        gateway.look(user, id).await.expect(200);
        gateway.order(user, id).await;
        assert_eq!(gateway.cart(user).await["lines"][0]["reservation_id"], id.as_str());
        match number % 2 {
            0 => drop(gateway.pay(id, &format!("pay-{number}")).await.expect(200)),
            _ => drop(gateway.cancel(user, id).await.expect(200)),
        }
    }
    gateway.stranger("GET", "/livez").send().await.expect(200);
    gateway.call("GET", "/v1/sales").send().await.expect(200);
    gateway.want("late", CONSOLE, 1).send().await.refused(503, "ledger-unavailable");
    drop(ballast);
    sells_again(&gateway, &mut granted).await;
    gateway.settled().await;
    gateway.stop();
    prove_orders(&data, &granted);
    let item = &audit(&data)["sales"][0]["items"][0];
    assert_eq!((&item["held"], &item["confirmed"]), (&(granted.len() - 20).into(), &10.into()));
}

/// Proves that a disk without a byte of room refuses what it cannot keep, loses nothing, and that
/// the same process goes on when there is room again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_to_the_last_byte() {
    let Some(disk) = Disk::mount("disk::full_to_the_last_byte") else { return };
    let data = disk.data();
    let settings = ["--set", "ledger.lanes=1", "--set", "ledger.disk_reserve_bytes=0"];
    let mut gateway = Serving::start_with(&data, &settings).await;
    gateway.sell_consoles(1_000_000).await;
    let mut granted = Vec::new();
    for _ in 0..3 {
        let ballast = disk.fill(0);
        assert_eq!(disk.free(), 0);
        buy_until_refused(&gateway, &mut granted).await;
        assert!(gateway.lives(), "{}", gateway.log().text());
        gateway.call("GET", "/v1/sales").send().await.expect(200);
        gateway.stranger("GET", "/livez").send().await.expect(200);
        drop(ballast);
        sells_again(&gateway, &mut granted).await;
    }
    for (user, id) in &granted {
        assert_eq!(gateway.look(user, id).await.expect(200)["status"], "held");
    }
    gateway.settled().await;
    assert!(gateway.lives());
    gateway.stop();
    prove_orders(&data, &granted);
    assert_eq!(audit(&data)["sales"][0]["items"][0]["held"], granted.len());
}

/// Proves that a hold that runs out while there is no room to write that down ends when there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_ends_on_a_full_disk() {
    let Some(disk) = Disk::mount("disk::a_hold_ends_on_a_full_disk") else { return };
    let data = disk.data();
    let settings = ["--set", "ledger.lanes=1", "--set", "ledger.disk_reserve_bytes=0"];
    let mut gateway = Serving::start_with(&data, &settings).await;
    let mut definition = sale(SALE, &[(CONSOLE, 1_000_000)]);
    definition["hold_seconds"] = json!(1);
    gateway.sell(&definition).await;
    let mut granted = vec![("user-0".to_owned(), gateway.hold("user-0").await)];
    let ballast = disk.fill(0);
    buy_until_refused(&gateway, &mut granted).await;
    wait_until(gateway.now_ms().await + 1_000).await;
    assert!(gateway.lives(), "{}", gateway.log().text());
    gateway.call("GET", "/v1/sales").send().await.expect(200);
    drop(ballast);
    for (user, id) in &granted {
        gateway.order_becomes(user, id, "expired").await;
    }
    gateway.hold("late").await;
    gateway.stop();
    audit(&data);
}

/// Proves that a disk that the sale itself has filled, with many buyers at once, loses nothing, and
/// that the books catch up when the disk has grown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filled_by_the_sale() {
    let Some(disk) = Disk::mount("disk::filled_by_the_sale") else { return };
    let data = disk.data();
    let settings = ["--set", "ledger.lanes=1", "--set", "ledger.disk_reserve_bytes=0"];
    let mut gateway = Serving::start_with(&data, &settings).await;
    gateway.sell_consoles(1_000_000).await;
    let mut buyers = tokio::task::JoinSet::new();
    for number in 0..16 {
        let shop = Shop::clone(&gateway);
        buyers.spawn(async move {
            let mut granted = Vec::new();
            buy_as(&format!("buyer-{number}"), &shop, &mut granted).await;
            granted
        });
    }
    let mut granted = buyers.join_all().await.concat();
    assert!(gateway.lives(), "{}", gateway.log().text());
    buy_until_refused(&gateway, &mut granted).await;
    disk.resize("remount,", 8 * DISK_BYTES);
    sells_again(&gateway, &mut granted).await;
    gateway.settled().await;
    gateway.stop();
    prove_orders(&data, &granted);
    assert_eq!(audit(&data)["sales"][0]["items"][0]["held"], granted.len());
}
