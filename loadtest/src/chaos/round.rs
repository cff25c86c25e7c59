//! One sale of a run: crowd and faults, then mending and judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;

use super::fleet::{REVIVES_WITHIN, Rig};
use super::front::Front;
use super::{ChaosError, Fault, Plan, Promises};
use crate::buyers::{self, Control, CrowdPlan, Habits, Patience};
use crate::history::{Entry, History, Level, Op, Seen};
use crate::ops::{ItemSpec, OpsAccess, OpsClient, SaleSpec};
use crate::oracle::{BooksAt, Evidence, Report, Run, Scope, gather, judge};
use crate::stop::StopFlag;

/// What is chosen for a round.
#[derive(Debug)]
pub struct Round {
    number: u32,
    rng: Rng,
    level: Level,
    stock: u64,
    hold_seconds: u64,
    faults: Vec<Fault>,
    lasts: Duration,
}

/// What it came to.
#[derive(Debug)]
pub struct Sold {
    pub level: Level,
    pub faults: Vec<&'static str>,
    pub requests: BTreeMap<String, u64>,
    pub promises: Promises,
    /// From the last mending until somebody was answered for good.
    pub revived: Duration,
    pub broken: Option<String>,
}

impl Round {
    pub fn of(number: u32, mut rng: Rng, plan: &Plan) -> Self {
        let levels = [Level::Fsync, Level::Fsync, Level::Replicated, Level::Stored, Level::Memory];
        let count = rng.usize(1..6);
        let possible = Fault::possible();
        let faults = (0..count).map(|_| possible[rng.usize(0..possible.len())]).collect();
        Self {
            number,
            level: levels[rng.usize(0..levels.len())],
            stock: rng.u64(20..3_000),
            hold_seconds: [2, 600][rng.usize(0..2)],
            faults,
            lasts: Duration::from_millis(rng.u64(2_000..6_000)).min(plan.lasts),
            rng,
        }
    }

    /// The level that survives all of its faults.
    fn survivor(&self) -> Option<Level> {
        self.faults.iter().filter_map(|fault| fault.survivor()).max()
    }

    /// Whether what it promises may be gone after its faults.
    fn may_lose(&self) -> bool {
        self.survivor().is_some_and(|survives| self.level < survives)
    }

    fn sale(&self) -> String {
        format!("chaos-{}", self.number)
    }

    pub async fn play(mut self, rig: &mut Rig, plan: &Plan) -> Result<Sold, ChaosError> {
        rig.promise(self.level)?;
        rig.heal().await?;
        let sale = self.sale();
        self.open(&rig.gateways[0].access()).await?;
        let front =
            Front::open(rig.gateways.iter().map(|gateway| gateway.public).collect()).await?;
        let desks = Front::open(rig.gateways.iter().map(|gateway| gateway.ops).collect()).await?;
        let access = OpsAccess::new(desks.address, rig.gateways[0].access().token);
        let file = plan.dir.join(format!("{sale}.jsonl"));
        let crowd = CrowdPlan { ops: Some(access), ..self.crowd(front.address, plan.seed) };
        let stop = StopFlag::new();
        let control = Control {
            stop: stop.clone(),
            history_file: Some(file.clone()),
            history_sync: true,
            ..Control::default()
        };
        let (going, own) = (crowd.clone(), control.clone());
        let buyers = tokio::spawn(async move { buyers::run(&going, own).await });
        let began = Instant::now();
        for fault in self.faults.clone() {
            sleep(Duration::from_millis(self.rng.u64(50..700))).await;
            fault.happen(rig, &mut self.rng).await?;
        }
        sleep(self.lasts.saturating_sub(began.elapsed())).await;
        let mended = Instant::now();
        rig.heal().await?;
        self.probe(front.address).await?;
        let revived = mended.elapsed();
        stop.set();
        let report = buyers
            .await
            .map_err(|panic| ChaosError::Liveness(format!("the crowd fell over: {panic}")))??;
        let mut history = report.history;
        let control = Control { stop: StopFlag::new(), ..control };
        let found = buyers::resolve(&mut history, &crowd, control).await?;
        if found.unresolved > 0 {
            return Err(ChaosError::Liveness(format!(
                "{} outcomes stay unknown",
                found.unresolved
            )));
        }
        let (lost, mut broken) = self.judge(rig, plan, &history, &file).await?;
        let anomalies = [report.anomalies, found.anomalies].concat();
        // Where promises were lost, buyers see it.
        if !anomalies.is_empty() && !self.may_lose() {
            broken = Some(format!("{self}\nanswers that cannot be: {}", anomalies.join("; ")));
        }
        Ok(Sold {
            level: self.level,
            faults: self.faults.iter().map(|fault| fault.name()).collect(),
            requests: history.outcomes(),
            promises: Promises { told: told(history.entries()), lost },
            revived,
            broken,
        })
    }

