//! Buyers who never give up, for as long as something goes wrong around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::patience::PATIENCE;
use crate::shop::{CONSOLE, Shop};

/// How often a fault comes; `FLOODGATE_CRASH_ROUNDS` makes it more.
pub fn rounds(usual: u32) -> u32 {
    let given = std::env::var("FLOODGATE_CRASH_ROUNDS");
    given.map_or(usual, |rounds| rounds.parse().expect("a number"))
}

/// Buyers who ask, each for one unit under a key, until they have an answer that is final.
pub async fn buy(shop: Shop, users: impl Iterator<Item = u32>) -> (usize, usize) {
    let (mut granted, mut refused) = (0, 0);
    for user in users {
        let user = format!("user-{user}");
        let began = Instant::now();
        loop {
            let answer = shop.want(&user, CONSOLE, 1).key("k").send().await;
            match answer.status {
                201 => granted += 1,
                409 => refused += 1,
                503 => {
                    assert!(began.elapsed() < PATIENCE, "never a final answer: {answer}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                other => panic!("{other}: {answer}"),
            }
            break;
        }
    }
    (granted, refused)
}

/// Buyers at work until they are told that it is over.
pub struct Crowd {
    over: Arc<AtomicBool>,
    buyers: JoinSet<(usize, usize)>,
}

impl Crowd {
    /// `number` of them; their names begin at `first`.
    pub fn start(shop: &Shop, number: u32, first: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut buyers = JoinSet::new();
        for buyer in 0..number {
            let (shop, over) = (Shop::clone(shop), Arc::clone(&over));
            let first = first + buyer * 100_000;
            buyers.spawn(async move {
                let users = (first..).take_while(|_| !over.load(Ordering::Relaxed));
                buy(shop, users).await
            });
        }
        Self { over, buyers }
    }

    /// How many units they were granted in all; nobody was refused.
    pub async fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let all = self.buyers.join_all().await;
        assert!(all.iter().all(|(_, refused)| *refused == 0));
        all.iter().map(|(granted, _)| granted).sum()
    }
}
