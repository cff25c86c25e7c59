//! [`floodgate_loadtest::chaos`] in short: a few rounds with this program. `cargo xtask chaos` plays it at
//! length.

use std::path::PathBuf;
use std::time::Duration;

use floodgate_loadtest::chaos::{self, Plan};

/// As in a run at length; there it is another each time.
const SEED: u64 = 11;

/// Proves that what chaos asks of the program holds for a while. Its files stay where it says, for whoever has to
/// find out why it did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_a_moment() {
    let dir = tempfile::tempdir().unwrap().keep();
    let plan = Plan {
        floodgate: PathBuf::from(env!("CARGO_BIN_EXE_floodgate")),
        lasts: Duration::from_secs(600),
        rounds_max: 2,
        seed: SEED,
        gateways: 2,
        dir: dir.clone(),
        commit: String::new(),
    };
    println!("files in {}", dir.display());
    let tally = chaos::run(&plan, |round| println!("{round}")).await.unwrap();
    println!("{tally:?}");
    assert_eq!((tally.broken, tally.rounds), (None, u64::from(plan.rounds_max)));
    assert!(tally.requests.get("reserved").is_some_and(|reserved| *reserved > 0));
    std::fs::remove_dir_all(dir).unwrap();
}
