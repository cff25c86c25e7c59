//! A small world in order: four reservations in each of the four states, as clients, ledger and
//! store saw them.

use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::history::{Entry, History, Level, Line, Op, Receipt, Seen};
use crate::ops::{ItemView, SaleView};
use crate::oracle::{Books, Evidence, Run, Scope, Verdict, judge, judge_or_report};

/// The product's own schema: the oracle's SQL has to fit it.
const SCHEMA: &str = include_str!("../../../../src/store/sqlite/migrations/V1__books.sql");

pub struct World {
    pub history: Vec<Entry>,
    pub view: SaleView,
    pub scope: Scope,
    /// When the books are read.
    pub read_at_ms: i64,
    dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let item = |id: &str, held, confirmed, cancelled_total, expired_total| ItemView {
            id: id.to_owned(),
            stock: held + confirmed,
            available: 0,
            held,
            confirmed,
            cancelled_total,
            expired_total,
            per_user_limit: None,
        };
        let view = SaleView {
            id: "flash".into(),
            state: "open".into(),
            per_user_limit: Some(1),
            items: vec![item("a", 1, 1, 1, 0), item("b", 0, 0, 0, 1)],
            outbox_length: 0,
            writer_lag_seconds: None,
        };
        let scope = Scope { complete: true, sold_out: true, ..Scope::default() };
        let mut world = Self { history: Vec::new(), view, scope, read_at_ms: 4_999, dir };
        // A world that lives for a moment need not survive a power cut.
        world.sql(&format!("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; {SCHEMA}"));
        world.sql(
            r#"INSERT INTO sales VALUES ('flash', 't',
                   '{"per_user_limit":1,"items":[{"id":"a","per_user_limit":2},{"id":"b"}]}', 1);
               INSERT INTO items VALUES ('flash', 'a', 'a', 5, 'EUR', 2, 2);
               INSERT INTO items VALUES ('flash', 'b', 'b', 5, 'EUR', 0, 0);"#,
        );
        world.reservation(1, "a", "pending_payment");
        world.reservation(2, "a", "paid");
        world.reservation(3, "a", "cancelled");
        world.reservation(4, "b", "expired");
        world.ends("u2", "r2", Op::Confirm, Seen::Ok);
        world.ends("u3", "r3", Op::Cancel, Seen::Ok);
        world.reserves("u5", "k5", Seen::No("sold-out".into()));
        let mut replay = world.entry("r1", Op::Reserve).clone();
        replay.replayed = true;
        world.history.push(replay);
        world.reserves("u1", "k1", Seen::No("idempotency-key-reused".into()));
        world.history.last_mut().unwrap().op = Op::Misuse;
        world
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    pub fn sql(&self, statements: &str) {
        Connection::open(self.path()).unwrap().execute_batch(statements).unwrap();
    }

    pub fn judge(&self) -> Verdict {
        let history = History::from_entries(self.history.clone());
        let books = self.books();
        judge(&Evidence { history: &history, ledger: &self.view, books: &books, scope: self.scope })
    }

    fn books(&self) -> Books {
        let mut books = Books::read(self.dir.path(), "flash").unwrap();
        assert!(books.read_at_ms.is_some_and(|ms| ms > 1_700_000_000_000), "by the real clock");
        books.read_at_ms = Some(self.read_at_ms);
        books
    }

    pub fn report(&self, run: Run) -> String {
        let history = History::from_entries(self.history.clone());
        let books = self.books();
        let (ledger, books) = (&self.view, &books);
        let evidence = Evidence { history: &history, ledger, books, scope: self.scope };
        judge_or_report(run, &evidence).unwrap_err()
    }

    /// The first entry about a reservation.
    pub fn entry(&mut self, reservation: &str, op: Op) -> &mut Entry {
        let about = |e: &&mut Entry| e.op == op && e.reservation.as_deref() == Some(reservation);
        self.history.iter_mut().find(about).unwrap()
    }

    /// A request for a reservation that was not granted.
    pub fn reserves(&mut self, user: &str, key: &str, seen: Seen) {
        let entry = self.next(user, Op::Reserve, seen);
        self.history.push(Entry { key: Some(key.into()), ..entry });
    }

    /// A request that ends a reservation.
    pub fn ends(&mut self, user: &str, reservation: &str, op: Op, seen: Seen) {
        let payment_ref = (op == Op::Confirm).then(|| format!("pay-{reservation}").into());
        let entry = self.next(user, op, seen);
        let reservation = Some(reservation.into());
        self.history.push(Entry { reservation, payment_ref, ..entry });
    }

    fn next(&self, user: &str, op: Op, seen: Seen) -> Entry {
        let seq = self.history.len() as u64;
        // Apart: what was unknown for long is no longer under way.
        let start_us = 10_000_000 * seq + 1;
        Entry {
            seq,
            op,
            user: user.into(),
            key: None,
            payment_ref: None,
            lines: [].into(),
            clock: 0,
            start_us,
            end_us: start_us + 1,
            seen,
            replayed: false,
            reservation: None,
            receipt: None,
        }
    }

    /// Reservation `r{n}` of user `u{n}` under key `k{n}`: granted, ordered and, if it stands, in
    /// the cart.
    fn reservation(&mut self, n: i64, item: &str, status: &str) {
        let payment = if status == "paid" { format!("'pay-r{n}'") } else { "NULL".to_owned() };
        let (version, updated) = match status {
            "pending_payment" => (1, n * 1_000),
            "expired" => (2, n * 1_000 + 999),
            _ => (2, n * 1_000 + 500),
        };
        self.sql(&format!(
            "INSERT INTO orders VALUES ('u{n}', 'r{n}', 'flash', '{status}', {version},
             '[{{\"item_id\":\"{item}\",\"quantity\":1,\"unit_price\":5,\"currency\":\"EUR\"}}]',
             5, 'EUR', {n}000, {n}999, {updated}, {payment})"
        ));
        if status == "pending_payment" || status == "paid" {
            self.sql(&format!("INSERT INTO cart_lines VALUES ('u{n}', '{item}', 'r{n}', 1)"));
        }
        let lines = vec![Line { item_id: item.into(), quantity: 1 }];
        self.reserves(&format!("u{n}"), &format!("k{n}"), Seen::Ok);
        let entry = self.history.last_mut().unwrap();
        entry.reservation = Some(format!("r{n}").into());
        entry.lines = lines.clone().into();
        entry.receipt = Some(Box::new(Receipt {
            sale_id: "flash".into(),
            lines,
            total: 5,
            held_at_ms: n * 1_000,
            expires_at_ms: n * 1_000 + 999,
            body_digest: 77,
            level: Some(Level::Fsync),
        }));
    }
}
