//! One run: gateways, buyers, trouble; then all is mended, and judged.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use floodgate_loadtest::history::{Entry, History, Op, Seen, Standing, known};
use floodgate_loadtest::limits::LATE_CALL;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::books::Database;
use super::buyers::{self, Wish, seen};
use super::gateway::{Common, Gateway, LANE};
use super::judge;
use super::network::Weather;
use super::scenario::{Fault, Scenario, TROUBLE_MS};
use super::server::Server;
use super::yarn::Time;
use crate::clock::made;
use crate::gate::{Denied, Gate};
use crate::ledger::{Durability, Health, Ledger};
use crate::metrics::Metrics;
use crate::sale::{IdempotencyKey, ItemId, Move, ReservationId, SaleDefinition, SaleId};

pub const SALE: &str = "flash";

/// Everything that is shared in a run.
pub struct World {
    pub scenario: Scenario,
    pub common: Common,
    pub gateways: Mutex<Vec<Option<Arc<Gateway>>>>,
    entries: Mutex<Vec<Entry>>,
    /// What went wrong that is no client's to see.
    pub faults: Mutex<Vec<String>>,
    beginning: Instant,
    weather: Mutex<Weather>,
    starts: Mutex<u64>,
}

/// What a run came to.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// What is wrong; nothing, if all is well.
    pub faults: Vec<String>,
    /// What clients saw, as text: the same for the same scenario.
    pub log: String,
    /// Requests by how they ended.
    pub outcomes: std::collections::BTreeMap<String, u64>,
}

/// Runs a scenario on the calling thread.
pub fn run(scenario: &Scenario) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    fastrand::seed(scenario.seed);
    let outcome = runtime.block_on(async {
        let time = Time::new();
        made::by(Some(Arc::clone(&time) as Arc<dyn made::Maker>));
        let world = World::new(scenario.clone(), time);
        // Bounded: a run that never ends is a fault, too.
        let whole = timeout(Duration::from_secs(600), Arc::clone(&world).whole()).await;
        if whole.is_err() {
            world.fault("it never ended");
        }
        world.kill_all();
        for _ in 0..4 {
            // Whoever was killed unwinds.
            sleep(Duration::from_millis(1)).await;
        }
        world.outcome()
    });
    made::by(None);
    outcome
}

impl World {
    fn new(scenario: Scenario, time: Arc<Time>) -> Arc<Self> {
        let seed = scenario.seed;
        let common = Common {
            server: Server::new(seed ^ 1, scenario.durability != Durability::Memory),
            database: Database::new(seed ^ 2),
            durability: scenario.durability,
            metrics: Arc::new(Metrics::new()),
            time,
            panics: Arc::default(),
        };
        Arc::new(Self {
            common,
            gateways: Mutex::new((0..scenario.gateways).map(|_| None).collect()),
            entries: Mutex::default(),
            faults: Mutex::default(),
            beginning: Instant::now(),
            weather: Mutex::new(Weather { slow_us: 400, ..Weather::default() }),
            starts: Mutex::new(0),
            scenario,
        })
    }

    pub fn fault(&self, what: impl Into<String>) {
        self.faults.lock().unwrap().push(what.into());
    }

    fn now_us(&self) -> u64 {
        self.beginning.elapsed().as_micros() as u64 + 1
    }

    pub fn invoke(&self, mut entry: Entry) -> usize {
        let mut entries = self.entries.lock().unwrap();
        (entry.seq, entry.start_us) = (entries.len() as u64, self.now_us());
        entries.push(entry);
        entries.len() - 1
    }

    pub fn end(&self, at: usize, seen: Seen, change: impl FnOnce(&mut Entry)) {
        let entry = &mut self.entries.lock().unwrap()[at];
        (entry.seen, entry.end_us) = (seen, self.now_us());
        change(entry);
    }

    pub fn history(&self) -> History {
        History::from_entries(self.entries.lock().unwrap().clone())
    }

    pub fn gateway(&self, which: usize) -> Option<Arc<Gateway>> {
        let gateways = self.gateways.lock().unwrap();
        gateways[which % gateways.len()].clone()
    }

