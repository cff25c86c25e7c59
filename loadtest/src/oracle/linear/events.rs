//! What happened to the counter of an item, as far as clients and books know: for each purchase its taking, its
//! giving back and its taking anew, each with its earliest and latest place in time.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Entry, Op, Seen};
use crate::limits::{CLOCK_SLACK, LATCH_REOPENS_WITHIN};
use crate::ops::ItemView;
use crate::oracle::books::Order;
use crate::oracle::digest::Digest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Units are taken: a 201, or nobody knows. What is asked again under the key changes nothing.
    Takes,
    /// "Sold out".
    Finds,
    /// They come back: it was cancelled, it ran out, or nobody knows.
    Gives,
    /// A late payment takes them anew.
    Again,
}

/// Something that moves the counter, or was told what it is. Of a purchase there is at most one of each kind but
/// [`Kind::Finds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub purchase: usize,
    pub kind: Kind,
    pub units: i64,
    /// Somebody was told, so it happened. What was not told may have happened, or not.
    pub told: bool,
    /// Earliest and latest place in time.
    pub from: u64,
    pub until: u64,
}

impl Event {
    pub(super) fn is_taking(&self) -> bool {
        matches!(self.kind, Kind::Takes | Kind::Again)
    }
}

/// Earliest and latest place in time, and whether it happened for certain.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: u64,
    until: u64,
    told: bool,
}

impl Window {
    const NEVER: Self = Self { from: u64::MAX, until: u64::MAX, told: false };

    /// One more request for the same: the first of them that was done has done it.
    fn may(&mut self, from: u64) {
        self.from = self.from.min(from);
    }

    fn asked(&mut self, entry: &Entry) {
        match &entry.seen {
            Seen::Ok => {
                self.may(entry.start_us);
                (self.until, self.told) = (self.until.min(entry.end_us), true);
            }
            Seen::Invoke | Seen::Unknown(_) => self.may(entry.start_us),
            Seen::No(_) => {}
        }
    }
}

#[derive(Clone, Debug)]
struct Purchase<'a> {
    units: i64,
    id: Option<&'a str>,
    takes: Window,
    gives: Window,
    again: Window,
    /// When the first request began, and by which clock.
    since: (u32, u64),
    /// What was promised is not lost by what happened.
    survives: bool,
}

impl Purchase<'_> {
    fn new(units: i64, since: (u32, u64)) -> Self {
        let (takes, gives, again) = (Window::NEVER, Window::NEVER, Window::NEVER);
        Self { units, id: None, takes, gives, again, since, survives: false }
    }
}

/// What happened to an item.
///
/// Where promises were lost, only those that had to survive are looked at: units that were taken and lost were
/// sold again, and "sold out" was true of them.
pub(super) fn events(digest: &Digest<'_>, item: &ItemView) -> Vec<Event> {
    let lossy = digest.evidence.scope.lost_below.is_some();
    let (mut purchases, mut finds) = asked_for(digest, &item.id);
    endings(digest, &mut purchases, lossy || item.expired_total > 0);
    if lossy {
        purchases.retain(|purchase| purchase.takes.told && purchase.survives);
        finds.clear();
    } else if !digest.evidence.scope.complete {
        purchases.extend(strangers(digest, &item.id));
    }
    let mut events = Vec::with_capacity(purchases.len() + finds.len());
    for (at, purchase) in purchases.iter().enumerate() {
        let Purchase { units, takes, gives, again, .. } = *purchase;
        let windows = [(Kind::Takes, takes), (Kind::Gives, gives), (Kind::Again, again)];
        for (kind, Window { from, until, told }) in windows {
            if from < u64::MAX {
                events.push(Event { purchase: at, kind, units, told, from, until });
            }
        }
    }
    events.extend(finds);
    events
}

