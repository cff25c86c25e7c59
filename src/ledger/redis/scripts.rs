//! The scripts of `lua/`, as Redis gets them.

use std::sync::LazyLock;

use redis::Script;

/// The first line: Redis then refuses what could fail half way (no memory, a replica) before the
/// script begins.
const SHEBANG: &str = "#!lua\n";

/// One call of a lane: the state, the operations, and the loop over a batch, as one script.
pub const BATCH: [(&str, &str); 11] = [
    ("lane", include_str!("../../../lua/lane.lua")),
    ("reserve", include_str!("../../../lua/reserve.lua")),
    ("confirm", include_str!("../../../lua/confirm.lua")),
    ("cancel", include_str!("../../../lua/cancel.lua")),
    ("find", include_str!("../../../lua/find.lua")),
    ("create", include_str!("../../../lua/create.lua")),
    ("move", include_str!("../../../lua/move.lua")),
    ("restock", include_str!("../../../lua/restock.lua")),
    ("inspect", include_str!("../../../lua/inspect.lua")),
    ("expire", include_str!("../../../lua/expire.lua")),
    ("batch", include_str!("../../../lua/batch.lua")),
];

/// Format of what the scripts keep. They refuse any other.
pub const FORMAT: &str = "1";

/// What every batch calls.
pub static LANE: LazyLock<Script> =
    LazyLock::new(|| script(&BATCH.map(|(_, source)| source).concat()));
/// Takes the fence of a lane.
pub static FENCE: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("../../../lua/fence.lua")));
/// Writes to a fenced lane.
pub static RESTORE: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("../../../lua/restore.lua")));
/// Opens a fenced lane.
pub static REOPEN: LazyLock<Script> =
    LazyLock::new(|| script(include_str!("../../../lua/reopen.lua")));

fn script(source: &str) -> Script {
    Script::new(&format!("{SHEBANG}{source}"))
}

#[cfg(test)]
mod tests {
    use super::BATCH;
    use crate::limits;

    /// The bounds in the scripts are those of `limits.rs`.
    #[test]
    fn bounds_agree() {
        let source = BATCH.map(|(_, source)| source).concat();
        for (name, value) in [
            ("LATE_PAYMENTS_MAX, QUANTITY_MAX, STOCK_MAX", {
                let late = limits::LATE_PAYMENTS_MAX;
                format!("{late}, {}, {}", limits::QUANTITY_MAX, limits::STOCK_MAX)
            }),
            (
                "SALES_MAX, SWEEP_MAX",
                format!("{}, {}", limits::SALES_PER_LANE_MAX, limits::SWEEP_MAX),
            ),
        ] {
            let line = format!("local {name} = {value}\n");
            assert!(source.contains(&line), "{line}");
        }
    }
}
