//! The scripts against the engine: the same random commands, in batches, through both.
//!
//! After each batch the answers are the same. At the end the outbox folds into the engine's state, and
//! what the scripts keep is, byte for byte, what a recovery would write from that state.

use std::cell::RefCell;
use std::collections::BTreeMap;

use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use proptest::prelude::*;
use redis::cmd;

use super::keys::Keys;
use super::recovery::{self, Recall};
use super::scripts::{self, FORMAT};
use super::server::{Connection, Server};
use super::wire::{self, Verdict};
use crate::clock::Millis;
use crate::engine::proof::commands::any_steps;
use crate::engine::proof::run::{Run, seen};
use crate::engine::proof::world::any_world;
use crate::engine::{self, Command, Event, Position, State};
use crate::outbox::stream;
use crate::sale::{LaneId, Outcome};

/// The scripts' clock is Redis's, and never steps back: sequences are played in the year 2100.
const AHEAD: u64 = 4_102_444_800_000;
const LANE_0: LaneId = LaneId(0);

fn later(command: &Command) -> Command {
    let mut command = command.clone();
    if let Command::CreateSale { definition, .. } = &mut command {
        let mut shifted = definition.as_ref().clone();
        let shift = |at: &mut Option<Millis>| *at = at.map(|at| Millis(at.0 + AHEAD));
        shift(&mut shifted.opens_at);
        shift(&mut shifted.closes_at);
        *definition = shifted.into();
    }
    command
}

/// The scripts at work.
struct Scripts {
    connection: Connection,
    keys: Keys,
    position: Position,
}

impl Scripts {
    fn new(redis: &RedisServer) -> Self {
        let mut connection = Server::of(&redis.url()).unwrap().connect(LANE_0).unwrap();
        cmd("FLUSHALL").exec(&mut connection).unwrap();
        let keys = Keys::of(LANE_0);
        let mut made = cmd("HSET");
        made.arg(&keys.meta).arg("format").arg(FORMAT).arg("epoch").arg(1).arg("seq").arg(0);
        made.arg("now").arg(0).exec(&mut connection).unwrap();
        Self { connection, keys, position: Position { epoch: 1, seq: 0 } }
    }

    fn call(&mut self, clock: Millis, commands: &[Command]) -> Vec<Outcome> {
        cmd("HSET")
            .arg(&self.keys.meta)
            .arg("now")
            .arg(clock.0)
            .exec(&mut self.connection)
            .unwrap();
        let asked = wire::Arguments::of(commands.iter());
        let call = scripts::lane_call(&self.keys, self.position, Some(0), None, None, &asked);
        let said = scripts::call_lane(&mut self.connection, &call).unwrap();
        let head = wire::head(&said.head).unwrap();
        assert_eq!((head.verdict, head.now), (Verdict::Done, clock));
        wire::reports(&said.reports).unwrap();
        self.position = head.position;
        let outcomes = wire::outcomes(&said.outcomes, &said.shapes, commands.iter()).unwrap();
        outcomes.into_iter().map(Result::unwrap).collect()
    }

    /// Everything that the lane keeps but its clock and its outbox, with what has no order in order.
    fn dump(&mut self) -> BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>> {
        let keys = self.keys.clone();
        let mut dump: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
        let hashes = [&keys.definitions, &keys.sales, &keys.stock, &keys.records, &keys.restocks];
        for key in hashes {
            dump.insert(key.clone(), cmd("HGETALL").arg(key).query(&mut self.connection).unwrap());
        }
        let accounts: BTreeMap<Vec<u8>, Vec<u8>> =
            cmd("HGETALL").arg(&keys.accounts).query(&mut self.connection).unwrap();
        let sorted = accounts.into_iter().map(|(user, packed)| {
            let account = rmpv::decode::read_value(&mut packed.as_slice()).unwrap();
            let mut pairs: Vec<_> = account.as_array().unwrap().chunks(2).collect();
            pairs.sort_by_key(|pair| pair[0].as_u64());
            (user, format!("{pairs:?}").into_bytes())
        });
        dump.insert(keys.accounts.clone(), sorted.collect());
        // Of those that are still held; and in whatever company.
        let due: Vec<(Vec<u8>, Vec<u8>)> = cmd("ZRANGE")
            .arg(&keys.due)
            .arg(0)
            .arg(-1)
            .arg("WITHSCORES")
            .query(&mut self.connection)
            .unwrap();
        let records = &dump[&keys.records];
        let alone =
            due.iter().flat_map(|(ids, at)| ids.chunks(16).map(|id| (id.to_vec(), at.clone())));
        let held = |id: &Vec<u8>| wire::is_held(&records[id]).unwrap();
        let due = alone.filter(|(id, _)| held(id)).collect();
        dump.insert(keys.due.clone(), due);
        dump
    }
}

