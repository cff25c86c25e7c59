//! `floodgate audit`.

use super::arguments::ConfigArguments;
use super::{Exit, Failure, config, say, table};
use crate::audit::{self, AuditError, LedgerAt, LogMark, Report};
use crate::config::Settings;
use crate::sale::SaleId;
use crate::store::snapshot::SnapshotError;

pub(super) fn run(
    arguments: &ConfigArguments,
    sale: Option<&str>,
    marks: &[LogMark],
    as_json: bool,
) -> Result<Exit, Failure> {
    let settings = config::load(arguments)?.settings;
    let sale = self::sale(sale)?;
    let report = examine_with(&settings, sale.as_ref(), marks)?;
    if as_json {
        let text = serde_json::to_string(&report).unwrap_or_default();
        say!("{text}");
    } else {
        show(&report);
    }
    Ok(if report.ok { Exit::Ok } else { Exit::Broken })
}

/// The sale that an argument names.
pub(super) fn sale(given: Option<&str>) -> Result<Option<SaleId>, Failure> {
    let parsed = given.map(SaleId::parse).transpose();
    parsed.map_err(|error| Failure::new(Exit::Usage, format!("--sale {error}")))
}

/// Audits the ledger and the books that the settings name.
pub(super) fn examine(settings: &Settings, sale: Option<&SaleId>) -> Result<Report, Failure> {
    examine_with(settings, sale, &[])
}

fn examine_with(
    settings: &Settings,
    sale: Option<&SaleId>,
    marks: &[LogMark],
) -> Result<Report, Failure> {
    let store = settings.store_at();
    let store = store.map_err(|fault| Failure::new(Exit::Configuration, fault))?;
    let report = audit::run_with(&settings.data_dir, LedgerAt::of(settings), &store, sale, marks);
    let report = report.map_err(|error| {
        let exit = match error {
            AuditError::Nothing(_)
            | AuditError::Unreachable(_)
            | AuditError::Books(SnapshotError::Nothing(_) | SnapshotError::Unreachable(_)) => {
                Exit::Unavailable
            }
            AuditError::Foreign(_) => Exit::Configuration,
            AuditError::Unreadable { .. } | AuditError::Books(SnapshotError::Unreadable(_)) => {
                Exit::Failure
            }
        };
        Failure::new(exit, error.to_string())
    })?;
    match sale {
        // Where something is lost the sale may be part of it.
        Some(sale) if report.sales.is_empty() && report.ok => {
            Err(Failure::new(Exit::Failure, format!("there is no sale {sale}")))
        }
        Some(_) | None => Ok(report),
    }
}

/// The report for people.
pub(super) fn show(report: &Report) {
    let mut rows = Vec::new();
    for sale in &report.sales {
        for item in &sale.items {
            let available = item.stock - item.held - item.confirmed;
            rows.push(vec![
                sale.sale.clone(),
                item.item.clone(),
                item.stock.to_string(),
                available.to_string(),
                item.held.to_string(),
                item.confirmed.to_string(),
                sale.reservations.to_string(),
                sale.orders.to_string(),
            ]);
        }
    }
    let headings =
        ["SALE", "ITEM", "STOCK", "AVAILABLE", "HELD", "CONFIRMED", "RESERVATIONS", "ORDERS"];
    table::print(&headings, &[2, 3, 4, 5, 6, 7], rows);
    say!();
    for check in &report.checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        say!("{mark}  {} ({} looked at)", check.name, check.looked_at);
        for offender in &check.offenders {
            say!("        {offender}");
        }
        if check.broken > check.offenders.len() as u64 {
            say!("        … {} in all", check.broken);
        }
    }
    for end in &report.audit_log {
        say!("      the audit log ends at {}:{}:{}", end.lane, end.links, end.hash);
    }
    say!();
    if report.undigested > 0 {
        say!("{} events are on their way into the books", report.undigested);
    }
    say!("{}", if report.ok { "audit: clean" } else { "audit: A PROMISE IS BROKEN" });
}
