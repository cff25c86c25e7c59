//! Deaths of the real program at each named point, again and again: `cargo xtask crash-points`.
//!
//! The program dies by `abort` at the point, under load, and is started again on what it left. Each point is
//! played where it can be met: embedded, over a Redis that syncs every write, with books in SQLite and in
//! PostgreSQL. Starts find what a death left; recoveries a Redis that was wiped, or one that is ahead of the
//! books.

mod stage;

use floodgate::crash::POINTS;
use serde_json::json;

use self::stage::{Place, Stage};
use crate::binary::audit_with;
use crate::case::Case;
use crate::patience::eventually;
use crate::shop::{CONSOLE, GAME, SALE, sale};

/// What points begin with; each has a test of its own.
const STEPS: [&str; 8] =
    ["start:", "reserve:", "reply:", "lane:", "redis:", "writer:", "recovery:", "drain:"];
/// Not every start comes to its point; most do.
const STARTS_PER_DEATH: u64 = 3;

/// Proves that no point is left out below.
#[test]
fn each_is_tried() {
    for point in POINTS {
        let steps = STEPS.iter().filter(|step| point.starts_with(**step));
        assert_eq!(steps.count(), 1, "{point}");
    }
}

/// Dies at each point of a step in each place, `FLOODGATE_POINT_HITS` times; unless that is said, once in one
/// of its places, which the seed chooses.
async fn die_at(step: &'static str) {
    let hits = std::env::var("FLOODGATE_POINT_HITS").ok().map(|hits| hits.parse().unwrap());
    let wanted = std::env::var("FLOODGATE_POINTS").unwrap_or_default();
    let step = POINTS.into_iter().filter(|point| point.starts_with(step));
    for point in step.filter(|point| point.contains(&wanted)) {
        let places = stage::places(point);
        match hits {
            Some(hits) => {
                for place in places {
                    play(Case::new("crash_points"), point, *place, hits).await;
                }
            }
            None => {
                let mut case = Case::new("crash_points");
                let place = places[case.rng.usize(..places.len())];
                play(case, point, place, 1).await;
            }
        }
    }
}

async fn play(mut case: Case, point: &str, place: Place, hits: u64) {
    let began = std::time::Instant::now();
    println!("{point}, {place:?}, seed {}", case.seed);
    let mut stage = Stage::set(point, place);
    let mut definition = sale(SALE, &[(CONSOLE, 100_000_000), (GAME, 100_000_000)]);
    definition["per_user_limit"] = json!(2);
    if point.ends_with(": swept") {
        definition["hold_seconds"] = json!(1);
    }
    let mut gateway = stage.serve().await;
    // A replica that has just come may not have taken over yet: nobody knows then, and it is asked for again.
    eventually("the sale is made", async || {
        let made = gateway.admin("POST", "/admin/v1/sales").json(&definition).send().await;
        (made.status < 300).then_some(())
    })
    .await;
    eventually("the sale is open", async || {
        let opened = gateway.step(SALE, "open").await;
        // Opened by a try of which nobody knew.
        (opened.status == 200 || opened.status == 409).then_some(())
    })
    .await;
    let mut deaths = 0;
    for number in 0..hits * STARTS_PER_DEATH {
        let died;
        (gateway, died) = stage.hit(gateway, point, number, &mut case).await;
        deaths += u64::from(died);
        if deaths == hits {
            break;
        }
    }
    assert_eq!(deaths, hits, "{point}: the program does not come there");
    case.judge(&gateway, &stage.books(), stage.level()).await;
    gateway.stop();
    let arguments = stage.arguments();
    audit_with(stage.dir(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (took, seen) = (began.elapsed().as_secs_f32(), case.history().outcomes());
    println!("{point}, {place:?}: {deaths} deaths, {took:.1} s, {seen:?}");
}

/// Proves that a gateway that dies while it comes up takes nothing along of what a death left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_start() {
    die_at("start:").await;
}

/// Proves that a death on a reservation's way loses nothing that was told and sells nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_reservation() {
    die_at("reserve:").await;
}

/// Proves the same of a death with half an answer sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_reply() {
    die_at("reply:").await;
}

/// Proves the same of the embedded lane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_lane() {
    die_at("lane:").await;
}

/// Proves the same of the callers of Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_redis() {
    die_at("redis:").await;
}

/// Proves the same of the writer, in each store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_writer() {
    die_at("writer:").await;
}

/// Proves that a recovery that was cut off is done by the next start, whatever it has to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_recovery() {
    die_at("recovery:").await;
}

/// Proves that a gateway that dies while it drains owes nobody what it told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_drain() {
    die_at("drain:").await;
}
