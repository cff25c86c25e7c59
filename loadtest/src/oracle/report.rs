//! What a harness prints when a promise was broken: everything that it takes to see it again.

use std::fmt;
use std::path::PathBuf;

use super::shrink::{smallest_case, users};
use super::{Evidence, Verdict};
use crate::history::Entry;
use crate::limits::CASE_ENTRIES_MAX;

/// How a run came about.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What every choice of it followed from.
    pub seed: u64,
    /// Everything that was set, in the harness's own words.
    pub settings: String,
    /// The program's version.
    pub commit: String,
    /// Where the whole history is.
    pub history: Option<PathBuf>,
    /// Where the programs' logs are.
    pub logs: Option<PathBuf>,
}

/// A broken promise, with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Report {
    run: Run,
    verdict: Verdict,
    cases: Vec<(String, Vec<Entry>)>,
}

impl Report {
    /// Of evidence that has been judged.
    #[must_use]
    pub fn of(run: Run, evidence: &Evidence<'_>, verdict: &Verdict) -> Self {
        let case = |name: &String| Some((name.clone(), smallest_case(evidence, name)?));
        let cases = verdict.failures().map(|check| &check.name).filter_map(case).collect();
        Self { run, verdict: verdict.clone(), cases }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { seed, settings, commit, history, logs } = &self.run;
        writeln!(f, "seed      {seed}\nsettings  {settings}\ncommit    {commit}")?;
        for (name, path) in [("history", history), ("logs", logs)] {
            if let Some(path) = path {
                writeln!(f, "{name:<9} {}", path.display())?;
            }
        }
        for (check, case) in &self.cases {
            writeln!(f, "smallest case of \"{check}\": {:?}", users(case))?;
            for entry in case.iter().take(CASE_ENTRIES_MAX) {
                let line = serde_json::to_string(entry).unwrap_or_default();
                writeln!(f, "  {line}")?;
            }
        }
        write!(f, "{}", self.verdict)
    }
}