/// Who asked for it, and who was told that there is none. A basket is looked at as far as it is of this item; that
/// it was "sold out" says nothing of any one of its items.
fn asked_for<'a>(digest: &Digest<'a>, item: &str) -> (Vec<Purchase<'a>>, Vec<Event>) {
    let mut numbers = BTreeMap::<(&str, &str, u64), usize>::new();
    let (mut purchases, mut finds) = (Vec::<Purchase<'_>>::new(), Vec::new());
    let entries = digest.evidence.history.entries().iter();
    for entry in entries.filter(|entry| entry.op == Op::Reserve) {
        let of_item = entry.lines.iter().filter(|line| &*line.item_id == item);
        let units: i64 = of_item.map(|line| i64::from(line.quantity)).sum();
        if units == 0 {
            continue;
        }
        // Without a key each request is a purchase of its own.
        let name = match &entry.key {
            Some(key) => (&*entry.user, &**key, 0),
            None => (&*entry.user, "", entry.seq + 1),
        };
        let number = *numbers.entry(name).or_insert_with(|| {
            purchases.push(Purchase::new(units, (entry.clock, entry.start_us)));
            purchases.len() - 1
        });
        let purchase = &mut purchases[number];
        purchase.since = purchase.since.min((entry.clock, entry.start_us));
        purchase.takes.asked(entry);
        if let Some(id) = &entry.reservation {
            purchase.id = Some(id);
        }
        if entry.seen == Seen::Ok {
            let level = entry.receipt.as_ref().and_then(|receipt| receipt.level);
            purchase.survives = !digest.may_be_lost(level);
        }
        let alone = entry.lines.iter().all(|line| &*line.item_id == item);
        if alone && matches!(&entry.seen, Seen::No(code) if code == "sold-out") {
            finds.push(found_none(entry, number, units));
        }
    }
    (purchases, finds)
}

fn found_none(entry: &Entry, purchase: usize, units: i64) -> Event {
    // What a gateway knows of the stock may be as old as the contract lets it be.
    let slack = u64::try_from(LATCH_REOPENS_WITHIN.as_micros()).unwrap_or(u64::MAX);
    let (from, until) = (entry.start_us.saturating_sub(slack), entry.end_us);
    Event { purchase, kind: Kind::Finds, units, told: true, from, until }
}

/// How the purchases ended. `may_expire`: holds of this item ran out; by the books, or where they do not know of one,
/// at any time from its deadline on.
fn endings(digest: &Digest<'_>, purchases: &mut [Purchase<'_>], may_expire: bool) {
    let ids = purchases.iter().enumerate().filter_map(|(at, p)| Some((p.id?, at)));
    let places: BTreeMap<&str, usize> = ids.collect();
    let rebooked = |id: &str| {
        let orders = digest.orders.get(id).map_or(&[][..], Vec::as_slice);
        orders.iter().any(|order| order.status == "paid" && order.version > 2)
    };
    for entry in digest.evidence.history.entries() {
        let Some(id) = entry.reservation.as_deref() else { continue };
        let Some(purchase) = places.get(id).map(|at| &mut purchases[*at]) else { continue };
        match entry.op {
            Op::Cancel => purchase.gives.asked(entry),
            Op::Confirm if rebooked(id) => purchase.again.asked(entry),
            Op::Reserve | Op::Misuse | Op::Look | Op::Confirm => {}
        }
    }
    let hold_ms = |id: Option<&str>| {
        let grant = id.and_then(|id| digest.grants.get(id));
        let of = |receipt: &crate::history::Receipt| receipt.expires_at_ms - receipt.held_at_ms;
        let shortest = || digest.grants.values().map(|grant| of(grant.receipt)).min();
        grant.map(|grant| of(grant.receipt)).or_else(shortest).unwrap_or(0)
    };
    let slack_ms = (CLOCK_SLACK + digest.evidence.scope.clock_off).as_millis();
    let slack_ms = i64::try_from(slack_ms).unwrap_or(i64::MAX);
    let clocks = clocks(digest);
    for purchase in purchases.iter_mut() {
        let orders = purchase.id.and_then(|id| digest.orders.get(id));
        let order = orders.and_then(|orders| orders.first());
        if order.is_some_and(|order| order.status == "cancelled") && purchase.gives.from == u64::MAX
        {
            // An operator did.
            purchase.gives.may(purchase.since.1);
        }
        if may_expire && order.is_none_or(|order| order.status == "expired" || order.version > 2) {
            let lasts_ms = hold_ms(purchase.id).saturating_sub(slack_ms).max(0);
            let lasts_us = u64::try_from(lasts_ms).unwrap_or(0).saturating_mul(1_000);
            let (clock, since_us) = purchase.since;
            // How long it was between two clocks nobody knows.
            let next = clocks.range(clock + 1..).next().map_or(u64::MAX, |(_, began)| *began);
            purchase.gives.may(since_us.saturating_add(lasts_us).min(next));
        }
    }
}

/// When each clock of the history begins.
fn clocks(digest: &Digest<'_>) -> BTreeMap<u32, u64> {
    let mut clocks = BTreeMap::new();
    for entry in digest.evidence.history.entries() {
        let began = clocks.entry(entry.clock).or_insert(entry.start_us);
        *began = entry.start_us.min(*began);
    }
    clocks
}

/// Orders of whom the history knows nothing: they may have been taken and given back at any time.
fn strangers<'a>(digest: &Digest<'a>, item: &str) -> Vec<Purchase<'a>> {
    let known: BTreeSet<&str> = digest.grants.keys().copied().collect();
    let units = |order: &Order| -> i64 {
        let lines = order.lines.iter().filter(|line| line.item_id == item);
        lines.map(|line| line.quantity).sum()
    };
    let orders = digest.evidence.books.orders.iter();
    let strange = orders.filter(|order| !known.contains(&*order.order_id) && units(order) > 0);
    strange
        .map(|order| {
            let mut purchase = Purchase::new(units(order), (0, 0));
            purchase.takes.may(0);
            purchase.gives.may(0);
            purchase
        })
        .collect()
}
