//! Promises about time and money: a hold lasts as long as it was told, and no longer; a payment that came
//! too late goes back.

use std::collections::BTreeMap;

use super::books::Order;
use super::digest::Digest;
use super::verdict::{Check, Finding};
use crate::history::{Entry, Op, Seen};
use crate::limits::{CLOCK_SLACK, HOLD_ENDS_WITHIN, LATE_PAYMENTS_NOTED_MAX};

/// The version of a reservation whose first step from being held was its last.
const ENDED_AT_ONCE: i64 = 2;

/// No hold ends before its time. In the books both are of the ledger's clock, so there is no slack: what
/// ran out did so at its deadline or later, what was paid or given back in time was before it. What a
/// client was told is beside the client's own clock, since its first request for it.
pub(super) fn holds_last(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("holds last");
    for order in &digest.evidence.books.orders {
        finding.look(out_of_time(order).map(|fault| format!("{}: {fault}", order.order_id)));
    }
    let asked = first_asked(digest);
    for entry in digest.evidence.history.entries() {
        let told = matches!(&entry.seen, Seen::No(code) if code == "reservation-expired");
        let id = entry.reservation.as_deref().filter(|_| told);
        let grant = id.and_then(|id| Some((id, digest.grants.get(id)?, asked.get(id)?)));
        let Some((id, grant, (clock, since_us))) = grant else { continue };
        if *clock != entry.clock {
            // How long it was nobody knows.
            continue;
        }
        let slack = CLOCK_SLACK + digest.evidence.scope.clock_off;
        let passed_ms = entry.end_us.saturating_sub(*since_us) / 1_000;
        let at_most = u128::from(passed_ms) + slack.as_millis();
        let hold_ms = grant.receipt.expires_at_ms.saturating_sub(grant.receipt.held_at_ms);
        finding.expect(u128::try_from(hold_ms).is_ok_and(|hold_ms| at_most >= hold_ms), || {
            format!("{id}: told expired within {passed_ms} ms, held for {hold_ms} ms")
        });
    }
    finding.check()
}

/// What an order's last step has to do with its deadline, where that is wrong.
fn out_of_time(order: &Order) -> Option<String> {
    let Order { status, version, updated_at_ms, expires_at_ms, .. } = order;
    let early_ms = expires_at_ms.saturating_sub(*updated_at_ms);
    match &**status {
        "expired" if early_ms > 0 => Some(format!("expired {early_ms} ms early")),
        "paid" | "cancelled" if *version == ENDED_AT_ONCE && early_ms <= 0 => {
            Some(format!("{status} {} ms after it had run out", -early_ms))
        }
        _ => None,
    }
}

/// When each reservation was first asked for, and by which clock: it cannot have been held before.
fn first_asked<'a>(digest: &Digest<'a>) -> BTreeMap<&'a str, (u32, u64)> {
    let mut asked = BTreeMap::new();
    let mut note = |granted: &'a Entry, first: &Entry| {
        if let Some(id) = granted.reservation.as_deref() {
            let (clock, since_us) = asked.entry(id).or_insert((first.clock, first.start_us));
            if (first.clock, first.start_us) < (*clock, *since_us) {
                (*clock, *since_us) = (first.clock, first.start_us);
            }
        }
    };
    for story in &digest.keys {
        let first = story.entries.iter().min_by_key(|entry| (entry.clock, entry.start_us));
        let Some(first) = first else { continue };
        story.entries.iter().for_each(|entry| note(entry, first));
    }
    let entries = digest.evidence.history.entries().iter();
    for entry in entries.filter(|entry| entry.op == Op::Reserve && entry.key.is_none()) {
        note(entry, entry);
    }
    asked
}

/// No hold waits for long after its time: what is still pending when the books are read is not overdue by
/// more than [`HOLD_ENDS_WITHIN`].
pub(super) fn holds_end(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("holds end");
    let books = digest.evidence.books;
    let Some(read_at_ms) = books.read_at_ms else { return finding.check() };
    let within_ms = i64::try_from(HOLD_ENDS_WITHIN.as_millis()).unwrap_or(i64::MAX);
    for order in books.orders.iter().filter(|order| order.status == "pending_payment") {
        let overdue_ms = read_at_ms.saturating_sub(order.expires_at_ms);
        finding.expect(overdue_ms <= within_ms, || {
            format!("{} still pending {overdue_ms} ms after it ran out", order.order_id)
        });
    }
    finding.check()
}

