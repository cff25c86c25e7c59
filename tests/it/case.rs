//! A run with faults: the seed that repeats its choices, and what its clients saw, which outlives a run that
//! fails.

use std::path::Path;

use fastrand::Rng;
use floodgate_loadtest::buyers::{self, Control, CrowdPlan};
use floodgate_loadtest::history::{History, Level};
use floodgate_loadtest::oracle::{BooksAt, Inquiry, Run, Scope, examine_or_report};

use crate::binary::Serving;
use crate::patience::PATIENCE;
use crate::shop::SALE;

/// All that clients saw until now.
const HISTORY: &str = "history.jsonl";
/// And what was under way when the run failed.
const UNDER_WAY: &str = "under-way.jsonl";

/// One run. If it fails, it says how to repeat it and where its histories are.
pub struct Case {
    /// What every choice follows from: `FLOODGATE_CRASH_SEED`, or another each time.
    pub seed: u64,
    pub rng: Rng,
    name: &'static str,
    all: History,
    dir: tempfile::TempDir,
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        let seed = std::env::var("FLOODGATE_CRASH_SEED")
            .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
        let dir = tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.unwrap();
        Self { seed, rng: Rng::with_seed(seed), name, all: History::new(), dir }
    }

    /// For a crowd: what it sees stands in a file as well.
    pub fn control(&self) -> Control {
        Control { history_file: Some(self.dir.path().join(UNDER_WAY)), ..Control::default() }
    }

    /// All that was taken.
    pub fn history(&self) -> &History {
        &self.all
    }

    /// Asks again for everything whose outcome is unknown, which then has one, and takes it all.
    pub async fn resolve(&mut self, mut seen: History, plan: &CrowdPlan) {
        let plan = CrowdPlan { stop_on_disconnect: false, ..plan.clone() };
        let found = buyers::resolve(&mut seen, &plan, self.control()).await.unwrap();
        assert_eq!((found.unresolved, &*found.anomalies), (0, &[] as &[String]));
        self.all.append(seen);
        std::fs::remove_file(self.dir.path().join(UNDER_WAY)).unwrap();
    }

    /// Clients, ledger and books agree on all that was taken, which is all that was ever asked for. Everybody was told this level.
    pub async fn judge(&self, gateway: &Serving, books: &BooksAt, level: Level) {
        let scope = Scope { complete: true, level: Some(level), ..Scope::default() };
        let (access, history) = (gateway.access(), &self.all);
        let inquiry = Inquiry { ops: &access, books, sale: SALE, history, scope, within: PATIENCE };
        let run =
            Run { history: Some(self.dir.path().join(HISTORY)), ..Run::new(self.seed, self.name) };
        examine_or_report(run, &inquiry).await.unwrap_or_else(|told| panic!("{told}"));
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            let (name, seed, dir) = (self.name, self.seed, self.dir.path().display());
            // What is gone wrong here as well must not hide what went wrong first.
            let saved = self.all.save(&self.dir.path().join(HISTORY));
            eprintln!("{name}: repeat this with FLOODGATE_CRASH_SEED={seed}");
            eprintln!("{name}: what clients saw is in {dir} ({saved:?})");
        }
    }
}

/// The books of a gateway that keeps them in its data dir.
pub fn books_in(dir: &Path) -> BooksAt {
    BooksAt::Sqlite(dir.join("store.db"))
}
