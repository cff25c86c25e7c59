//! The chaos harness for a moment: `cargo xtask chaos` is its long form.

use std::time::Duration;

use floodgate_loadtest::chaos::{self, Plan};

/// Proves that a few sales under random faults keep every promise: gateways, Redis, PostgreSQL and the
/// ways between them are killed, stopped, cut and emptied, and all of it sells again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_rounds() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        floodgate: env!("CARGO_BIN_EXE_floodgate").into(),
        lasts: Duration::from_secs(25),
        rounds_max: 2,
        seed: std::env::var("FLOODGATE_CRASH_SEED").map_or(1, |seed| seed.parse().unwrap()),
        gateways: 2,
        dir: dir.path().to_owned(),
        commit: String::new(),
    };
    let tally = chaos::run(&plan, |round| println!("{round}")).await.unwrap();
    assert_eq!(tally.broken, None);
    assert!(tally.requests.get("reserved").is_some_and(|granted| *granted > 10), "{tally:?}");
}
