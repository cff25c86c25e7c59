//! The product's own books, in memory, behind a network.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::time::sleep;

use super::network::Network;
use crate::carts::{Cart, CartChange, CartRefusal};
use crate::crash;
use crate::engine::{Actor, Position};
use crate::orders::{Order, OrderMark};
use crate::outbox::Record;
use crate::sale::{ItemId, LaneId, ReservationId, SaleId, UserId};
use crate::store::sqlite::inline::Inline;
use crate::store::{
    Batch, Claim, DeadLetter, DeadMark, Digested, Holder, Job, Mend, Note, Retried, Store,
    StoreError,
};

/// The database.
pub struct Database {
    pub books: Inline,
    pub up: bool,
    /// How often it dies in the middle of a transaction.
    pub dies: f32,
    rng: Rng,
}

impl Database {
    pub fn new(seed: u64) -> Arc<Mutex<Self>> {
        let rng = Rng::with_seed(seed);
        Arc::new(Mutex::new(Self { books: Inline::open(), up: true, dies: 0.0, rng }))
    }

    /// Does something, or dies at one of the points on the way.
    fn work<T>(
        &mut self,
        job: impl FnOnce(&mut Inline) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.rng.f32() >= self.dies {
            return job(&mut self.books);
        }
        let mut left = self.rng.u32(0..6);
        crash::simulated::decided_by(Some(Box::new(move |_| {
            if left == 0 {
                std::panic::resume_unwind(Box::new(super::yarn::Killed));
            }
            left -= 1;
        })));
        let done = catch_unwind(AssertUnwindSafe(|| job(&mut self.books)));
        crash::simulated::decided_by(None);
        done.unwrap_or_else(|_| Err(StoreError::Failed("the database died".to_owned())))
    }
}

/// One gateway's way to it.
#[derive(Clone)]
pub struct Books {
    pub database: Arc<Mutex<Database>>,
    pub network: Network,
}

impl Books {
    fn ask<'a, T: Send + 'a>(
        &'a self,
        job: impl FnOnce(&mut Inline) -> Result<T, StoreError> + Send + 'a,
    ) -> Job<'a, T> {
        Box::pin(async move {
            let failed = |what: &str| StoreError::Failed(what.to_owned());
            let trip = self.network.trip().await;
            sleep(trip.there.min(Duration::from_millis(500))).await;
            if trip.lost {
                return Err(failed("the request was lost"));
            }
            let done = {
                let mut database = self.database.lock().unwrap();
                if database.up { database.work(job) } else { Err(failed("nobody is there")) }
            };
            sleep(trip.back).await;
            self.network.hold().await;
            if trip.answer_lost { Err(failed("the answer was lost")) } else { done }
        })
    }
}

/// What no simulation asks for.
fn never<T>() -> Job<'static, T> {
    unreachable!("no simulation asks for this")
}

impl Store for Books {
    fn bind(&self, _ledger: String) -> Job<'_, String> {
        never()
    }

    fn cursor(&self, lane: LaneId) -> Job<'_, Position> {
        self.ask(move |books| books.cursor(lane))
    }

    fn claim(&self, lane: LaneId, holder: Holder) -> Job<'_, Claim> {
        self.ask(move |books| books.claim(lane, holder))
    }

    fn release(&self, lane: LaneId, holder: Holder) -> Job<'_, ()> {
        self.ask(move |books| books.release(lane, holder))
    }

    fn digest(&self, batch: Arc<Batch>) -> Job<'_, Digested> {
        self.ask(move |books| books.digest(&batch))
    }

    fn archive(&self, lane: LaneId, seq: u64, max: usize) -> Job<'_, Vec<Record>> {
        self.ask(move |books| books.archive(lane, seq, max))
    }

    fn order(&self, _user: UserId, _id: ReservationId) -> Job<'_, Option<Order>> {
        never()
    }

    fn orders(&self, _user: UserId, _after: Option<OrderMark>, _max: usize) -> Job<'_, Vec<Order>> {
        never()
    }

    fn cart(&self, _user: UserId) -> Job<'_, Cart> {
        never()
    }

    fn change_cart(
        &self,
        _user: UserId,
        _expected: Option<u64>,
        _change: CartChange,
    ) -> Job<'_, Result<Cart, CartRefusal>> {
        never()
    }

    fn merge_carts(
        &self,
        _guest: UserId,
        _user: UserId,
        _expected: Option<u64>,
    ) -> Job<'_, Result<Cart, CartRefusal>> {
        never()
    }

    fn carts_with(&self, _items: Vec<ItemId>, _max: usize) -> Job<'_, Vec<(UserId, Cart)>> {
        never()
    }

    fn dead_letters(
        &self,
        after: Option<DeadMark>,
        max: usize,
    ) -> Job<'_, Vec<(LaneId, DeadLetter)>> {
        self.ask(move |books| books.dead_letters(after, max))
    }

    fn retry_dead_letter(&self, _mark: DeadMark, _actor: Actor) -> Job<'_, Option<Retried>> {
        never()
    }

    fn drop_dead_letter(&self, _mark: DeadMark, _actor: Actor) -> Job<'_, bool> {
        never()
    }

    fn mend(&self, _mends: Arc<[Mend]>, _mended: u64) -> Job<'_, u64> {
        never()
    }

    fn archive_orders(&self, _sale: SaleId, _max: usize, _actor: Actor) -> Job<'_, u64> {
        never()
    }

    fn note(&self, _note: Note) -> Job<'_, ()> {
        never()
    }

    fn audit_log(&self, _skip: usize, _max: usize) -> Job<'_, Vec<Value>> {
        never()
    }

    fn ping(&self) -> Job<'_, ()> {
        never()
    }
}
