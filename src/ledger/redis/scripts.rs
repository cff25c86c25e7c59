//! The scripts of `lua/`, as Redis gets them.

use std::sync::LazyLock;

use governor::Quota;
use redis::{Cmd, ConnectionLike, RedisError, Script, cmd};

use super::keys::Keys;
use super::wire::{self, Arguments};
use crate::engine::Position;

/// The first line: Redis then refuses what could fail half way (no memory, a replica) before the
/// script begins.
const SHEBANG: &str = "#!lua\n";

/// What every call of a lane begins with.
const LANE_PARTS: [(&str, &str); 3] = [
    ("lane", include_str!("../../../lua/lane.lua")),
    ("plain", include_str!("../../../lua/plain.lua")),
    ("rate", include_str!("../../../lua/rate.lua")),
];

/// What is made in a call that needs one of them.
const OPERATIONS: [(&str, &str); 10] = [
    ("change", include_str!("../../../lua/change.lua")),
    ("reserve", include_str!("../../../lua/reserve.lua")),
    ("confirm", include_str!("../../../lua/confirm.lua")),
    ("cancel", include_str!("../../../lua/cancel.lua")),
    ("find", include_str!("../../../lua/find.lua")),
    ("create", include_str!("../../../lua/create.lua")),
    ("move", include_str!("../../../lua/move.lua")),
    ("restock", include_str!("../../../lua/restock.lua")),
    ("inspect", include_str!("../../../lua/inspect.lua")),
    ("expire", include_str!("../../../lua/expire.lua")),
];

/// The loop over a batch.
const LOOP: &str = include_str!("../../../lua/batch.lua");

/// Format of what the scripts keep. They refuse any other.
pub const FORMAT: &str = "2";

/// What every batch calls.
pub static LANE: LazyLock<Script> = LazyLock::new(|| Script::new(&LANE_SOURCE));
/// Its source, as a server gets it with the first words of a connection.
pub static LANE_SOURCE: LazyLock<String> = LazyLock::new(|| format!("{SHEBANG}{}", batch()));
/// Takes the fence of a lane.
pub static FENCE: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("../../../lua/fence.lua")));
/// Writes to a fenced lane.
pub static RESTORE: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("../../../lua/restore.lua")));
/// Opens a fenced lane.
pub static REOPEN: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("../../../lua/reopen.lua")));

/// What a call is known by, however often it is made.
#[derive(Clone, Copy, Debug)]
pub struct CallId<'a> {
    /// Where the lane keeps the caller's last one.
    pub field: &'a str,
    /// Given once only.
    pub known_by: &'a str,
}

/// A call of a lane by somebody who has seen it at a position. `since`: sales that were touched after this seq
/// are to be reported. `quota`: how often a user may reserve. `id`: whether this very call was made before is
/// told.
pub fn lane_call(
    keys: &Keys,
    seen: Position,
    since: Option<u64>,
    quota: Option<&Quota>,
    id: Option<CallId<'_>>,
    asked: &Arguments,
) -> Cmd {
    let all = keys.all();
    let mut call = cmd("EVALSHA");
    call.arg(LANE.get_hash()).arg(all.len());
    for key in all {
        call.arg(key);
    }
    call.arg(seen.epoch).arg(seen.seq);
    call.arg(since.map_or(String::new(), |since| since.to_string()));
    call.arg(&asked.letters).arg(quota.map_or(String::new(), wire::rate)).arg(&asked.wishes);
    let (field, known_by) = id.map_or(("", ""), |id| (id.field, id.known_by));
    call.arg(field).arg(known_by);
    for value in asked.values() {
        call.arg(value);
    }
    call
}

/// What a lane says to a call.
pub struct Said {
    /// For [`wire::head`].
    pub head: Vec<u8>,
    /// For [`wire::outcomes`].
    pub outcomes: Vec<u8>,
    /// For [`wire::reports`].
    pub reports: Vec<u8>,
    /// For [`wire::outcomes`].
    pub shapes: Vec<u8>,
}

