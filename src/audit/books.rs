//! Laying the books beside the fold, where the books' cursor stands.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::findings::{Findings, Promise};
use super::fold::{Fold, ItemFold, ReservationFold};
use super::rule;
use crate::orders::lines_json;
use crate::sale::{PaymentRef, ReservationId, SaleId};
use crate::store::Mend;
use crate::store::snapshot::{OrderRow, Snapshot, SnapshotError};

/// What the books hold of a sale.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) orders: u64,
    pub(super) standing: u64,
    pub(super) carts: u64,
}

/// Compares everything that the books hold; says how much of it each sale has.
pub(super) fn compare(
    books: &Snapshot,
    folds: &[Fold],
    findings: &mut Findings,
) -> Result<BTreeMap<String, Counts>, SnapshotError> {
    let mut counts = compare_orders(books, folds, findings)?;
    compare_items(books, folds, findings)?;
    for (sale, carts) in compare_carts(books, folds, findings)? {
        counts.entry(sale).or_default().carts = carts;
    }
    let dead = books.dead_letters()?;
    findings.look_at_all(Promise::DeadLetters, rule(dead == 0, || format!("{dead} dead letters")));
    Ok(counts)
}

fn compare_orders(
    books: &Snapshot,
    folds: &[Fold],
    findings: &mut Findings,
) -> Result<BTreeMap<String, Counts>, SnapshotError> {
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    let mut seen: HashSet<ReservationId> = HashSet::new();
    books.orders(|row| {
        if !findings.concerns(&row.sale) {
            return;
        }
        let count = counts.entry(row.sale.clone()).or_default();
        count.orders += 1;
        count.standing += u64::from(matches!(row.status.as_str(), "pending_payment" | "paid"));
        let id = ReservationId::parse(&row.id);
        let known = id.and_then(|id| folds.iter().find_map(|fold| fold.reservations.get(&id)));
        let case = match (id, known) {
            (Some(id), _) if !seen.insert(id) => Err(format!("order {id} is there twice")),
            (_, Some(known)) => {
                let case = same(&row, known);
                if case.is_err() && row.user == known.held.user.as_str() {
                    let seen = u32::try_from(row.version).ok();
                    findings.mend(&known.held.sale, || mended(known, seen));
                }
                case
            }
            (_, None) => Err(format!("order {} has no reservation", row.id)),
        };
        findings.look_at_all(Promise::Orders, case);
    })?;
    for known in folds.iter().flat_map(|fold| fold.reservations.values()) {
        let id = known.held.id;
        let there = rule(seen.contains(&id), || format!("reservation {id} has no order"));
        if there.is_err() {
            findings.mend(&known.held.sale, || mended(known, None));
        }
        findings.look(&known.held.sale, Promise::Orders, there);
    }
    Ok(counts)
}

/// The order as it should be.
fn mended(known: &ReservationFold, seen: Option<u32>) -> Mend {
    Mend::Order {
        held: Box::new(known.held.clone()),
        now: known.standing(),
        payment: known.payment.clone(),
        seen,
    }
}

fn same(row: &OrderRow, known: &ReservationFold) -> Result<(), String> {
    let ReservationFold { held, status, version, payment, .. } = known;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let differences = [
        ("user", row.user != held.user.as_str()),
        ("sale", row.sale != held.sale.as_str()),
        ("status", row.status != *status),
        ("version", row.version != i64::from(*version)),
        ("lines", row.lines != lines_json(&held.lines, &held.currency)),
        ("total", row.total != number(held.total())),
        ("created_at", row.created_at != number(held.held_at.0)),
        ("expires_at", row.expires_at != number(held.expires_at.0)),
        ("payment", row.payment.as_deref() != payment.as_ref().map(PaymentRef::as_str)),
    ];
    let differ: Vec<&str> =
        differences.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    rule(differ.is_empty(), || format!("order {} differs in {}", row.id, differ.join(", ")))
}

fn compare_items(
    books: &Snapshot,
    folds: &[Fold],
    findings: &mut Findings,
) -> Result<(), SnapshotError> {
    let mut there: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    books.items(|row| {
        there.insert((row.sale, row.item), (row.stock, row.allocated));
    })?;
    for (sale_id, sale) in folds.iter().flat_map(|fold| &fold.sales) {
        for (item, fold) in &sale.items {
            let ItemFold { stock, held, confirmed } = fold;
            let expected = (*stock, held + confirmed);
            let found = there.get(&(sale_id.to_string(), item.clone())).copied();
            let agree = rule(found == Some(expected), || {
                format!("{sale_id}/{item}: stock and allocated {found:?}, not {expected:?}")
            });
            if agree.is_err() {
                let definition = sale.definition();
                let defined = definition.items.iter().find(|known| known.id.as_str() == item);
                let created = defined.and_then(|item| i64::try_from(item.stock).ok());
                if found.is_none() {
                    findings.mend(sale_id, || Mend::Sale(Box::new(definition.clone())));
                }
                // Where it is missing it comes as it was created.
                let (stock, allocated) = found.unwrap_or((created.unwrap_or(0), 0));
                if let Some(item) = defined.map(|item| item.id.clone()) {
                    findings.mend(sale_id, || Mend::Item {
                        sale: sale_id.clone(),
                        item,
                        stock: expected.0 - stock,
                        allocated: expected.1 - allocated,
                    });
                }
            }
            findings.look(sale_id, Promise::Books, agree);
            let sold = rule(found.is_some_and(|(stock, allocated)| allocated <= stock), || {
                format!("{sale_id}/{item} is oversold in the books")
            });
            findings.look(sale_id, Promise::Books, sold);
        }
    }
    Ok(())
}

fn compare_carts(
    books: &Snapshot,
    folds: &[Fold],
    findings: &mut Findings,
) -> Result<BTreeMap<String, u64>, SnapshotError> {
    // By reservation and item: whose, and how many.
    let mut there: HashMap<(String, String), (String, i64)> = HashMap::new();
    books.reserved_lines(|row| {
        there.insert((row.reservation, row.item), (row.user, row.quantity));
    })?;
    let mut owners: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for known in folds.iter().flat_map(|fold| fold.reservations.values()) {
        let sale: &SaleId = &known.held.sale;
        for line in &known.held.lines {
            let key = (known.held.id.to_string(), line.item.to_string());
            let found = there.remove(&key);
            if let Some((owner, _)) = &found {
                owners.entry(sale.to_string()).or_default().insert(owner.clone());
            }
            let expected =
                known.stands().then(|| (known.held.user.to_string(), i64::from(line.quantity)));
            let right = rule(found == expected, || {
                format!("cart line {} of {}: {found:?}, not {expected:?}", key.1, key.0)
            });
            if right.is_err() {
                let (user, id) = (known.held.user.clone(), known.held.id);
                let quantity = if known.stands() { line.quantity } else { 0 };
                let version = known.version;
                let item = line.item.clone();
                findings.mend(sale, || Mend::Line { user, id, item, quantity, version });
            }
            findings.look(sale, Promise::Carts, right);
        }
    }
    for ((id, item), (user, _)) in there {
        let nobody = format!("cart of {user}: line {item} of {id}, which is no reservation");
        findings.look_at_all(Promise::Carts, Err(nobody));
    }
    Ok(owners.into_iter().map(|(sale, owners)| (sale, owners.len() as u64)).collect())
}