    /// Asks a gateway, until the client's patience ends or the gateway dies.
    pub async fn at<T>(
        &self,
        which: usize,
        patience_ms: u64,
        ask: impl AsyncFnOnce(&Gate) -> Result<T, Denied>,
    ) -> Result<T, Seen> {
        let Some(gateway) = self.gateway(which) else { return Err(Seen::No(known("not-sent"))) };
        let mut killed = gateway.killed.subscribe();
        let patience = Duration::from_millis(patience_ms);
        tokio::select! {
            biased;
            _ = killed.wait_for(|killed| *killed) => {
                // As after a deadline: what it had sent may still be under way.
                Err(Seen::Unknown(known("deadline")))
            }
            answer = timeout(patience, ask(&gateway.gate)) => match answer {
                Ok(answer) => answer.map_err(|denied| seen(&denied)),
                Err(_) => Err(Seen::Unknown(known("deadline"))),
            }
        }
    }

    async fn whole(self: Arc<Self>) {
        for which in 0..self.scenario.gateways {
            self.start(which).await;
        }
        if !self.all_up(Duration::from_secs(20)).await || !self.open_sale().await {
            return self.fault("the sale does not open");
        }
        let trouble = tokio::spawn(Arc::clone(&self).trouble());
        let mut rng = Rng::with_seed(self.scenario.seed ^ 3);
        let mut crowd = JoinSet::new();
        for number in 0..self.scenario.buyers {
            crowd.spawn(buyers::live(Arc::clone(&self), number, rng.fork()));
        }
        let _ = timeout(Duration::from_millis(TROUBLE_MS * 3), async {
            while crowd.join_next().await.is_some() {}
        })
        .await;
        let _ = trouble.await;
        // Whoever is still at it goes home; what they had asked for stays unknown.
        crowd.shutdown().await;
        self.heal().await;
    }

