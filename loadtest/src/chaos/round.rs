//! One sale of a run: crowd and faults, then mending and judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;

use super::counter::{self, ITEMS};
use super::fleet::{REVIVES_WITHIN, Rig};
use super::front::Front;
use super::probe::{Probed, each_sells};
use super::{ChaosError, Fault, Plan, Promises, deed};
use crate::buyers::{self, Control, CrowdPlan, Habits, Patience};
use crate::history::{Entry, History, Level, Op, Seen};
use crate::ops::OpsAccess;
use crate::oracle::{BooksAt, Evidence, Report, Run, Scope, gather, judge};
use crate::redis_server::Keeps;
use crate::stop::StopFlag;

/// What is chosen for a round.
#[derive(Debug)]
pub struct Round {
    number: u32,
    rng: Rng,
    level: Level,
    /// What Redis keeps over its death.
    keeps: Keeps,
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
    /// Of them, those that did not show.
    pub without_effect: Vec<&'static str>,
    pub requests: BTreeMap<String, u64>,
    pub promises: Promises,
    /// From the last mending until every gateway had sold.
    pub revived: Duration,
    pub broken: Option<String>,
}

impl Round {
    pub fn of(number: u32, mut rng: Rng, plan: &Plan) -> Self {
        let levels = [Level::Fsync, Level::Fsync, Level::Replicated, Level::Stored, Level::Memory];
        let count = rng.usize(1..6);
        let possible = Fault::possible();
        let faults = (0..count).map(|_| possible[rng.usize(0..possible.len())]).collect();
        let level = levels[rng.usize(0..levels.len())];
        let loses = [Keeps::Nothing, Keeps::EverySecond][rng.usize(0..2)];
        Self {
            number,
            level,
            keeps: if level == Level::Memory { loses } else { Keeps::Everything },
            stock: rng.u64(20..3_000),
            hold_seconds: [2, 600][rng.usize(0..2)],
            faults,
            lasts: Duration::from_millis(rng.u64(2_000..6_000)).min(plan.lasts),
            rng,
        }
    }

    /// The level that survives all of its faults.
    fn survivor(&self) -> Option<Level> {
        self.faults.iter().filter_map(|fault| fault.survivor(self.level)).max()
    }

    /// Whether what it promises may be gone after its faults.
    fn may_lose(&self) -> bool {
        self.survivor().is_some_and(|survives| self.level < survives)
    }

    fn sale(&self) -> String {
        format!("chaos-{}", self.number)
    }

    pub async fn play(mut self, rig: &mut Rig, plan: &Plan) -> Result<Sold, ChaosError> {
        let played = self.sell(rig, plan).await;
        let misdeeds = rig.misdeeds(|code| self.faults.iter().any(|fault| fault.explains(code)))?;
        if misdeeds.is_empty() {
            return played;
        }
        let misdeeds = misdeeds.join("\n");
        match played {
            Ok(sold) => {
                let before = sold.broken.unwrap_or_else(|| self.to_string());
                Ok(Sold { broken: Some(format!("{before}\n{misdeeds}")), ..sold })
            }
            Err(ChaosError::Liveness(what)) => {
                Err(ChaosError::Liveness(format!("{what}\n{misdeeds}")))
            }
            Err(other) => Err(other),
        }
    }

    async fn sell(&mut self, rig: &mut Rig, plan: &Plan) -> Result<Sold, ChaosError> {
        rig.promise(self.level, self.keeps)?;
        rig.heal().await?;
        let sale = self.sale();
        let spec = counter::sale(&sale, self.stock, self.hold_seconds);
        counter::open(&rig.gateways[0].access(), &spec).await?;
        let front =
            Front::open(rig.gateways.iter().map(|gateway| gateway.public).collect()).await?;
        let ops = rig.gateways.iter().map(|gateway| gateway.access().addr).collect();
        let desks = Front::open(ops).await?;
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
        let without_effect = self.spoil(rig).await?;
        let mended = Instant::now();
        rig.heal().await?;
        let probed = each_sells(&rig.gateways, &crowd).await?;
        let revived = mended.elapsed();
        stop.set();
        let report = buyers
            .await
            .map_err(|panic| ChaosError::Liveness(format!("the crowd fell over: {panic}")))??;
        if !report.outcomes.contains_key("reserved") {
            return Err(ChaosError::Liveness("the crowd got nothing".to_owned()));
        }
        let Probed { history: probes, anomalies } = probed;
        let mut history = report.history;
        history.append(probes);
        // What is asked again is numbered behind the probes.
        history.save(&file)?;
        let control = Control { stop: StopFlag::new(), ..control };
        let found = buyers::resolve(&mut history, &crowd, control).await?;
        if found.unresolved > 0 {
            let what = format!("{} outcomes stay unknown", found.unresolved);
            return Err(ChaosError::Liveness(what));
        }
        let (lost, mut broken) = self.judge(rig, plan, &history, &file).await?;
        let anomalies = [report.anomalies, anomalies, found.anomalies].concat();
        // Where promises were lost, buyers see it.
        if !anomalies.is_empty() && !self.may_lose() {
            broken = Some(format!("{self}\nanswers that cannot be: {}", anomalies.join("; ")));
        }
        Ok(Sold {
            level: self.level,
            faults: self.faults.iter().map(|fault| fault.name()).collect(),
            without_effect,
            requests: history.outcomes(),
            promises: Promises { told: told(history.entries()), lost },
            revived,
            broken,
        })
    }

    /// Lets its faults happen, each beside those before it that stay. Returns those that did not show.
    async fn spoil(&mut self, rig: &mut Rig) -> Result<Vec<&'static str>, ChaosError> {
        let began = Instant::now();
        let mut signs = Vec::new();
        for fault in self.faults.clone() {
            sleep(Duration::from_millis(self.rng.u64(50..700))).await;
            signs.push((fault.name(), deed::happen(fault, rig, &mut self.rng).await?));
        }
        sleep(self.lasts.saturating_sub(began.elapsed())).await;
        let mut without_effect = Vec::new();
        for (fault, sign) in signs {
            if !sign.shows(rig).await {
                without_effect.push(fault);
            }
        }
        Ok(without_effect)
    }

    fn crowd(&self, front: SocketAddr, seed: u64) -> CrowdPlan {
        // A key whose reservation is gone may be used for something else.
        let reuse_ratio = if self.may_lose() { 0.0 } else { Habits::default().reuse_ratio };
        let habits =
            Habits { cancel_ratio: 0.15, confirm_ratio: 0.4, reuse_ratio, ..Habits::default() };
        CrowdPlan {
            connections: 48,
            seed: seed ^ u64::from(self.number),
            habits,
            patience: Patience { deadline: Duration::from_secs(4), ..Patience::default() },
            settle: false,
            shared: true,
            user_prefix: format!("r{}-", self.number),
            ..CrowdPlan::new(front, &self.sale(), &ITEMS, 1_000_000)
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
        let level = Some(self.level);
        let scope = Scope { complete: true, lost_below, shared: true, level, ..Scope::default() };
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
        write!(f, "told {told} at {level}, lost {lost}, sold again after {revived} ms")?;
        if self.without_effect.is_empty() {
            return Ok(());
        }
        write!(f, "; without effect: {}", self.without_effect.join(", "))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, level, keeps, stock, hold_seconds, faults, .. } = self;
        let faults: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
        write!(
            f,
            "round {number}: {level:?}, Redis keeps {keeps:?}, {stock} units, {hold_seconds} s, {}",
            faults.join(", ")
        )
    }
}