/// What payers were told about one payment.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    accepted: bool,
    refused: bool,
    refused_after_cancel: bool,
}

/// A payment that was told to be too late, or one too many, is noted once for a refund; one that was
/// accepted is not; and none is noted that nobody sent, for another sum or to somebody else.
pub(super) fn late_payments_go_back(digest: &Digest<'_>) -> Check {
    let mut finding = Finding::of("late payments go back");
    let told = payments(digest);
    let mut noted = BTreeMap::<(&str, &str), u64>::new();
    let mut of_order = BTreeMap::<&str, usize>::new();
    for refund in &digest.evidence.books.refunds_needed {
        *noted.entry((&refund.order_id, &refund.payment_ref)).or_default() += 1;
        *of_order.entry(&refund.order_id).or_default() += 1;
        let order = digest.orders.get(&*refund.order_id).and_then(|orders| orders.first());
        finding.expect(
            order.is_none_or(|o| o.user_id == refund.user_id && o.total == refund.amount),
            || format!("{refund:?} is not of {order:?}"),
        );
        let sent = told.contains_key(&(&*refund.order_id, &*refund.payment_ref));
        finding.expect(sent || !digest.evidence.scope.complete, || {
            format!("{} of {} is noted, and nobody paid it", refund.payment_ref, refund.order_id)
        });
    }
    for ((id, payment), told) in told {
        let times = noted.get(&(id, payment)).copied().unwrap_or(0);
        if told.accepted {
            // Where that may be gone, it may have come again, and too late.
            finding.expect(times == 0 || may_be_gone(digest, id), || {
                format!("{payment} was accepted for {id}, and noted")
            });
        } else if told.refused {
            let full = of_order.get(id).is_some_and(|noted| *noted >= LATE_PAYMENTS_NOTED_MAX);
            let excused = times == 0 && (full || may_be_unnoted(digest, id, payment, told));
            finding.expect(times == 1 || excused, || {
                format!("{payment} came too late for {id}, and is noted {times} times")
            });
        }
    }
    finding.check()
}

/// Whether nothing need be noted of a refused payment: it is what had paid for an order that was cancelled
/// since, or it may be gone.
fn may_be_unnoted(digest: &Digest<'_>, id: &str, payment: &str, told: Told) -> bool {
    let orders = digest.orders.get(id).map_or(&[][..], Vec::as_slice);
    let had_paid = orders.iter().any(|order| order.payment_ref.as_deref() == Some(payment));
    told.refused_after_cancel && had_paid || may_be_gone(digest, id)
}

/// Whether what was told of a reservation may be gone.
fn may_be_gone(digest: &Digest<'_>, id: &str) -> bool {
    match digest.grants.get(id) {
        Some(grant) => digest.may_be_lost(grant.receipt.level),
        None => digest.evidence.scope.lost_below.is_some(),
    }
}

fn payments<'a>(digest: &Digest<'a>) -> BTreeMap<(&'a str, &'a str), Told> {
    let mut payments = BTreeMap::<_, Told>::new();
    let entries = digest.evidence.history.entries().iter();
    for entry in entries.filter(|entry| entry.op == Op::Confirm) {
        let (Some(id), Some(payment)) = (&entry.reservation, &entry.payment_ref) else { continue };
        let told = payments.entry((&**id, &**payment)).or_default();
        match &entry.seen {
            Seen::Ok => told.accepted = true,
            Seen::No(code) => {
                let cancelled = code == "reservation-cancelled";
                let late = code == "reservation-expired" || code == "reservation-confirmed";
                told.refused |= cancelled || late;
                told.refused_after_cancel |= cancelled;
            }
            Seen::Invoke | Seen::Unknown(_) => {}
        }
    }
    payments
}