/// Books that have digested nothing: a recovery has only what survived in the outbox.
struct Forgetful;

impl Recall for Forgetful {
    fn hold(&self, _lane: LaneId) -> Result<Box<dyn Send>, String> {
        Ok(Box::new(()))
    }

    fn still_holds(&self, lane: LaneId) -> Result<Position, String> {
        self.digested(lane)
    }

    fn digested(&self, _lane: LaneId) -> Result<Position, String> {
        Ok(Position { epoch: 1, seq: 0 })
    }

    fn recall(&self, _lane: LaneId) -> Result<State, String> {
        Ok(State::new(1))
    }
}

/// Whatever is asked, in whatever batches: the scripts answer as the engine does, tell the same events,
/// and keep the same state; every refusal is among the answers.
#[test]
fn scripts_are_the_engine() {
    let redis = RedisServer::start(Keeps::Nothing).unwrap();
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::default() };
    let sizes = prop::collection::vec(1_usize..6, 1..20);
    let refusals = RefCell::new(BTreeMap::<&str, u32>::new());
    proptest!(config, |(world in any_world(), steps in any_steps(60), sizes in sizes)| {
        let mut run = Run::new(world, 2);
        run.steps(&steps);
        let mut scripts = Scripts::new(&redis);
        let mut state = State::new(1);
        let mut refused = refusals.borrow_mut();
        let mut asked = run.asked.as_slice();
        for size in sizes.iter().cycle() {
            let (batch, rest) = asked.split_at((*size).min(asked.len()));
            let Some((clock, _)) = batch.first() else { break };
            asked = rest;
            let clock = state.now().max(Millis(clock.0 + AHEAD));
            let commands: Vec<_> = batch.iter().map(|(_, command)| later(command)).collect();
            let mut events: Vec<Event> = Vec::new();
            engine::apply(&mut state, clock, &Command::Sweep, &mut events);
            let expected: Vec<_> = commands
                .iter()
                .map(|command| engine::apply(&mut state, clock, command, &mut events))
                .collect();
            for outcome in &expected {
                if let Outcome::Refused(refusal) = outcome {
                    *refused.entry(refusal.code()).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(scripts.call(clock, &commands), expected, "{:?}", commands);
            prop_assert_eq!(scripts.position, state.position());
        }

        let mut folded = State::new(1);
        let entries =
            stream::read(&mut scripts.connection, &scripts.keys.outbox, Position::default(), 10_000);
        for entry in entries.unwrap() {
            prop_assert_eq!(entry.first_seq(), folded.position().seq + 1, "a gap");
            folded.advance(entry.at);
            for event in entry.record().unwrap().decode().unwrap() {
                folded.evolve(&event).unwrap();
            }
        }
        folded.advance(state.now());
        prop_assert_eq!(seen(&folded), seen(&state));

        let kept = scripts.dump();
        let lost = [scripts.keys.records.clone(), scripts.keys.meta.clone()];
        cmd("DEL").arg(&lost).exec(&mut scripts.connection).unwrap();
        let connection = &mut scripts.connection;
        let gateway = recovery::Gateway { name: "gateway".into(), lanes: 1 };
        let seen = state.position();
        let looks = recovery::Looks { history: "history", seen, suspect: true, compared: None };
        let opened = recovery::open(connection, LANE_0, &gateway, looks, &Forgetful).unwrap();
        prop_assert!(opened.rebuilt);
        prop_assert!(opened.position.epoch > 1, "a later life");
        prop_assert_eq!(opened.position.seq, state.position().seq);
        prop_assert_eq!(scripts.dump(), kept);
    });
    // But `too-many-sales`, for which it would take ten thousand of them.
    const REFUSALS: [&str; 15] = [
        "idempotency-key-reused",
        "invalid-quantity",
        "invalid-transition",
        "limit-reached",
        "not-found",
        "reservation-cancelled",
        "reservation-confirmed",
        "reservation-expired",
        "sale-closed",
        "sale-differs",
        "sale-not-open",
        "sale-paused",
        "sold-out",
        "stock-taken",
        "unknown-item",
    ];
    let refusals = refusals.into_inner();
    println!("refused: {refusals:?}");
    assert_eq!(refusals.into_keys().collect::<Vec<_>>(), REFUSALS, "each of them was looked at");
}
