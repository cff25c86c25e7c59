//! `floodgate doctor`: whether the surroundings are fit for a sale.

use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::arguments::ConfigArguments;
use super::{Exit, Failure, config, say, small_runtime, table};
use crate::app::descriptors;
use crate::clock::{Clock, Millis, SystemClock};
use crate::config::{Exposed, Loaded, Settings, exposed, redis_fault};
use crate::ledger::Durability;
use crate::ledger::embedded;
use crate::ledger::redis::server::{self, Looked, Server};
use crate::limits;
use crate::sale::LaneId;
use crate::store::postgres::OpenError;
use crate::store::{StoreAt, postgres};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Failing,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    found: String,
    advice: String,
    /// It fails because a dependency cannot be reached.
    #[serde(skip)]
    unreachable: bool,
}

pub(super) fn run(arguments: &ConfigArguments, as_json: bool) -> Result<Exit, Failure> {
    let loaded = config::load(arguments)?;
    let settings = &loaded.settings;
    let mut checks = vec![
        descriptors(settings),
        backlog(),
        data_dir(settings),
        disk(settings),
        clock(),
        exposure(settings),
        secret_files(&loaded),
    ];
    if let Some(url) = &settings.redis_url {
        checks.extend(redis(url, settings));
    }
    if let Ok(StoreAt::Postgres(url)) = settings.store_at() {
        checks.push(postgres(&url, settings)?);
    }
    let failing: Vec<&Check> =
        checks.iter().filter(|check| check.state == State::Failing).collect();
    let ended = match failing.as_slice() {
        [] => Exit::Ok,
        failing if failing.iter().all(|check| check.unreachable) => Exit::Unavailable,
        _ => Exit::Failure,
    };
    if as_json {
        let report = serde_json::json!({ "ok": ended == Exit::Ok, "checks": checks });
        say!("{report}");
    } else {
        let word = |state| match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failing => "FAILING",
        };
        let row = |check: &Check| {
            let name = check.name.clone();
            vec![name, word(check.state).to_owned(), check.found.clone(), check.advice.clone()]
        };
        table::print(&["CHECK", "STATE", "FOUND", "ADVICE"], &[], checks.iter().map(row).collect());
    }
    Ok(ended)
}

fn check(name: impl Into<String>, state: State, found: impl Into<String>, advice: &str) -> Check {
    let advice = if state == State::Ok { String::new() } else { advice.to_owned() };
    Check { name: name.into(), state, found: found.into(), advice, unreachable: false }
}

/// A dependency that cannot be reached, in its client's words.
fn unreachable(name: &'static str, error: impl ToString) -> Check {
    let check = check(name, State::Failing, error.to_string(), "see that it runs and lets us in");
    Check { unreachable: true, ..check }
}

fn descriptors(settings: &Settings) -> Check {
    let wanted = descriptors::wanted(settings);
    // A gateway raises the soft limit to the hard one by itself.
    let hard = getrlimit(Resource::Nofile).maximum;
    let found = hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
    let state = if hard.is_none_or(|hard| hard >= wanted) { State::Ok } else { State::Warning };
    check("file descriptors", state, found, &format!("ulimit -n {wanted}, or LimitNOFILE"))
}

fn backlog() -> Check {
    let wanted = limits::LISTEN_BACKLOG;
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let Ok(found) = text.trim().parse::<i32>() else {
        return check("listen backlog", State::Warning, "unknown", "see net.core.somaxconn");
    };
    let state = if found >= wanted { State::Ok } else { State::Warning };
    let advice = format!("sysctl net.core.somaxconn={wanted}");
    check("listen backlog", state, found.to_string(), &advice)
}

fn data_dir(settings: &Settings) -> Check {
    let dir = &settings.data_dir;
    let name = "data dir";
    // A doctor changes nothing: a dir that is not there yet is not made.
    if !dir.exists() {
        let parent = dir.ancestors().skip(1).find(|dir| dir.as_os_str().is_empty() || dir.exists());
        let found = format!("{} will be made", dir.display());
        let state = if parent.is_some() { State::Ok } else { State::Failing };
        return check(name, state, found, "name a dir that can be made");
    }
    if !dir.join("lock").exists() {
        return check(name, State::Ok, format!("{} (never used)", dir.display()), "");
    }
    match embedded::lock_data_dir(dir) {
        Ok(_) => check(name, State::Ok, dir.display().to_string(), ""),
        Err(embedded::OpenError::InUse { .. }) => {
            check(name, State::Ok, format!("{} (in use by a gateway)", dir.display()), "")
        }
        Err(error) => check(name, State::Failing, error.to_string(), "make it writable"),
    }
}

