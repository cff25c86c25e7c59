//! Whether the disk has room for what is still to be written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How often the free space is looked up.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// How long a lane whose write was refused waits before it tries again.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// What is known of the disk of a data dir.
#[derive(Debug)]
pub(super) struct DiskWatch {
    dir: PathBuf,
    reserve_bytes: u64,
    checked: Option<Instant>,
    has_room: bool,
    paused_until: Option<Instant>,
}

impl DiskWatch {
    pub(super) fn new(dir: &Path, reserve_bytes: u64) -> Self {
        let dir = dir.to_owned();
        Self { dir, reserve_bytes, checked: None, has_room: true, paused_until: None }
    }

    /// Whether there is more than the reserve, which is kept for those who are already inside.
    pub(super) fn has_room(&self) -> bool {
        self.has_room
    }

    /// Whether a write was refused so lately that it is not worth trying again.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// A write was refused.
    pub(super) fn refused(&mut self) {
        self.paused_until = Some(Instant::now() + FULL_PAUSE);
        self.has_room = false;
    }

    /// Looks, if it is time to.
    pub(super) fn look(&mut self, now: Instant) {
        if self.checked.is_some_and(|then| now.duration_since(then) < CHECK_EVERY) {
            return;
        }
        self.checked = Some(now);
        // A system that does not say how much is free gets no reserve; a full disk is still refused.
        let Ok(free) = rustix::fs::statvfs(&self.dir) else { return };
        let has_room = free.f_bavail.saturating_mul(free.f_frsize) >= self.reserve_bytes;
        let bytes = self.reserve_bytes;
        if has_room && !self.has_room {
            info!(bytes, "the disk has room again; selling on");
        } else if !has_room && self.has_room {
            warn!(bytes, "less free than the reserve; refusing reservations");
        }
        self.has_room = has_room;
    }
}
