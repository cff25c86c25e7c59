//! The watcher of a lane: a thread with a connection of its own. It asks for what changed in the lane's
//! sales, has holds that ran out returned, and follows what other gateways grant.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redis::cmd;
use tracing::warn;

use super::caller::{Caller, Common, Done};
use super::follower::Follower;
use super::lane::{Known, Lane};
use super::wire::{self, Head, Report};
use crate::catalog::SaleCard;
use crate::clock;
use crate::crash;
use crate::engine::Position;
use crate::ledger::Health;
use crate::sale::SaleDefinition;

pub(super) struct Watcher {
    caller: Caller,
    follower: Follower,
}

impl Watcher {
    pub(super) fn new(lane: Arc<Lane>, common: Arc<Common>) -> Self {
        Self { caller: Caller::new(lane, common), follower: Follower::default() }
    }

    /// Watches until it is to stop.
    pub(super) fn watch(mut self) {
        while !self.caller.common.stop.load(Ordering::Acquire) {
            let since = self.caller.lane.tick();
            // A call that fails is made again with the next tick, which says nothing new of the cause.
            let (asked, seen) = (clock::instant(), *self.caller.lane.head.borrow());
            if let Ok(done) = self.caller.call(&[], Some(since.seq), asked) {
                // Nobody asked for anything: what is new ran out, or another's call came first.
                if done.head.position > seen {
                    crash::point("redis: swept");
                }
                self.tell(&done, since, asked);
            }
            clock::sleep(self.caller.lane.idle().max(self.caller.shut_out()));
        }
    }

    /// Tells the catalog what the lane says of its sales. A lane is up once the catalog knows them.
    fn tell(&mut self, done: &Done, since: Position, asked: Instant) {
        let Head { position, now, more, full, .. } = done.head;
        let mut last = since.seq;
        let mut whole = !full;
        let mut cards = Vec::with_capacity(done.reports.len());
        for report in &done.reports {
            // It is told again with the next tick.
            let Some(card) = self.card_of(report) else {
                whole = false;
                break;
            };
            cards.push((card, report));
            last = report.touched;
        }
        if !whole {
            // Whoever shares the last seq may not have been told yet.
            last = last.saturating_sub(1).max(since.seq);
        }
        // Before anybody reads that the last unit is gone: who has it.
        let known = whole && self.follow(position);
        if !self.caller.lane.ticked(since, position, last, known.then_some(Known { now, asked })) {
            return;
        }
        for (card, report) in cards {
            card.update(position, &report.window, &report.counters);
        }
        if full || more {
            self.caller.lane.again();
        }
        if whole {
            self.caller.lane.is(Health::Up);
        }
    }

    fn follow(&mut self, position: Position) -> bool {
        let Caller { connection, keys, common, .. } = &mut self.caller;
        let Some(connection) = connection else { return false };
        match self.follower.follow(connection, keys, &common.around.catalog, position) {
            Ok(known) => known,
            Err(error) => {
                warn!(lane = %self.caller.lane.id, %error, "the outbox cannot be followed");
                self.caller.abandon();
                false
            }
        }
    }

    /// What the catalog has of a sale; it is made known there where it is new.
    fn card_of(&mut self, report: &Report) -> Option<Arc<SaleCard>> {
        let known = self.caller.common.around.catalog.sale(report.sale.as_str());
        if known.is_some() {
            return known;
        }
        let definition = self.definition_of(report)?;
        Some(self.caller.common.around.catalog.know(&definition))
    }

    fn definition_of(&mut self, report: &Report) -> Option<Arc<SaleDefinition>> {
        let mut get = cmd("HGET");
        get.arg(&self.caller.keys.definitions).arg(report.sale.as_str());
        let text: String = get.query(self.caller.connection.as_mut()?).ok()?;
        wire::definition(&text).ok()
    }
}