    async fn open(&self, access: &OpsAccess) -> Result<(), ChaosError> {
        let item = |id: &str| ItemSpec {
            id: id.to_owned(),
            title: id.to_owned(),
            price: 1_999,
            currency: "EUR".to_owned(),
            stock: self.stock,
            per_user_limit: None,
        };
        let spec = SaleSpec {
            id: self.sale(),
            title: self.sale(),
            opens_at: None,
            closes_at: None,
            hold_seconds: self.hold_seconds,
            per_user_limit: Some(4),
            items: vec![item("one"), item("two")],
        };
        let mut ops = OpsClient::new(access);
        let began = Instant::now();
        loop {
            let opened = match ops.create_sale(&spec).await {
                Ok(()) => ops.transition(&spec.id, "open").await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > REVIVES_WITHIN => {
                    return Err(ChaosError::Liveness(error.to_string()));
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn crowd(&self, front: SocketAddr, seed: u64) -> CrowdPlan {
        CrowdPlan {
            connections: 48,
            seed: seed ^ u64::from(self.number),
            habits: Habits { cancel_ratio: 0.15, confirm_ratio: 0.4, ..Habits::default() },
            patience: Patience { deadline: Duration::from_secs(4), ..Patience::default() },
            settle: false,
            shared: true,
            user_prefix: format!("r{}-", self.number),
            ..CrowdPlan::new(front, &self.sale(), &["one", "two"], 1_000_000)
        }
    }

    /// Somebody new is answered for good, soon after everything was mended.
    async fn probe(&self, front: SocketAddr) -> Result<(), ChaosError> {
        let plan = CrowdPlan {
            user_prefix: format!("probe{}-", self.number),
            connections: 1,
            habits: Habits::PLAIN,
            ..CrowdPlan { users: 1, ..self.crowd(front, 1) }
        };
        let began = Instant::now();
        loop {
            // Kept apart: what it buys is in the books, so its user is left out of the judgement below.
            let stop = StopFlag::new();
            let control = Control { stop, ..Control::default() };
            let report = buyers::run(&plan, control).await?;
            let answered = report.history.entries().iter().any(|entry| match &entry.seen {
                crate::history::Seen::Ok => true,
                crate::history::Seen::No(code) => !crate::history::is_transient(code),
                crate::history::Seen::Invoke | crate::history::Seen::Unknown(_) => false,
            });
            if answered {
                return Ok(());
            }
            if began.elapsed() > REVIVES_WITHIN {
                return Err(ChaosError::Liveness("nobody is answered".to_owned()));
            }
        }
    }

    /// How many promises were lost that might be, and what is wrong, if anything.
    async fn judge(
        &self,
        rig: &Rig,
        plan: &Plan,
        history: &History,
        file: &std::path::Path,
    ) -> Result<(u64, Option<String>), ChaosError> {
        let sale = self.sale();
        let url = rig.postgres.url();
        // What ran out before everything was mended is still to come back, and then to be written.
        let within = REVIVES_WITHIN;
        let access = rig.gateways[0].access();
        let (view, books, _) = gather(&access, &BooksAt::Postgres(url), &sale, within).await?;
        let lost_below = self.survivor();
        // The probes are not in the history.
        let scope = Scope { lost_below, shared: true, level: Some(self.level), ..Scope::default() };
        let evidence = Evidence { history, ledger: &view, books: &books, scope };
        let verdict = judge(&evidence);
        if !verdict.ok {
            let run = Run {
                seed: plan.seed,
                settings: self.to_string(),
                commit: plan.commit.clone(),
                history: Some(file.to_owned()),
                logs: Some(plan.dir.clone()),
            };
            return Ok((verdict.lost, Some(Report::of(run, &evidence, &verdict).to_string())));
        }
        let audit = rig.gateways[0].audit()?;
        Ok((verdict.lost, audit.map(|said| format!("{self}\nthe audit: {said}"))))
    }
}

/// Different reservations that buyers were told of.
fn told(entries: &[Entry]) -> u64 {
    let told = entries.iter().filter(|entry| entry.op == Op::Reserve && entry.seen == Seen::Ok);
    let ids: BTreeSet<_> = told.filter_map(|entry| entry.reservation.as_deref()).collect();
    ids.len() as u64
}

impl fmt::Display for Sold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Promises { told, lost } = self.promises;
        let (level, revived) = (self.level.word(), self.revived.as_millis());
        write!(f, "told {told} at {level}, lost {lost}, sold again after {revived} ms")
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, level, stock, hold_seconds, faults, .. } = self;
        let faults: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
        write!(
            f,
            "round {number}: {level:?}, {stock} units, {hold_seconds} s, {}",
            faults.join(", ")
        )
    }
}