/// As a start looks at it: whether the server of each lane is there, its version, and whether it keeps
/// what is promised. What the servers have alike is told once.
fn redis(url: &str, settings: &Settings) -> Vec<Check> {
    let name = "Redis";
    let server = match Server::of(url) {
        Ok(server) => server,
        Err(error) => return vec![check(name, State::Failing, error.to_string(), "mend it")],
    };
    let promised = settings.promised();
    let mut looked: Vec<Looked> = Vec::new();
    let mut silent: Vec<String> = Vec::new();
    for lane in (0..settings.ledger.lanes).map(LaneId) {
        let found = server.connect(lane).and_then(|mut connection| {
            server::look(&mut connection, promised, settings.ledger.replicas)
        });
        match found {
            Ok(found) => {
                for one in found {
                    if !looked.contains(&one) {
                        looked.push(one);
                    }
                }
            }
            Err(error) => {
                // The next lane would be waited for as long.
                let hangs = error.is_timeout();
                let fault = redis_fault(url, &error.into());
                if !silent.contains(&fault) {
                    silent.push(fault);
                }
                if hangs {
                    break;
                }
            }
        }
    }
    let reached = || check(name, State::Ok, format!("reached; for `{}`", promised.as_str()), "");
    let first = if silent.is_empty() { reached() } else { unreachable(name, silent.join("; ")) };
    let row = |one: &Looked| {
        let state = if one.fault.is_some() { State::Failing } else { State::Ok };
        let advice = one.fault.as_deref().unwrap_or_default();
        check(format!("{name} {}", one.what), state, one.found.clone(), advice)
    };
    std::iter::once(first).chain(looked.iter().map(row)).collect()
}

/// As a start looks at it, without changing its tables.
fn postgres(url: &str, settings: &Settings) -> Result<Check, Failure> {
    let name = "PostgreSQL";
    let looked = small_runtime()?.block_on(postgres::look(url));
    let found = match looked {
        Ok(found) => found,
        Err(error @ (OpenError::Unreachable(_) | OpenError::NotReady(_))) => {
            return Ok(unreachable(name, error));
        }
        Err(
            error @ (OpenError::Url(_)
            | OpenError::Refused(_)
            | OpenError::Migrations(_)
            | OpenError::Unfit { .. }),
        ) => {
            return Ok(check(name, State::Failing, error.to_string(), "see what is found"));
        }
    };
    let wanted = limits::STORE_WRITERS + settings.store.connections + 1;
    let syncs = found.fsync && found.synchronous_commit;
    let no_tables = !found.tables && !found.may_create && settings.store.migrate_url.is_none();
    let (state, advice) = if no_tables {
        let advice =
            "let this role make tables: GRANT CREATE ON SCHEMA public, or store.migrate_url";
        (State::Failing, advice.to_owned())
    } else if !syncs && settings.promised() == Durability::Stored {
        (State::Failing, "durability `stored` needs fsync and synchronous_commit on".to_owned())
    } else if !syncs {
        (State::Warning, "set fsync and synchronous_commit on: carts survive no crash".to_owned())
    } else if found.connections < wanted {
        (State::Warning, format!("each gateway uses up to {wanted} connections"))
    } else {
        (State::Ok, String::new())
    };
    let tables = match (found.tables, no_tables) {
        (true, _) => "tables are there",
        (false, false) => "tables will be made",
        (false, true) => "tables are missing and cannot be made",
    };
    let text = format!("{}, {} connections, {tables}", found.version, found.connections);
    Ok(check(name, state, text, &advice))
}

fn disk(settings: &Settings) -> Check {
    const COMFORTABLE: u64 = 8;
    let existing = settings.data_dir.ancestors().find(|dir| dir.exists());
    let dir = existing.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let reserve = settings.ledger.disk_reserve_bytes;
    let Ok(free) = rustix::fs::statvfs(dir) else {
        return check("disk", State::Warning, "unknown", "see that there is room");
    };
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    let state = if free < reserve {
        State::Failing
    } else if free < reserve.saturating_mul(COMFORTABLE) {
        State::Warning
    } else {
        State::Ok
    };
    let found = format!("{} MiB free", free / (1024 * 1024));
    check("disk", state, found, "below ledger.disk_reserve_bytes no reservation is taken")
}

fn clock() -> Check {
    // A machine that believes to be in the past of this program has not set its clock.
    const WRITTEN: Millis = Millis(1_793_000_000_000);
    let now = SystemClock.now();
    let state = if now > WRITTEN { State::Ok } else { State::Failing };
    check("clock", state, now.to_string(), "set the clock: windows and holds follow it")
}

fn exposure(settings: &Settings) -> Check {
    let open = !settings.ops_listen.ip().is_loopback();
    let state = if open { State::Warning } else { State::Ok };
    let advice = "operators' listener on an address that others reach: see that buyers do not";
    check("ops listener", state, settings.ops_listen.to_string(), advice)
}

/// A key of TLS that everybody can read keeps a gateway from starting; other secrets do not.
fn secret_files(loaded: &Loaded) -> Check {
    let keys = exposed(loaded.settings.tls.key_file.as_deref());
    let state = if keys.is_empty() { State::Warning } else { State::Failing };
    let all: Vec<Exposed> = keys.into_iter().chain(loaded.exposed()).collect();
    if all.is_empty() {
        return check("secret files", State::Ok, "not for everybody to read", "");
    }
    let named = all.iter().map(Exposed::to_string).collect::<Vec<_>>().join(", ");
    check("secret files", state, named, "everybody on this machine can read them: chmod 600")
}
