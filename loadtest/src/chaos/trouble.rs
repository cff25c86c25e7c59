//! What goes wrong.

use super::disk::Disk;
use crate::history::Level;

/// The exit code of a gateway that does not reach what it needs.
const UNAVAILABLE: i32 = 4;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a gateway, and a start.
    KillGateway,
    /// SIGTERM of a gateway, and a start.
    RestartGateway,
    /// SIGSTOP of a gateway, and SIGCONT.
    PauseGateway,
    /// A gateway is started under a clock that is off by up to an hour.
    SkewGateway,
    /// A gateway has hardly any descriptors, and a crowd takes them.
    ExhaustDescriptors,
    /// A gateway's configuration becomes bad in one of several ways, and it is told to read it.
    BadConfiguration,
    /// SIGKILL of Redis, and a start on its files.
    KillRedis,
    /// Redis stands still.
    FreezeRedis,
    /// Redis starts with nothing.
    WipeRedis,
    /// Redis starts from files that are older.
    RollBackRedis,
    /// The disk under Redis is full, and has room again.
    FillDisk,
    /// SIGKILL of Redis's replica, and a start with nothing.
    KillReplica,
    /// Redis forgets its scripts.
    ForgetScripts,
    /// Every few answers of Redis are lost: to all gateways, or to one.
    CutRedis,
    /// Redis's answers are late: to all gateways, or to one.
    DelayRedis,
    /// What is sent to Redis arrives nowhere: from all gateways, or from one.
    LoseRedis,
    /// SIGKILL of PostgreSQL, and a start on its files.
    KillPostgres,
    /// Commits whose answers are lost.
    CutCommits,
    /// PostgreSQL's answers are late.
    DelayPostgres,
    /// What is sent to PostgreSQL arrives nowhere.
    LosePostgres,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::KillGateway,
        Self::RestartGateway,
        Self::PauseGateway,
        Self::SkewGateway,
        Self::ExhaustDescriptors,
        Self::BadConfiguration,
        Self::KillRedis,
        Self::FreezeRedis,
        Self::WipeRedis,
        Self::RollBackRedis,
        Self::FillDisk,
        Self::KillReplica,
        Self::ForgetScripts,
        Self::CutRedis,
        Self::DelayRedis,
        Self::LoseRedis,
        Self::KillPostgres,
        Self::CutCommits,
        Self::DelayPostgres,
        Self::LosePostgres,
    ];

    /// Those that can be done here: another clock takes a program that is not everywhere, a disk that can be filled
    /// takes root.
    #[must_use]
    pub fn possible() -> Vec<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let fakes = std::env::split_paths(&path).any(|dir| dir.join("faketime").is_file());
        let possible = |fault: &Self| {
            (fakes || *fault != Self::SkewGateway)
                && (*fault != Self::FillDisk || Disk::is_possible())
        };
        Self::ALL.into_iter().filter(possible).collect()
    }

    /// Its name in a tally.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillGateway => "kill gateway",
            Self::RestartGateway => "restart gateway",
            Self::PauseGateway => "pause gateway",
            Self::SkewGateway => "skew gateway",
            Self::ExhaustDescriptors => "exhaust descriptors",
            Self::BadConfiguration => "bad configuration",
            Self::KillRedis => "kill redis",
            Self::FreezeRedis => "freeze redis",
            Self::WipeRedis => "wipe redis",
            Self::RollBackRedis => "roll back redis",
            Self::FillDisk => "fill disk",
            Self::KillReplica => "kill replica",
            Self::ForgetScripts => "forget scripts",
            Self::CutRedis => "cut redis",
            Self::DelayRedis => "delay redis",
            Self::LoseRedis => "lose redis",
            Self::KillPostgres => "kill postgres",
            Self::CutCommits => "cut commits",
            Self::DelayPostgres => "delay postgres",
            Self::LosePostgres => "lose postgres",
        }
    }

    /// The weakest promise that survives it in a round of a level, if not all do. What answers at `memory` came from a
    /// Redis that need not keep it over its end.
    #[must_use]
    pub fn survivor(self, round: Level) -> Option<Level> {
        match self {
            Self::WipeRedis | Self::RollBackRedis => Some(Level::Stored),
            Self::KillRedis | Self::FillDisk => (round == Level::Memory).then_some(Level::Fsync),
            Self::KillGateway
            | Self::RestartGateway
            | Self::PauseGateway
            | Self::SkewGateway
            | Self::ExhaustDescriptors
            | Self::BadConfiguration
            | Self::FreezeRedis
            | Self::KillReplica
            | Self::ForgetScripts
            | Self::CutRedis
            | Self::DelayRedis
            | Self::LoseRedis
            | Self::KillPostgres
            | Self::CutCommits
            | Self::DelayPostgres
            | Self::LosePostgres => None,
        }
    }

    /// Whether a gateway that starts meanwhile may end with this code: without its servers it does not start, and says
    /// so by [`UNAVAILABLE`].
    #[must_use]
    pub fn explains(self, code: i32) -> bool {
        let servers_are_away = match self {
            Self::KillGateway
            | Self::RestartGateway
            | Self::PauseGateway
            | Self::SkewGateway
            | Self::ExhaustDescriptors
            | Self::BadConfiguration
            | Self::KillReplica
            | Self::ForgetScripts => false,
            Self::KillRedis
            | Self::FreezeRedis
            | Self::WipeRedis
            | Self::RollBackRedis
            | Self::FillDisk
            | Self::CutRedis
            | Self::DelayRedis
            | Self::LoseRedis
            | Self::KillPostgres
            | Self::CutCommits
            | Self::DelayPostgres
            | Self::LosePostgres => true,
        };
        servers_are_away && code == UNAVAILABLE
    }
}