/// Makes a call. A server that does not know the script gets it, and is asked once more.
///
/// # Errors
/// As Redis has it.
pub fn call_lane(connection: &mut dyn ConnectionLike, call: &Cmd) -> Result<Said, RedisError> {
    let said = match call.query(connection) {
        Err(unknown) if unknown.code() == Some("NOSCRIPT") => {
            cmd("SCRIPT").arg("LOAD").arg(LANE_SOURCE.as_str()).exec(connection)?;
            call.query(connection)
        }
        said => said,
    };
    let [head, outcomes, reports, shapes]: [Vec<u8>; 4] = said?;
    Ok(Said { head, outcomes, reports, shapes })
}

/// One call of a lane, as one script: the state, the operations within a function that makes them, and the
/// loop over a batch.
fn batch() -> String {
    let lane = LANE_PARTS.map(|(_, source)| source).concat();
    let operations = OPERATIONS.map(|(_, source)| source).concat();
    let source = format!(
        "{lane}local function operations()\n{operations}return decide, sweep, report_of\nend\n{LOOP}"
    );
    #[cfg(any(test, feature = "planted-bugs"))]
    let source = crate::planted::patched(source);
    source
}

/// The limit of users without a lane, for its tests.
#[cfg(test)]
pub fn limiter() -> String {
    format!("{SHEBANG}{}", LANE_PARTS.map(|(_, source)| source).concat())
}

fn script(source: &str) -> Script {
    Script::new(&format!("{SHEBANG}{source}"))
}

#[cfg(test)]
mod tests {
    use super::{LANE_PARTS, OPERATIONS, batch};
    use crate::limits;

    /// What stands in a source between `before` and the next quote, each time.
    fn quoted<'s>(source: &'s str, before: &'s str) -> impl Iterator<Item = &'s str> {
        source.split(before).skip(1).filter_map(|rest| rest.split('\'').next())
    }

    /// Every operation's header is its contract: it names the command, what is refused and what is told.
    #[test]
    fn headers_agree() {
        let plain = LANE_PARTS[1];
        for (name, source) in OPERATIONS[1..].iter().chain([&plain]) {
            let end = source.find("\n\n").unwrap();
            let (header, code) = source.split_at(end);
            assert!(header.lines().all(|line| line.starts_with("--")), "{name}: a header first");
            for part in ["Command", "Outcome", "Refusals", "Events", "Invariants"] {
                assert!(header.contains(&format!("\n-- {part} ")), "{name}: {part}");
            }
            if *name != plain.0 {
                let command = quoted(header, "-- Command     '").next().unwrap();
                assert!(
                    code.contains(&format!("decide.{command} = function")),
                    "{name}: {command}"
                );
            }
            for refusal in quoted(code, "refused('") {
                assert!(header.contains(refusal), "{name}: refuses {refusal} and does not say so");
            }
            let parts = quoted(code, "TRIPLE .. pack('");
            for event in quoted(code, "happened(pack({ '").chain(parts) {
                assert!(header.contains(&format!("'{event}'")), "{name}: tells '{event}'");
            }
        }
    }

    /// The bounds in the scripts are those of `limits.rs`.
    #[test]
    fn bounds_agree() {
        let source = batch();
        for (name, value) in [
            ("LATE_PAYMENTS_MAX, STOCK_MAX, SALES_MAX", {
                let late = limits::LATE_PAYMENTS_MAX;
                format!("{late}, {}, {}", limits::STOCK_MAX, limits::SALES_PER_LANE_MAX)
            }),
            ("QUANTITY_MAX, SWEEP_MAX, DUE_IDS_MAX", {
                let (quantity, sweep) = (limits::QUANTITY_MAX, limits::SWEEP_MAX);
                format!("{quantity}, {sweep}, {}", limits::DUE_IDS_MAX)
            }),
            ("RATE_USERS_MAX, RATE_TURN_US", {
                format!("{}, {}", limits::RATE_USERS_MAX, limits::RATE_TURN_MS * 1_000)
            }),
        ] {
            let line = format!("local {name} = {value}\n");
            assert!(source.contains(&line), "{line}");
        }
    }
}
