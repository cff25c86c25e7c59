//! A small disk that can be filled: a tmpfs of a run's own.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres_server::is_root;

/// How much it holds: more than a run writes, little enough to be filled at once.
const BYTES: u64 = 384 << 20;
/// What is written at once to fill it.
static PIECE: [u8; 64 * 1024] = [7; 64 * 1024];

/// Mounted until it is dropped; where it may not be, a folder like others.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Whether one can be mounted: that takes root.
    pub fn is_possible() -> bool {
        is_root().unwrap_or(false)
    }

    /// Has one at a folder, which is made.
    ///
    /// # Errors
    /// The folder cannot be made, or root may not mount here.
    pub fn at(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let mounted = Self::is_possible();
        if mounted {
            let size = format!("size={BYTES}");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir);
            if !mount.status()?.success() {
                return Err(io::Error::other("a disk that can be filled cannot be mounted"));
            }
        }
        Ok(Self { dir, mounted })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves nothing free.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        // Until there is no room; what is left of the last piece is taken, too.
        while ballast.write_all(&PIECE).is_ok() {}
        Ok(())
    }

    /// Gives the room back.
    pub fn empty(&self) {
        // It may not have been filled.
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        // Lazily: a process that still has a file there keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
