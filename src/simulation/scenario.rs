//! What a seed stands for: how much there is, who comes, and what goes wrong when.

use fastrand::Rng;
use floodgate_loadtest::history::Level;

use super::network::Weather;
use crate::ledger::Durability;

/// Everything that is chosen before a run; the buyers' own choices follow from `seed` as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub seed: u64,
    pub durability: Durability,
    pub gateways: usize,
    pub buyers: usize,
    /// Units of each item.
    pub stock: Vec<u32>,
    pub limit: Option<u32>,
    pub hold_seconds: u32,
    pub weather: Weather,
    /// In order of their times, in milliseconds.
    pub faults: Vec<(u64, Fault)>,
}

/// What goes wrong. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A gateway dies and comes back.
    KillGateway { which: usize, down: u64 },
    /// A gateway stands still.
    PauseGateway { which: usize, pause: u64 },
    /// A gateway's clock is off.
    SkewGateway { which: usize, by: i64 },
    /// Redis dies and comes back, without what it had not synced.
    KillRedis { down: u64, lost: usize },
    /// Redis comes back with nothing.
    WipeRedis { down: u64 },
    /// Redis comes back from a copy that is so many writes old.
    RestoreRedis { down: u64, lost: usize },
    /// The replica takes over, with what it has.
    FailOver,
    /// Redis stands still.
    FreezeRedis { pause: u64 },
    /// Redis has no memory left.
    FillRedis { pause: u64 },
    /// Redis forgets the scripts.
    ForgetScripts,
    /// Redis's clock is set.
    SkewRedis { by: i64 },
    /// The database is away.
    StoreAway { pause: u64 },
    /// The database dies in the middle of what it does, again and again.
    StoreDies { pause: u64 },
    /// An operator changes the stock.
    Restock { delta: i64 },
    /// An operator stops the sale, and lets it go on.
    PauseSale { pause: u64 },
}

impl Fault {
    /// Whose fault it is, if one gateway's alone.
    fn gateway(self) -> Option<usize> {
        match self {
            Self::KillGateway { which, .. }
            | Self::PauseGateway { which, .. }
            | Self::SkewGateway { which, .. } => Some(which),
            Self::KillRedis { .. }
            | Self::WipeRedis { .. }
            | Self::RestoreRedis { .. }
            | Self::FailOver
            | Self::FreezeRedis { .. }
            | Self::FillRedis { .. }
            | Self::ForgetScripts
            | Self::SkewRedis { .. }
            | Self::StoreAway { .. }
            | Self::StoreDies { .. }
            | Self::Restock { .. }
            | Self::PauseSale { .. } => None,
        }
    }

    /// The weakest promise that survives it.
    fn survivor(self) -> Option<Level> {
        match self {
            Self::KillRedis { lost, .. } if lost > 0 => Some(Level::Fsync),
            Self::FailOver => Some(Level::Replicated),
            Self::WipeRedis { .. } | Self::RestoreRedis { .. } => Some(Level::Stored),
            Self::KillRedis { .. }
            | Self::KillGateway { .. }
            | Self::PauseGateway { .. }
            | Self::SkewGateway { .. }
            | Self::FreezeRedis { .. }
            | Self::FillRedis { .. }
            | Self::ForgetScripts
            | Self::SkewRedis { .. }
            | Self::StoreAway { .. }
            | Self::StoreDies { .. }
            | Self::Restock { .. }
            | Self::PauseSale { .. } => None,
        }
    }
}

