//! Files with secrets that everybody on the machine can read.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bits of a mode that let everybody read a file.
const READ_BY_OTHERS: u32 = 0o004;
/// Bits of a mode that say who may do what.
const PERMISSIONS: u32 = 0o777;

/// A file with a secret that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Which.
    pub file: PathBuf,
    /// Who may do what with it.
    pub mode: u32,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (mode {:03o})", self.file.display(), self.mode)
    }
}

impl Exposed {
    /// Looks at a file.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn look(file: &Path) -> io::Result<Option<Self>> {
        let mode = std::fs::metadata(file)?.permissions().mode() & PERMISSIONS;
        let exposed = mode & READ_BY_OTHERS != 0;
        Ok(exposed.then(|| Self { file: file.to_owned(), mode }))
    }
}

/// Those of these files that everybody can read. Whoever needs one that is not there says so itself.
pub fn exposed<'f>(files: impl IntoIterator<Item = &'f Path>) -> Vec<Exposed> {
    files.into_iter().filter_map(|file| Exposed::look(file).ok().flatten()).collect()
}
