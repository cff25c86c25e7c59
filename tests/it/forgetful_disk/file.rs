//! A file on a disk that forgets: what is read, what is synced, and what was done in between.

use fastrand::Rng;

/// What of the unsynced reaches the disk in a cut. The last write that does may do so in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Each write or not, whatever came before or after it.
    Any,
    /// The first few, in order.
    AFew,
    /// None.
    Nothing,
}

/// What became of unsynced changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub kept: u64,
    /// Of which only the beginning was kept.
    pub torn: u64,
    pub dropped: u64,
}

#[derive(Default)]
pub struct File {
    /// What is read.
    now: Vec<u8>,
    /// What is on the disk.
    synced: Vec<u8>,
    /// What was done since.
    since: Vec<Change>,
}

pub enum Change {
    Written(usize, Vec<u8>),
    Sized(usize),
}

impl File {
    pub fn now(&self) -> &[u8] {
        &self.now
    }

    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.since.push(change);
    }

    pub fn is_unsynced(&self) -> bool {
        !self.since.is_empty()
    }

    pub fn sync(&mut self) {
        for change in self.since.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// Loses its power: what was not synced is there or not, as chance has it.
    pub fn cut(&mut self, survives: Survives, rng: &mut Rng, cut: &mut Cut) {
        let all = self.since.len();
        let few = rng.usize(0..=all);
        let keeps = |at: usize, rng: &mut Rng| match survives {
            Survives::Any => rng.bool(),
            Survives::AFew => at < few,
            Survives::Nothing => false,
        };
        let since = self.since.drain(..).enumerate();
        let mut kept: Vec<_> =
            since.filter(|(at, _)| keeps(*at, rng)).map(|(_, change)| change).collect();
        cut.dropped += (all - kept.len()) as u64;
        if let Some(Change::Written(_, data)) = kept.last_mut()
            && data.len() > 1
            && rng.bool()
        {
            data.truncate(rng.usize(1..data.len()));
            cut.torn += 1;
        }
        cut.kept += kept.len() as u64;
        for change in kept {
            change.apply(&mut self.synced);
        }
        self.now = self.synced.clone();
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Written(at, data) => {
                if to.len() < at + data.len() {
                    to.resize(at + data.len(), 0);
                }
                to[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Sized(size) => to.resize(*size, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one line that is synced and four that are not, after a cut.
    fn after(survives: Survives, seed: u64, cut: &mut Cut) -> String {
        let mut file = File::default();
        for line in 0..5 {
            file.change(Change::Written(line * 10, format!("{line}_written\n").into_bytes()));
            if line == 0 {
                file.sync();
            }
        }
        file.cut(survives, &mut Rng::with_seed(seed), cut);
        String::from_utf8(file.now().to_vec()).unwrap()
    }

    /// Proves that the first few are a beginning of what was written, torn or not, which is never shorter than
    /// what was synced; that over many cuts some of it is kept, torn, and dropped.
    #[test]
    fn a_few_survive() {
        let (mut cut, whole) =
            (Cut::default(), "0_written\n1_written\n2_written\n3_written\n4_written\n");
        for seed in 0..100 {
            let found = after(Survives::AFew, seed, &mut cut);
            assert!(found.len() >= 10 && whole.starts_with(&found), "{seed}: {found}");
        }
        assert_eq!(cut.kept + cut.dropped, 400);
        assert!(cut.torn > 10 && cut.kept > 100 && cut.dropped > 100, "{cut:?}");
    }

    /// Proves that of any writes a later one may survive without an earlier one, and that what was synced does.
    #[test]
    fn any_survive() {
        let mut cut = Cut::default();
        let found: Vec<_> = (0..100).map(|seed| after(Survives::Any, seed, &mut cut)).collect();
        assert!(found.iter().all(|file| file.starts_with("0_written\n")));
        assert!(found.iter().any(|file| file.contains('4') && !file.contains('1')));
        assert!(cut.torn > 10 && cut.dropped > 100, "{cut:?}");
    }
}
