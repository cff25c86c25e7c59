//! Where the ops listener is, and the token that opens it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// The address of an ops listener with its admin token. `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct OpsAccess {
    /// The ops listener.
    pub addr: SocketAddr,
    /// The admin token.
    pub token: String,
}

impl OpsAccess {
    /// Access with a token that is known.
    #[must_use]
    pub fn new(addr: SocketAddr, token: impl Into<String>) -> Self {
        Self { addr, token: token.into() }
    }

    /// Access with the token in `<data-dir>/admin.token`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn from_data_dir(addr: SocketAddr, data_dir: &Path) -> io::Result<Self> {
        let token = std::fs::read_to_string(data_dir.join("admin.token"))?;
        Ok(Self::new(addr, token.trim()))
    }
}

impl fmt::Debug for OpsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsAccess").field("addr", &self.addr).finish_non_exhaustive()
    }
}
