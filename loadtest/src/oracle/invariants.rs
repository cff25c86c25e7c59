//! Which invariants a check judges, by their numbers in `docs/RELIABILITY.md`.

/// Each check and its invariants. Every check is here, and no other.
pub(super) const OF: [(&str, &str); 24] = [
    ("writer drained", "I17"),
    ("conservation", "I1"),
    ("no oversell", "I2"),
    ("ledger and store agree", "I1 I16 I18"),
    ("returns are counted", "I11"),
    ("limits kept", "I8"),
    ("an order for every 201", "I14 I16 I17 I25"),
    ("told ends stand", "I10 I14"),
    ("one reservation a key", "I5"),
    ("replays are equal", "I6"),
    ("a 201 is never denied", "I4 I6"),
    ("a no is a no", "I7"),
    ("key reuse is refused", "I6"),
    ("levels are those set", "I14"),
    ("holds last", "I12"),
    ("holds end", "I12"),
    ("late payments go back", "I13"),
    ("carts", "I16"),
    ("no dead letters", "I18"),
    ("one line of time", "I4 I5"),
    ("no order without a request", "I7 I9"),
    ("ends were asked for", "I10"),
    ("counts agree", "I5 I16"),
    ("everything sold", "I3"),
];

/// The invariants of a check, divided by spaces.
pub(super) fn of(check: &str) -> &'static str {
    OF.iter().find(|(name, _)| *name == check).map_or("", |(_, numbers)| numbers)
}
