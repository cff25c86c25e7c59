//! What a lane says of itself, before anybody takes it for true.

use std::collections::HashMap;

use redis::{ConnectionLike, RedisError, cmd};

use super::super::keys::Keys;
use super::{Closed, Gateway};
use crate::engine::Position;
use crate::limits;
use crate::sale::LaneId;

/// What the lane says of itself.
pub(super) struct Meta {
    pub(super) format: Option<String>,
    pub(super) position: Position,
    pub(super) now: u64,
    /// The history of the server that it was last compared with.
    pub(super) history: Option<String>,
    pub(super) lanes: Option<u16>,
    /// Whose fence it has, and since when.
    pub(super) fence: Option<(String, u64)>,
    /// The seq at which each later life began.
    pub(super) bases: Vec<(u64, u64)>,
}

pub(super) fn read_meta(
    connection: &mut dyn ConnectionLike,
    keys: &Keys,
) -> Result<Meta, RedisError> {
    let fields: HashMap<String, String> = cmd("HGETALL").arg(&keys.meta).query(connection)?;
    let number =
        |name: &str| -> u64 { fields.get(name).and_then(|value| value.parse().ok()).unwrap_or(0) };
    let base = |(name, seq): (&String, &String)| {
        Some((name.strip_prefix("base:")?.parse().ok()?, seq.parse().ok()?))
    };
    Ok(Meta {
        format: fields.get("format").cloned(),
        position: Position { epoch: number("epoch"), seq: number("seq") },
        now: number("now"),
        history: fields.get("run").cloned(),
        lanes: fields.get("lanes").and_then(|lanes| lanes.parse().ok()),
        fence: fields.get("fence").map(|token| (token.clone(), number("fence_at"))),
        bases: fields.iter().filter_map(base).collect(),
    })
}

impl Meta {
    /// Whether somebody else is at the lane, and alive.
    pub(super) fn is_anothers(
        &self,
        gateway: &Gateway,
        connection: &mut dyn ConnectionLike,
    ) -> Result<bool, RedisError> {
        let Some((fence, since)) = &self.fence else { return Ok(false) };
        if gateway.has(fence) {
            return Ok(false);
        }
        let (seconds, _): (u64, u64) = cmd("TIME").query(connection)?;
        let now = seconds.saturating_mul(1_000);
        Ok(now.saturating_sub(*since) < limits::RECOVERY_LEASE_MS)
    }

    /// Refuses books that have events of a life that was given up: the lane went on from an earlier one.
    pub(super) fn refuse_left(&self, lane: LaneId, books: Position) -> Result<(), Closed> {
        let later = self.bases.iter().filter(|(epoch, _)| *epoch > books.epoch);
        if later.map(|(_, base)| *base).min().is_none_or(|base| books.seq <= base) {
            return Ok(());
        }
        Err(Closed::Foreign(format!(
            "lane {lane} was brought back by another gateway without events up to {}-{}, which the \
             books of this data dir have: reconcile them before it serves again",
            books.epoch, books.seq
        )))
    }
}
