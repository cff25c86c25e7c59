//! Bugs that are put in on purpose, to see that somebody finds them. None is in a normal build: there
//! [`is`] is `false` at compile time.
//!
//! Unit tests have all of them, and a program with the feature `planted-bugs`: `PLANTED_BUG=name` chooses one.
//! `cargo xtask planted` tries each of them.

/// Every bug, and what is wrong.
#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) const BUGS: [(&str, &str); 35] = [
    ("key-not-in-id", "a retry under the same key has another reservation id"),
    ("seen-not-noted", "a gateway does not write down which keys it has sent to the ledger"),
    ("others-winners-ignored", "\"sold out\" is told without asking who won elsewhere"),
    ("timeout-told-as-no", "whoever waited too long is told \"overloaded\", not \"unknown\""),
    ("stored-not-awaited", "`stored` is answered before the books have it"),
    ("latch-never-reopens", "an item that was sold out once stays so at this gateway"),
    ("lost-answer-told-as-no", "a call whose answer was lost is told as not done"),
    ("wait-result-ignored", "`replicated` is answered whatever WAIT says"),
    ("abandoned-call-lives", "a connection that was given up is not ended at the server"),
    ("gateway-clock-expires", "a gateway tells by its own clock that a hold has run out"),
    ("ack-before-sync", "the embedded ledger answers before its journal has what was decided"),
    ("sync-left-out", "the embedded ledger's journal is written, and not synced"),
    ("restart-not-noticed", "a Redis that was restarted is trusted as before"),
    ("books-not-held", "the writer goes on writing books from which a lane is written anew"),
    ("outbox-tail-dropped", "a recovery knows the books, and not what the outbox has behind them"),
    ("deadlines-not-restored", "holds of a lane that was written anew never run out"),
    ("accounts-not-restored", "limits of a lane that was written anew begin at nothing"),
    ("epoch-not-raised", "a lane that was written anew goes on in its old life"),
    ("life-outlives-server", "a lane that lacks nothing goes on in its life on another server"),
    ("one-token-a-gateway", "writes of an earlier try to bring a lane back count in a later one"),
    ("cursor-before-rows", "the cursor is committed before the orders, by itself"),
    ("cursor-not-compared", "a batch is digested wherever the cursor stands"),
    ("cursor-not-compared-in-postgres", "the same, where the books are in PostgreSQL"),
    ("version-not-compared", "an event that comes again counts again"),
    ("gap-ignored", "the writer goes on behind a gap of the outbox"),
    ("units-not-freed", "the books do not free the units of an order that ended"),
    ("epoch-not-compared", "the script does not look in which life of the lane the caller is"),
    ("appended-later", "what the script decided is appended to the outbox by the next call only"),
    ("fence-not-checked", "the script sells while a lane is being written anew"),
    ("limit-outside-script", "the script leaves limits to the gateway"),
    ("replay-not-looked-up", "the script does not look whether it has the reservation"),
    ("clock-steps-back", "the lane's clock follows Redis's when that steps back"),
    ("sweep-without-status", "a hold that was paid stays due, and runs out all the same"),
    ("cancel-not-told", "a cancellation is not appended to the outbox"),
    ("window-not-checked", "the script does not look when a sale opens and closes"),
];

/// Whether this bug is in.
#[cfg(not(any(test, feature = "planted-bugs")))]
#[inline(always)]
pub(crate) const fn is(_bug: &str) -> bool {
    false
}

/// Whether this bug is in.
#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) fn is(bug: &str) -> bool {
    chosen().is_some_and(|chosen| chosen == bug)
}

/// The bug that is in.
#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) fn chosen() -> Option<&'static str> {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PLANTED_BUG").ok());
    CHOSEN.as_deref()
}

/// What the bugs of the scripts change: in place of a piece of the source, another.
#[cfg(any(test, feature = "planted-bugs"))]
const IN_SCRIPTS: [(&str, &str, &str); 13] = [
    ("fence-not-checked", "if meta[5] then", "if false then"),
    ("epoch-not-compared", "if epoch ~= tonumber(ARGV[1]) then", "if false then"),
    (
        "appended-later",
        "  call('XADD', OUTBOX, whole(epoch) .. '-' .. whole(seq), 'n', seq - before, 't', whole(now), 'e', told)",
        "  local late = call('HMGET', RESTOCKS, 'id', 'n', 't', 'e')
  if late[1] then
    call('XADD', OUTBOX, late[1], 'n', late[2], 't', late[3], 'e', late[4])
  end
  call('HSET', RESTOCKS, 'id', whole(epoch) .. '-' .. whole(seq), 'n', seq - before, 't', whole(now), 'e', told)",
    ),
    (
        "limit-outside-script",
        "  if limit then\n    return refused('limit",
        "  if false then\n    return refused('limit",
    ),
    ("limit-outside-script", "if not shape or known or had or", "if not shape or known or"),
    (
        "limit-outside-script",
        "records[id] ~= nil or accounts[account] ~= nil then\n    return nil",
        "records[id] ~= nil then\n    return nil",
    ),
    (
        "replay-not-looked-up",
        "  if known then\n    return replay",
        "  if false then\n    return replay",
    ),
    (
        "replay-not-looked-up",
        "if not shape or known or had or records[id] ~= nil",
        "if not shape or had or false",
    ),
    ("clock-steps-back", "now = math.max(now, ", "now = math.max(0, "),
    (
        "sweep-without-status",
        "    if record[STATUS] == HELD then\n      expire(",
        "    if true then\n      expire(",
    ),
    ("cancel-not-told", "  happened(pack({ 'X', ", "  local _ = (pack({ 'X', "),
    (
        "window-not-checked",
        "  if sale[CLOSES_AT] >= 0 and now >= sale[CLOSES_AT] then
    return 'closed'
  end
",
        "",
    ),
    (
        "window-not-checked",
        "  if sale[OPENS_AT] < 0 or now < sale[OPENS_AT] then
    return 'scheduled'
  end
",
        "",
    ),
];

/// A script with the bug that is in.
#[cfg(any(test, feature = "planted-bugs"))]
pub(crate) fn patched(source: String) -> String {
    let chosen = chosen().unwrap_or_default();
    IN_SCRIPTS.iter().filter(|(bug, ..)| *bug == chosen).fold(source, |source, (_, piece, bug)| {
        assert!(source.contains(piece), "the scripts have no {piece}");
        source.replacen(piece, bug, 1)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{BUGS, IN_SCRIPTS};

    /// Proves that every change of the scripts belongs to a bug that is known by that name.
    #[test]
    fn patches_have_names() {
        assert!(IN_SCRIPTS.iter().all(|(bug, ..)| BUGS.iter().any(|(name, _)| name == bug)));
    }

    /// Proves that the simulation catches bugs within a few seeds: one of the scripts, of the books, of the
    /// gateway, and of a recovery.
    #[test]
    fn the_simulation_catches_some() {
        let seeds = "simulation::seeds_hold";
        for bug in
            ["replay-not-looked-up", "units-not-freed", "latch-never-reopens", "epoch-not-raised"]
        {
            let mut tests = Command::new(std::env::current_exe().unwrap());
            tests.args(["--exact", seeds, "--nocapture"]).env("PLANTED_BUG", bug);
            tests
                .env("FLOODGATE_SEED", "1")
                .env("FLOODGATE_SEEDS", "40")
                .env("FLOODGATE_SHRINK", "0");
            let ran = tests.output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(!ran.status.success() && said.contains("caught after"), "{bug}: {said}");
        }
    }
}
