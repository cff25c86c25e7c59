//! The evidence, sorted so that each promise can be checked by looking things up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Evidence;
use super::books::Order;
use crate::history::{Entry, KeyStory, Level, Op, Receipt, Seen, Standing, is_transient};
use crate::limits::{LATE_CALL, SHARED_BEHIND};

/// A reservation that some client was granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<'a> {
    pub user: &'a str,
    pub receipt: &'a Receipt,
}

/// What clients know about the end of a reservation.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends<'a> {
    pub cancelled: End,
    pub confirmed: End,
    /// The reference of the payment that was taken.
    pub payment: Option<&'a str>,
}

/// What clients know about one way to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody asked, or it was refused for certain.
    #[default]
    No,
    /// Somebody asked and does not know; until then, on the history's clock.
    Maybe(u64),
    /// It was granted.
    Yes,
}

impl End {
    pub(super) fn is_possible(self) -> bool {
        self != Self::No
    }

    fn then(self, entry: &Entry) -> Self {
        match (self, &entry.seen) {
            (Self::Yes, _) | (_, Seen::Ok) => Self::Yes,
            (_, Seen::Invoke | Seen::Unknown(_)) => {
                Self::Maybe(entry.over_us().max(entry.start_us))
            }
            (Self::Maybe(until), Seen::No(code))
                if entry.start_us >= until && !is_transient(code) =>
            {
                Self::No
            }
            (Self::No | Self::Maybe(_), Seen::No(_)) => self,
        }
    }
}

/// The evidence, sorted.
#[derive(Debug)]
pub(super) struct Digest<'a> {
    pub evidence: &'a Evidence<'a>,
    pub keys: Vec<KeyStory<'a>>,
    /// By reservation id: the first 201 that named it.
    pub grants: BTreeMap<&'a str, Grant<'a>>,
    /// By reservation id.
    pub ends: HashMap<&'a str, Ends<'a>>,
    /// Keys whose outcome is unknown, by user.
    pub unresolved: HashMap<&'a str, u64>,
    /// By order id, in the order of the store.
    pub orders: BTreeMap<&'a str, Vec<&'a Order>>,
}

impl<'a> Digest<'a> {
    pub(super) fn new(evidence: &'a Evidence<'a>) -> Self {
        let entries = evidence.history.entries();
        let keys = evidence.history.keys();
        let mut unresolved = HashMap::new();
        let behind = if evidence.scope.shared { LATE_CALL } else { SHARED_BEHIND };
        for story in keys.iter().filter(|story| story.standing(behind) == Standing::Unresolved) {
            *unresolved.entry(&**story.user).or_insert(0) += 1;
        }
        let keyless = entries.iter().filter(|entry| entry.op == Op::Reserve && entry.key.is_none());
        for entry in keyless.filter(|entry| entry.is_unknown()) {
            *unresolved.entry(&*entry.user).or_insert(0) += 1;
        }
        let mut orders: BTreeMap<&str, Vec<&Order>> = BTreeMap::new();
        for order in &evidence.books.orders {
            orders.entry(&order.order_id).or_default().push(order);
        }
        Self { evidence, keys, grants: grants(entries), ends: ends(entries), unresolved, orders }
    }

    /// Whether a promise may be gone, by what happened.
    pub(super) fn may_be_lost(&self, level: Option<Level>) -> bool {
        level.zip(self.evidence.scope.lost_below).is_some_and(|(level, survives)| level < survives)
    }

    /// Grants without an order, none of which had to survive.
    pub(super) fn lost(&self) -> u64 {
        let lost = self.grants.iter().filter(|(id, grant)| {
            self.may_be_lost(grant.receipt.level) && !self.orders.contains_key(*id)
        });
        lost.count() as u64
    }

    /// All items that ledger or store know.
    pub(super) fn items(&self) -> BTreeSet<&'a str> {
        let ledger = self.evidence.ledger.items.iter().map(|item| &*item.id);
        let store = self.evidence.books.items.iter().map(|item| &*item.item_id);
        ledger.chain(store).collect()
    }

    /// Units of an item in the orders that have one of these statuses.
    pub(super) fn units(&self, item: &str, statuses: &[&str]) -> i64 {
        let orders = self.evidence.books.orders.iter();
        let counted = orders.filter(|order| statuses.contains(&&*order.status));
        let lines = counted.flat_map(|order| &order.lines).filter(|line| line.item_id == item);
        lines.map(|line| line.quantity).sum()
    }
}

fn grants(entries: &[Entry]) -> BTreeMap<&str, Grant<'_>> {
    let mut grants = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.op == Op::Reserve && entry.seen == Seen::Ok) {
        if let (Some(id), Some(receipt)) = (&entry.reservation, &entry.receipt) {
            grants.entry(&**id).or_insert(Grant { user: &entry.user, receipt });
        }
    }
    grants
}

fn ends(entries: &[Entry]) -> HashMap<&str, Ends<'_>> {
    let mut all: HashMap<&str, Ends<'_>> = HashMap::new();
    for entry in entries {
        let Some(id) = &entry.reservation else {
            continue;
        };
        match entry.op {
            Op::Reserve | Op::Misuse | Op::Look => {}
            Op::Cancel => {
                let ends = all.entry(id).or_default();
                ends.cancelled = ends.cancelled.then(entry);
            }
            Op::Confirm => {
                let ends = all.entry(id).or_default();
                ends.confirmed = ends.confirmed.then(entry);
                if entry.seen == Seen::Ok && ends.payment.is_none() {
                    ends.payment = entry.payment_ref.as_deref();
                }
            }
        }
    }
    all
}
