//! The key that somebody may have meant.

/// What is further away than this was not meant.
const EDITS_MAX: usize = 3;

/// The nearest of these names, if one is near.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = names.map(|known| (edits(name, known), known));
    let near = near.filter(|(edits, known)| *edits <= EDITS_MAX && *edits < known.len());
    near.min_by_key(|(edits, _)| *edits).map(|(_, known)| known)
}

/// How many letters have to be put in, taken out or changed.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in (1..).zip(from.bytes()) {
        let mut before = done;
        let mut diagonal = std::mem::replace(&mut row[0], done);
        for (cell, wanted) in row.iter_mut().skip(1).zip(to.bytes()) {
            let changed = diagonal + usize::from(letter != wanted);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slip is understood; another word is not.
    #[test]
    fn slips() {
        let names = ["listen", "ops_listen", "data_dir", "ledger.lanes", "log"];
        let near = |name| nearest(name, names.into_iter());
        assert_eq!(near("datadir"), Some("data_dir"));
        assert_eq!(near("lisen"), Some("listen"));
        assert_eq!(near("ledger.lane"), Some("ledger.lanes"));
        assert_eq!(near("colour"), None);
        assert_eq!(near("xyz"), None);
        assert_eq!((edits("", "abc"), edits("abc", ""), edits("kitten", "sitting")), (3, 3, 3));
    }
}
