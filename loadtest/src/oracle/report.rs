//! What a harness prints when a promise was broken: everything that it takes to see it again.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::shrink::{smallest_case, users};
use super::{BooksAt, Evidence, Scope, Verdict, gather, judge};
use crate::history::{Entry, History};
use crate::limits::CASE_ENTRIES_MAX;
use crate::ops::OpsAccess;

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

impl Run {
    /// A run of this checkout, whose history and logs are nowhere.
    #[must_use]
    pub fn new(seed: u64, settings: impl fmt::Display) -> Self {
        let (settings, commit) = (settings.to_string(), commit().to_owned());
        Self { seed, settings, commit, history: None, logs: None }
    }
}

/// The version of this checkout: what `FLOODGATE_COMMIT` says, or else what git does, with `-dirty` where files
/// were changed since. Asked for once.
#[must_use]
pub fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let said = std::env::var("FLOODGATE_COMMIT").ok().filter(|commit| !commit.is_empty());
        said.or_else(asked_of_git).unwrap_or_else(|| "unknown".to_owned())
    })
}

fn asked_of_git() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// Where the oracle looks, and what it may take for granted.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// What the ledger counts.
    pub ops: &'a OpsAccess,
    /// What the store keeps.
    pub books: &'a BooksAt,
    /// The sale.
    pub sale: &'a str,
    /// What the clients saw.
    pub history: &'a History,
    /// What may be taken for granted.
    pub scope: Scope,
    /// How long the writer may take.
    pub within: Duration,
}

/// Judges evidence that has been gathered.
///
/// # Errors
///
/// A promise was broken: the whole report, to be printed as it is.
pub fn judge_or_report(run: Run, evidence: &Evidence<'_>) -> Result<Verdict, String> {
    let verdict = judge(evidence);
    if verdict.ok { Ok(verdict) } else { Err(Report::of(run, evidence, &verdict).to_string()) }
}

/// Waits for the writer, reads ledger and store, and judges. Of a run that keeps its history nowhere, it is left
/// in the directory for temporary files if there is something to report.
///
/// # Errors
///
/// A promise was broken, or the oracle cannot see: the whole report, to be printed as it is.
pub async fn examine_or_report(mut run: Run, inquiry: &Inquiry<'_>) -> Result<Verdict, String> {
    let Inquiry { ops, books, sale, history, scope, within } = *inquiry;
    let gathered = gather(ops, books, sale, within).await;
    let judged = gathered.map(|(ledger, books, _)| {
        let evidence = Evidence { history, ledger: &ledger, books: &books, scope };
        let verdict = judge(&evidence);
        if verdict.ok {
            return Ok(verdict);
        }
        run.history = run.history.take().or_else(|| saved(history, run.seed));
        Err(Report::of(run.clone(), &evidence, &verdict).to_string())
    });
    judged.unwrap_or_else(|error| {
        run.history = run.history.take().or_else(|| saved(history, run.seed));
        Err(format!("{run}the oracle cannot see: {error}"))
    })
}

/// Leaves a history behind; nothing is done about a disk that does not take it.
fn saved(history: &History, seed: u64) -> Option<PathBuf> {
    let name = format!("floodgate-{seed}-{}.jsonl", std::process::id());
    let path = std::env::temp_dir().join(name);
    history.save(&path).ok().map(|()| path)
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, settings, commit, history, logs } = self;
        writeln!(f, "seed      {seed}\nsettings  {settings}\ncommit    {commit}")?;
        for (name, path) in [("history", history), ("logs", logs)] {
            if let Some(path) = path {
                writeln!(f, "{name:<9} {}", path.display())?;
            }
        }
        Ok(())
    }
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
        write!(f, "{}", self.run)?;
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
