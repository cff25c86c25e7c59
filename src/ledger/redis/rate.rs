//! The limit of a user's reservations over all gateways: the script against governor, and at its bounds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use floodgate_loadtest::redis_server::{Keeps, RedisServer};
use governor::clock::{Clock, FakeRelativeClock};
use governor::{Quota, RateLimiter};
use proptest::prelude::*;
use redis::{Script, cmd};
use serde_json::json;

use super::keys::Keys;
use super::scripts::{self, FORMAT};
use super::server::{Connection, Server};
use super::wire::{self, Head};
use crate::engine::{Command, OrderedLine, Position, Reserve};
use crate::limits;
use crate::sale::{ItemId, LaneId, Move, Outcome, ReservationId, SaleDefinition, SaleId, UserId};

/// An instant of Redis's clock: microseconds.
const BEGIN: u64 = 4_102_444_800_000_000;

/// The limit alone: the instant comes from the test. Answers for each user whether they paid (-1) or how many
/// microseconds they have to wait; and at the end how many passed who could not be written down.
static ALONE: LazyLock<Script> = LazyLock::new(|| {
    let decide = "
local users = { unpack(ARGV, 3) }
local too_often, write_down = limit_users(ARGV[1], tonumber(ARGV[2]), users)
local told = {}
for at, user in ipairs(users) do
  local refusal = too_often(user)
  told[at] = refusal and unpacked(refusal)[3] or -1
end
write_down()
told[#told + 1] = unlimited
return told";
    Script::new(&format!("{}{decide}", scripts::limiter()))
});

struct Rig {
    _redis: RedisServer,
    connection: Connection,
    keys: Keys,
}

impl Rig {
    fn start() -> Self {
        let redis = RedisServer::start(Keeps::Nothing).unwrap();
        let connection = Server::of(&redis.url()).unwrap().connect(LaneId(0)).unwrap();
        Self { _redis: redis, connection, keys: Keys::of(LaneId(0)) }
    }

    fn forget(&mut self) {
        cmd("FLUSHALL").exec(&mut self.connection).unwrap();
    }

    fn ask(&mut self, quota: &Quota, now: u64, users: &[&str]) -> Vec<i64> {
        let mut call = ALONE.prepare_invoke();
        for key in self.keys.all() {
            call.key(key);
        }
        call.arg(wire::rate(quota)).arg(now).arg(users);
        call.invoke(&mut self.connection).unwrap()
    }

    fn len(&mut self, key: &str) -> usize {
        cmd("HLEN").arg(key).query(&mut self.connection).unwrap()
    }

    /// How long until one user may go on; `None` where they may now.
    fn one(&mut self, quota: &Quota, now: u64, user: &str) -> Option<Duration> {
        let told = self.ask(quota, now, &[user]);
        u64::try_from(told[0]).ok().map(Duration::from_micros)
    }
}

fn quota(period_us: u64, burst: u32) -> Quota {
    let period = Quota::with_period(Duration::from_micros(period_us)).unwrap();
    period.allow_burst(burst.try_into().unwrap())
}

/// Proves that the script decides as governor does, to the microsecond, for any times between requests, for
/// users apart and however they come into one call, over turns of what is remembered.
#[test]
fn the_script_is_governor() {
    let rig = RefCell::new(Rig::start());
    let steps = prop::collection::vec((0..4_u64, 0..2_000_000_u64, 1..5_usize), 1..60);
    let quotas = (1..800_000_u64, 1..12_u32);
    proptest!(ProptestConfig::with_cases(64), |((period, burst) in quotas, steps in steps)| {
        let mut rig = rig.borrow_mut();
        rig.forget();
        let quota = quota(period, burst);
        let clock = FakeRelativeClock::default();
        let users = ["ann", "bob", "cid", "dot"];
        let governor = RateLimiter::hashmap_with_clock(quota, clock.clone());
        let mut now = BEGIN;
        for (pause, up_to, crowd) in steps {
            // Nothing, or a little, or a bucket's worth.
            let passed = [0, up_to % period, up_to, up_to * u64::from(burst)][pause as usize];
            now += passed;
            clock.advance(Duration::from_micros(passed));
            let asking: Vec<_> = (0..crowd).map(|at| users[(at * at + crowd) % 4]).collect();
            let expected = asking.iter().map(|user| match governor.check_key(user) {
                Ok(()) => -1,
                Err(until) => until.wait_time_from(clock.now()).as_micros() as i64,
            });
            let mut expected: Vec<_> = expected.collect();
            expected.push(0);
            prop_assert_eq!(rig.ask(&quota, now, &asking), expected, "{:?} at {}", asking, now);
        }
    });
}

/// Proves that a turn is forgotten as a whole once nobody in it can be short of a token, that what is kept is
/// bounded by that, and that all of it goes by itself when nobody asks any more.
#[test]
fn turns_are_forgotten() {
    let mut rig = Rig::start();
    let quota = quota(1_000_000, 3);
    let turn = 3_000_000;
    let (rate, before) = (rig.keys.rate.clone(), rig.keys.rate_before.clone());
    let many: Vec<_> = (0..1_000).map(|user| format!("user-{user}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for crowd in many.chunks(100) {
        rig.ask(&quota, BEGIN, crowd);
    }
    for _ in 0..3 {
        rig.one(&quota, BEGIN + turn - 1, "ann");
    }
    assert_eq!((rig.len(&rate), rig.len(&before)), (1_002, 0), "and when it began");
    let wait = rig.one(&quota, BEGIN + turn, "ann");
    assert_eq!(wait, Some(Duration::from_micros(999_999)));
    assert_eq!(rig.one(&quota, BEGIN + turn, "bob"), None);
    assert_eq!((rig.len(&rate), rig.len(&before)), (2, 1_002));
    assert!(rig.one(&quota, BEGIN + turn, "ann").is_some(), "she is known from the turn before");
    assert_eq!(rig.one(&quota, BEGIN + 2 * turn, "ann"), None);
    assert_eq!((rig.len(&rate), rig.len(&before)), (2, 2));
    for key in [&rate, &before] {
        let left: i64 = cmd("PTTL").arg(key).query(&mut rig.connection).unwrap();
        assert!((1..=2 * turn as i64 / 1_000).contains(&left), "{key}: {left} ms");
    }
}

/// Proves that at the bound those who are known stay limited, and that those who are new pass and are counted,
/// until the turn is over.
#[test]
fn at_the_bound() {
    let mut rig = Rig::start();
    let quota = quota(1_000_000, 1);
    let rate = rig.keys.rate.clone();
    assert_eq!(rig.ask(&quota, BEGIN, &["ann"]), [-1, 0]);
    let others: Vec<_> = (2..limits::RATE_USERS_MAX).map(|user| format!("user-{user}")).collect();
    // Some at a time: nobody waits long for Redis here.
    for some in others.chunks(5_000) {
        let mut fill_up = cmd("HSET");
        fill_up.arg(&rate);
        for user in some {
            fill_up.arg(user).arg(1);
        }
        fill_up.exec(&mut rig.connection).unwrap();
    }
    assert_eq!(rig.ask(&quota, BEGIN + 1, &["bob", "cid", "cid"]), [-1, -1, 1_000_000, 1]);
    assert_eq!(rig.len(&rate), limits::RATE_USERS_MAX + 1, "and when it began");
    assert_eq!(rig.ask(&quota, BEGIN + 2, &["cid", "ann", "bob"]), [-1, 999_998, 999_999, 1]);
    assert_eq!(rig.len(&rate), limits::RATE_USERS_MAX + 1);
    assert_eq!(rig.ask(&quota, BEGIN + 1_000_000, &["cid"]), [-1, 0]);
    assert_eq!(rig.len(&rate), 2);
}

/// Proves that another rate counts from its first call on, and that whoever the old one had put far off waits
/// no longer than the new one can ask for; the same where Redis's clock steps back.
#[test]
fn other_rates_and_clocks() {
    let mut rig = Rig::start();
    let (slow, fast) = (quota(60_000_000, 2), quota(100_000, 2));
    assert_eq!(rig.ask(&slow, BEGIN, &["ann"; 3]), [-1, -1, 60_000_000, 0]);
    assert_eq!(rig.ask(&fast, BEGIN, &["ann"]), [100_000, 0]);
    assert_eq!(rig.ask(&fast, BEGIN + 100_000, &["ann"; 2]), [-1, 100_000, 0]);
    let back = BEGIN - 3_600_000_000;
    assert_eq!(rig.ask(&fast, back, &["ann"]), [100_000, 0]);
    assert_eq!(rig.ask(&fast, back + 100_000, &["ann"; 2]), [-1, 100_000, 0]);
}

/// A lane with one sale that is open.
impl Rig {
    fn sell(&mut self) {
        let mut made = cmd("HSET");
        made.arg(&self.keys.meta).arg("format").arg(FORMAT).arg("epoch").arg(1).arg("seq").arg(0);
        made.arg("now").arg(0).exec(&mut self.connection).unwrap();
        let item = |id| json!({ "id": id, "title": id, "price": 1, "currency": "EUR", "stock": 9 });
        let definition = json!({
            "id": "s", "title": "s", "hold_seconds": 600, "items": [item("i"), item("j")],
        });
        let definition = SaleDefinition::from_json(&definition).unwrap().into();
        let sale = SaleId::parse("s").unwrap();
        let create = Command::CreateSale { definition, actor: "admin".into() };
        let open = Command::MoveSale { sale, step: Move::Open, actor: "admin".into() };
        self.call(&quota(1, 1), &[create, open]);
    }

    fn call(
        &mut self,
        quota: &Quota,
        commands: &[Command],
    ) -> (Head, Vec<Result<Outcome, Duration>>) {
        let seen = Position { epoch: 1, seq: 0 };
        let asked = wire::Arguments::of(commands.iter());
        let call = scripts::lane_call(&self.keys, seen, None, Some(quota), None, &asked);
        let said = scripts::call_lane(&mut self.connection, &call).unwrap();
        let outcomes = wire::outcomes(&said.outcomes, &said.shapes, commands.iter()).unwrap();
        (wire::head(&said.head).unwrap(), outcomes)
    }

    fn rates(&mut self) -> BTreeMap<String, String> {
        cmd("HGETALL").arg(&self.keys.rate).query(&mut self.connection).unwrap()
    }
}

fn reserve(user: &str, items: &[&str]) -> Command {
    let line = |item: &&str| OrderedLine { item: ItemId::parse(item).unwrap(), quantity: 1 };
    Command::Reserve(Reserve {
        id: ReservationId::random(LaneId(0)),
        sale: SaleId::parse("s").unwrap(),
        user: UserId::parse(user).unwrap(),
        lines: items.iter().map(line).collect(),
    })
}

/// Proves that a reservation costs its user a token, of one line or of more, granted or refused; that what is
/// granted is found again without one; and that whoever is refused for want of one changes nothing.
#[test]
fn replays_are_not_limited() {
    let mut rig = Rig::start();
    rig.sell();
    let quota = quota(3_600_000_000, 3);
    let anns = [
        reserve("ann", &["i"]),
        reserve("ann", &["i", "j"]),
        reserve("ann", &["unknown"]),
        reserve("ann", &["j"]),
        reserve("ann", &["i", "j"]),
    ];
    let asked = [&anns[..], &[reserve("bob", &["i"])]].concat();
    let (head, told) = rig.call(&quota, &asked);
    let replayed = |told: &Result<Outcome, Duration>| {
        if let Ok(Outcome::Reserved { replayed, .. }) = told { Some(*replayed) } else { None }
    };
    let granted = [Some(false), Some(false), None, None, None, Some(false)];
    assert_eq!(told.iter().map(replayed).collect::<Vec<_>>(), granted);
    assert!(matches!(told[2], Ok(Outcome::Refused(_))), "{told:?}");
    let hour = Duration::from_secs(3_600);
    assert_eq!((&told[3], &told[4]), (&Err(hour), &Err(hour)));
    let rates = rig.rates();
    assert_eq!(rates.len(), 3, "ann, bob, and when it began: {rates:?}");
    let asked = [anns[0].clone(), anns[1].clone(), anns[2].clone(), anns[3].clone()];
    let (after, told) = rig.call(&quota, &asked);
    assert_eq!(after.position, head.position);
    assert_eq!((replayed(&told[0]), replayed(&told[1])), (Some(true), Some(true)));
    assert!(told[2..].iter().all(|told| told.as_ref().is_err_and(|wait| *wait < hour)), "{told:?}");
    assert_eq!(rig.rates(), rates);
}