/// For how long things go wrong.
pub const TROUBLE_MS: u64 = 2_500;

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let durability = match rng.u8(0..8) {
            0 => Durability::Memory,
            1..=3 => Durability::Fsync,
            4..=5 => Durability::Replicated,
            _ => Durability::Stored,
        };
        let gateways = rng.usize(2..=3);
        let weather = if rng.f32() < 0.3 {
            Weather { slow_us: 400, ..Weather::default() }
        } else {
            Weather {
                slow_us: *pick(rng, &[400, 3_000, 30_000]),
                lost: *pick(rng, &[0.0, 0.02, 0.1]),
                answers_lost: *pick(rng, &[0.0, 0.05, 0.2]),
                late: *pick(rng, &[0.0, 0.0, 0.04, 0.1]),
            }
        };
        let mut faults: Vec<_> = (0..rng.usize(0..6))
            .map(|_| (rng.u64(0..TROUBLE_MS), fault(rng, gateways, durability)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            durability,
            gateways,
            buyers: rng.usize(4..=9),
            stock: (0..rng.usize(1..=2)).map(|_| rng.u32(1..=5)).collect(),
            limit: (rng.f32() < 0.7).then(|| rng.u32(1..=3)),
            hold_seconds: *pick(rng, &[1, 1, 2, 30]),
            weather,
            faults,
        }
    }

    /// The level that survives all of it.
    pub fn survivor(&self) -> Option<Level> {
        self.faults.iter().filter_map(|(_, fault)| fault.survivor()).max()
    }

    /// By how much the clock of Redis is ever ahead.
    pub fn ahead_ms(&self) -> u64 {
        let ahead = |fault: &Fault| {
            if let Fault::SkewRedis { by } = fault { u64::try_from(*by).unwrap_or(0) } else { 0 }
        };
        self.faults.iter().map(|(_, fault)| ahead(fault)).max().unwrap_or(0)
    }

    /// How far the clock of Redis is ever set.
    pub fn clock_off_ms(&self) -> u64 {
        let behind = |fault: &Fault| {
            if let Fault::SkewRedis { by } = fault { u64::try_from(-by).unwrap_or(0) } else { 0 }
        };
        self.ahead_ms() + self.faults.iter().map(|(_, fault)| behind(fault)).max().unwrap_or(0)
    }

    /// Scenarios that are a little simpler.
    pub fn simpler(&self) -> Vec<Self> {
        let mut simpler: Vec<Self> = (0..self.faults.len())
            .map(|at| {
                let mut without = self.clone();
                without.faults.remove(at);
                without
            })
            .collect();
        let calm = Weather { slow_us: 400, ..Weather::default() };
        simpler.push(Self { weather: calm, ..self.clone() });
        for fewer in 1..self.buyers {
            simpler.push(Self { buyers: fewer, ..self.clone() });
        }
        if self.gateways > 2 {
            let mut two = Self { gateways: 2, ..self.clone() };
            two.faults.retain(|(_, fault)| fault.gateway().is_none_or(|which| which < 2));
            simpler.push(two);
        }
        simpler.retain(|scenario| scenario != self);
        simpler
    }
}

fn pick<'v, T>(rng: &mut Rng, values: &'v [T]) -> &'v T {
    &values[rng.usize(0..values.len())]
}

fn fault(rng: &mut Rng, gateways: usize, durability: Durability) -> Fault {
    let which = rng.usize(0..gateways);
    let short = rng.u64(20..400);
    let long = rng.u64(100..2_500);
    match rng.u8(0..21) {
        0..=2 => Fault::KillGateway { which, down: short },
        3..=4 => Fault::PauseGateway { which, pause: long },
        5 => Fault::SkewGateway { which, by: rng.i64(-3_600_000..3_600_000) },
        6..=7 => {
            let lost = if durability == Durability::Memory { rng.usize(0..8) } else { 0 };
            Fault::KillRedis { down: short, lost }
        }
        8 => Fault::WipeRedis { down: short },
        9 => Fault::RestoreRedis { down: short, lost: rng.usize(1..30) },
        10..=12 => Fault::FailOver,
        13 => Fault::FreezeRedis { pause: long },
        14 => Fault::FillRedis { pause: short },
        15 => Fault::ForgetScripts,
        16 => Fault::SkewRedis { by: rng.i64(-4_000..4_000) },
        17 => Fault::StoreAway { pause: long },
        18 => Fault::StoreDies { pause: long },
        19 => Fault::Restock { delta: rng.i64(-2..=3) },
        _ => Fault::PauseSale { pause: short },
    }
}
