//! A gateway: the product's own gate, workers and writer, over the model's network.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::books::{Books, Database};
use super::network::{Network, Weather};
use super::server::{Dialer, Server};
use super::yarn::{self, Time};
use crate::admission::{AdmissionSettings, Buckets};
use crate::carts::CartCache;
use crate::catalog::Catalog;
use crate::clock::{Clock, Millis, SystemClock};
use crate::engine::{Command, Position};
use crate::gate::{Gate, Parts};
use crate::ledger::redis::{self, Around, Promise, RedisLedger, Settings, assembled};
use crate::ledger::{Durability, Fault, Health, Knowledge, LaneGauge, Ledger, Pending};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, OutboxError, Reading, Record, stream};
use crate::reconcile;
use crate::runtimes::Handles;
use crate::sale::LaneId;
use crate::store::{Holder, Store};
use crate::writer::{Progress, Underway, Writer};

pub const LANE: LaneId = LaneId(0);

/// What all gateways of a world have in common.
#[derive(Clone)]
pub struct Common {
    pub server: Server,
    pub database: Arc<Mutex<Database>>,
    pub durability: Durability,
    pub metrics: Arc<Metrics>,
    pub time: Arc<Time>,
    /// What a part of the product panicked with.
    pub panics: Arc<Mutex<Vec<String>>>,
}

/// A gateway that runs, until it is killed.
pub struct Gateway {
    pub gate: Arc<Gate>,
    pub network: Network,
    pub ledger: Arc<Rung>,
    pub skew_ms: Arc<AtomicI64>,
    pub killed: watch::Sender<bool>,
    _stop: watch::Sender<bool>,
    _writer: JoinSet<()>,
}

impl Gateway {
    /// Starts one. `None` where the books do not answer.
    pub async fn start(common: &Common, seed: u64, weather: Weather) -> Option<Self> {
        let network = Network::new(seed, weather);
        let database = Arc::clone(&common.database);
        let store: Arc<dyn Store> = Arc::new(Books { database, network: network.clone() });
        let cursor = store.cursor(LANE).await.ok()?;
        let progress = Progress::new(&[cursor]);
        let underway = Underway::new(1);
        let holder = Holder(seed);
        let recall = reconcile::Books::new(Arc::clone(&store), underway.clone(), holder);
        let catalog = Arc::new(Catalog::default());
        let metrics = Arc::clone(&common.metrics);
        let around = Around {
            catalog: Arc::clone(&catalog),
            metrics: Arc::clone(&metrics),
            recall: Arc::new(recall),
            // Nobody is limited.
            user_quota: watch::channel(None).1,
            runtimes: Handles::current(),
        };
        let promise = Promise { durability: common.durability, replicas: 1 };
        let settings = Settings { lanes: 1, in_flight: 2, batch_max: 64, promise };
        let dialer = Dialer { server: common.server.clone(), network: network.clone() };
        let server = Arc::new(redis::server::Server::given(Arc::new(dialer)));
        let (ledger, workers) =
            assembled::assemble(&server, settings, &around, format!("{seed:016x}"));
        let ledger = Arc::new(Rung { ledger, bell: Arc::new(Notify::new()) });
        let (killed, dies) = watch::channel(false);
        for (number, worker) in (1..).zip(workers) {
            let (bell, panics) = (Arc::clone(&ledger.bell), Arc::clone(&common.panics));
            let work = move || {
                worker.work(|rest| {
                    let _ = yarn::block_on(async { timeout(rest, bell.notified()).await });
                });
            };
            let thread = yarn::run(Arc::clone(&common.time), seed ^ number, dies.clone(), work);
            tokio::spawn(async move {
                if let Err(said) = thread.await {
                    panics.lock().unwrap().push(said);
                }
            });
        }
        let skew_ms = Arc::new(AtomicI64::new(0));
        let clock: Arc<dyn Clock> = Arc::new(Skewed(Arc::clone(&skew_ms)));
        let ledger_side: Arc<dyn Ledger> = Arc::clone(&ledger) as Arc<dyn Ledger>;
        let (stop, stops) = watch::channel(false);
        let writer = Writer {
            outbox: Arc::new(Reader {
                ledger: Arc::clone(&ledger),
                server: common.server.clone(),
                network: network.clone(),
            }),
            store,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            progress: progress.clone(),
            gathers: common.durability != Durability::Stored,
            carts: Arc::new(CartCache::new(&metrics)),
            holder,
            underway,
        };
        let writer = writer.spawn(&stops);
        let gate = Arc::new(Gate::new(Parts {
            ledger: ledger_side,
            catalog,
            clock,
            progress,
            buckets: Arc::new(Buckets::new(&AdmissionSettings::unlimited(), &metrics)),
            metrics,
            durability: common.durability,
        }));
        Some(Self { gate, network, ledger, skew_ms, killed, _stop: stop, _writer: writer })
    }

    /// Dies, with all that is under way.
    pub fn kill(&self) {
        self.killed.send_replace(true);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The wall clock of a gateway's machine.
struct Skewed(Arc<AtomicI64>);

impl Clock for Skewed {
    fn now(&self) -> Millis {
        Millis(SystemClock.now().0.saturating_add_signed(self.0.load(Ordering::Relaxed)))
    }
}

/// The ledger, and a bell for its workers.
pub struct Rung {
    ledger: RedisLedger,
    bell: Arc<Notify>,
}

impl Ledger for Rung {
    fn lanes(&self) -> u16 {
        1
    }

    fn submit(&self, lane: LaneId, command: Command) -> Result<Pending, Fault> {
        let pending = self.ledger.submit(lane, command)?;
        self.bell.notify_one();
        Ok(pending)
    }

    fn head(&self, lane: LaneId) -> watch::Receiver<Position> {
        self.ledger.head(lane)
    }

    fn wait(&self, _lane: LaneId) -> Duration {
        // Measured by the machine's own clock, which is none of the simulation's.
        Duration::ZERO
    }

    fn gauge(&self, lane: LaneId) -> LaneGauge {
        self.ledger.gauge(lane)
    }

    fn health(&self, lane: LaneId) -> Health {
        self.ledger.health(lane)
    }

    fn known(&self, lane: LaneId) -> Knowledge {
        self.ledger.known(lane)
    }
}

/// Reads the outbox for a writer.
struct Reader {
    ledger: Arc<Rung>,
    server: Server,
    network: Network,
}

impl Outbox for Reader {
    fn lanes(&self) -> u16 {
        1
    }

    fn head(&self, lane: LaneId) -> watch::Receiver<Position> {
        self.ledger.head(lane)
    }

    fn read(
        &self,
        lane: LaneId,
        after: Position,
        records_max: usize,
        _events_max: usize,
    ) -> Reading<'_, Vec<Record>> {
        Box::pin(async move {
            let error = |cause: String| OutboxError { lane, cause };
            let trip = self.network.trip().await;
            sleep(trip.there).await;
            if trip.lost || trip.answer_lost {
                return Err(error("the connection is broken".to_owned()));
            }
            let key = redis::keys::Keys::of(lane).outbox;
            let read = stream::read(&mut self.server.glance(), &key, after, records_max.min(7));
            sleep(trip.back).await;
            self.network.hold().await;
            let entries = read.map_err(|cause| error(cause.to_string()))?;
            Ok(entries.into_iter().map(stream::Entry::into_record).collect())
        })
    }
}