    /// Starts a gateway; it serves once its lane is open.
    pub async fn start(&self, which: usize) {
        let number = {
            let mut starts = self.starts.lock().unwrap();
            *starts += 1;
            *starts
        };
        let seed = self.scenario.seed.wrapping_mul(31).wrapping_add(number << 8);
        let weather = *self.weather.lock().unwrap();
        for _ in 0..200 {
            if let Some(gateway) = Gateway::start(&self.common, seed, weather).await {
                let mut waited = 0;
                while gateway.ledger.health(LANE) != Health::Up && waited < 20_000 {
                    sleep(Duration::from_millis(20)).await;
                    waited += 20;
                }
                self.gateways.lock().unwrap()[which] = Some(Arc::new(gateway));
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn kill_all(&self) {
        for gateway in self.gateways.lock().unwrap().iter_mut() {
            if let Some(gateway) = gateway.take() {
                gateway.kill();
            }
        }
    }

    /// Whether every gateway serves within a time.
    async fn all_up(&self, within: Duration) -> bool {
        let is_up = |gateway: &Option<Arc<Gateway>>| {
            gateway.as_ref().is_some_and(|gateway| gateway.ledger.health(LANE) == Health::Up)
        };
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if self.gateways.lock().unwrap().iter().all(is_up) {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    async fn open_sale(&self) -> bool {
        let items: Vec<_> = (0..)
            .zip(&self.scenario.stock)
            .map(|(number, stock): (u32, _)| {
                json!({ "id": format!("i{number}"), "title": "t", "price": 100, "currency": "EUR",
                    "stock": stock })
            })
            .collect();
        let definition = json!({ "id": SALE, "title": "t", "hold_seconds": self.scenario.hold_seconds,
                                 "per_user_limit": self.scenario.limit, "items": items });
        let definition = SaleDefinition::from_json(&definition).expect("a sale");
        for _ in 0..20 {
            let (definition, sale) = (definition.clone(), SaleId::parse(SALE).unwrap());
            let made = self
                .at(0, 5_000, async |gate| gate.create_sale(definition, "op".into()).await)
                .await;
            let opened = self
                .at(0, 5_000, async |gate| gate.move_sale(sale, Move::Open, "op".into()).await)
                .await;
            if made.is_ok() && opened.is_ok() {
                // On every gateway within a second.
                sleep(Duration::from_millis(300)).await;
                return true;
            }
        }
        false
    }

    fn is(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
        for gateway in self.gateways.lock().unwrap().iter().flatten() {
            gateway.network.is(weather);
        }
    }

    async fn trouble(self: Arc<Self>) {
        self.is(self.scenario.weather);
        self.common.server.replica_is_late();
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        for (at, fault) in self.scenario.faults.clone() {
            sleep_until(began + Duration::from_millis(at)).await;
            under_way.spawn(Arc::clone(&self).happens(fault));
        }
        while under_way.join_next().await.is_some() {}
        sleep_until(began + Duration::from_millis(TROUBLE_MS)).await;
    }

    async fn happens(self: Arc<Self>, fault: Fault) {
        let ms = Duration::from_millis;
        let (server, database) = (&self.common.server, &self.common.database);
        match fault {
            Fault::KillGateway { which, down } => {
                let gateway = self.gateways.lock().unwrap()[which].take();
                if let Some(gateway) = gateway {
                    gateway.kill();
                    drop(gateway);
                    sleep(ms(down)).await;
                    self.start(which).await;
                }
            }
            Fault::PauseGateway { which, pause } => {
                if let Some(gateway) = self.gateway(which) {
                    gateway.network.pause(ms(pause));
                }
            }
            Fault::SkewGateway { which, by } => {
                if let Some(gateway) = self.gateway(which) {
                    gateway.skew_ms.store(by, Ordering::Relaxed);
                }
            }
            Fault::KillRedis { down, lost } | Fault::RestoreRedis { down, lost } => {
                server.kill();
                sleep(ms(down)).await;
                server.start(lost);
            }
            Fault::WipeRedis { down } => {
                server.kill();
                sleep(ms(down)).await;
                server.start_empty();
            }
            Fault::FailOver => {
                server.kill();
                sleep(ms(50)).await;
                server.fail_over();
            }
            Fault::FreezeRedis { pause } => server.freeze(ms(pause)),
            Fault::FillRedis { pause } => {
                server.fill(true);
                sleep(ms(pause)).await;
                server.fill(false);
            }
            Fault::ForgetScripts => server.forget_scripts(),
            Fault::SkewRedis { by } => server.skew(by),
            Fault::StoreAway { pause } => {
                database.lock().unwrap().up = false;
                sleep(ms(pause)).await;
                database.lock().unwrap().up = true;
            }
            Fault::StoreDies { pause } => {
                database.lock().unwrap().dies = 0.5;
                sleep(ms(pause)).await;
                database.lock().unwrap().dies = 0.0;
            }
            Fault::Restock { delta } => self.restock(delta).await,
            Fault::PauseSale { pause } => {
                self.moves(Move::Pause).await;
                sleep(ms(pause)).await;
                self.moves(Move::Resume).await;
            }
        }
    }

    async fn restock(&self, delta: i64) {
        let (sale, item) = (SaleId::parse(SALE).unwrap(), ItemId::parse("i0").unwrap());
        let key = IdempotencyKey::parse("restock").unwrap();
        for which in 0..3 {
            let (sale, item, key) = (sale.clone(), item.clone(), key.clone());
            let asked = self.at(which, 2_500, async |gate| {
                gate.restock(sale, item, delta, key, "r".into(), "op".into()).await
            });
            if asked.await.is_ok() {
                return;
            }
        }
    }

    /// An operator asks for a step, until it is done or there is nothing to do.
    pub async fn moves(&self, step: Move) {
        for which in 0..6 {
            let sale = SaleId::parse(SALE).unwrap();
            let moved =
                self.at(which, 2_500, async |gate| gate.move_sale(sale, step, "op".into()).await);
            match moved.await {
                Ok(_) => return,
                Err(Seen::No(code)) if code == "invalid-transition" => return,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Mends everything; then nothing may stay unknown, and nothing may stay shut.
    async fn heal(self: Arc<Self>) {
        self.is(Weather { slow_us: 400, ..Weather::default() });
        self.common.server.heal();
        self.common.server.skew(0);
        {
            let mut database = self.common.database.lock().unwrap();
            (database.up, database.dies) = (true, 0.0);
        }
        for which in 0..self.scenario.gateways {
            match self.gateway(which) {
                None => self.start(which).await,
                Some(gateway) => {
                    gateway.network.pause(Duration::ZERO);
                    gateway.skew_ms.store(0, Ordering::Relaxed);
                }
            }
        }
        if !self.all_up(Duration::from_secs(20)).await {
            return self.fault("liveness: a lane does not open, though nothing is wrong any more");
        }
        // A sale that somebody could not resume any more.
        self.moves(Move::Resume).await;
        // Until nothing is under way any more of what clients gave up.
        sleep(Duration::from_millis(3_300)).await;
        if self.resolve().await {
            judge::judge(&self).await;
        }
    }

    /// Asks again for everything that is unknown.
    async fn resolve(&self) -> bool {
        let mut rng = Rng::with_seed(self.scenario.seed ^ 4);
        let history = self.history();
        for story in history.keys() {
            if story.standing(LATE_CALL) != Standing::Unresolved {
                continue;
            }
            let line = &story.entries[0].lines[0];
            let wish = Wish {
                user: Arc::clone(story.user),
                key: Arc::clone(story.key),
                item: Arc::clone(&line.item_id),
                quantity: line.quantity,
            };
            if !self
                .settles(async || buyers::reserve(self, &wish, rng.usize(..), 3_000).await.0)
                .await
            {
                self.fault(format!("liveness: {} of {} stays unknown", wish.key, wish.user));
                return false;
            }
        }
        for entry in history.entries().iter().filter(|entry| entry.is_unknown()) {
            let id = entry.reservation.as_deref().and_then(ReservationId::parse);
            let Some(id) = id else { continue };
            let settled = match entry.op {
                Op::Cancel => {
                    self.settles(async || {
                        buyers::cancel(self, &entry.user, id, rng.usize(..)).await
                    })
                    .await
                }
                Op::Confirm => {
                    self.settles(async || {
                        buyers::confirm(self, &entry.user, id, rng.usize(..)).await
                    })
                    .await
                }
                Op::Reserve | Op::Misuse | Op::Look => true,
            };
            if !settled {
                let standing = self.standing();
                self.fault(format!("liveness: {:?} of {id} stays unknown; {standing}", entry.op));
                return false;
            }
        }
        true
    }

    /// How far everybody is.
    fn standing(&self) -> String {
        let database = self.common.database.lock().unwrap();
        let (cursor, dead) = (database.books.cursor(LANE), database.books.dead_letters(None, 9));
        let heads = (0..self.scenario.gateways).map(|which| {
            self.gateway(which)
                .map(|gateway| (*gateway.ledger.head(LANE).borrow(), gateway.ledger.health(LANE)))
        });
        format!("lanes {:?}, books {cursor:?}, dead {dead:?}", heads.collect::<Vec<_>>())
    }

    /// Whether there is a definite answer within the time for it.
    async fn settles(&self, mut ask: impl AsyncFnMut() -> Seen) -> bool {
        for _ in 0..25 {
            match ask().await {
                Seen::Ok => return true,
                Seen::No(code) if !floodgate_loadtest::history::is_transient(&code) => return true,
                Seen::No(_) | Seen::Unknown(_) | Seen::Invoke => {}
            }
            sleep(Duration::from_millis(200)).await;
        }
        false
    }

    fn outcome(&self) -> Outcome {
        let mut faults = std::mem::take(&mut *self.faults.lock().unwrap());
        faults.append(&mut self.common.panics.lock().unwrap());
        let history = self.history();
        let line = |entry: &Entry| {
            let Entry { op, user, key, start_us, end_us, seen, replayed, .. } = entry;
            let key = key.as_deref().unwrap_or("");
            format!("{start_us:>9} {end_us:>9} {user} {op:?} {key} {seen:?} {replayed}\n")
        };
        let log = history.entries().iter().map(line).collect();
        Outcome { faults, log, outcomes: history.outcomes() }
    }
}
