//! Where servers are.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::Args;
use floodgate_loadtest::ops::OpsAccess;

use super::Failure;

/// Reads `host:port`, with or without `http://` before it.
///
/// # Errors
///
/// No such host, or no port.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let place = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let mut found = place.to_socket_addrs().map_err(|bad| format!("{place}: {bad}"))?;
    found.next().ok_or_else(|| format!("{place}: no address"))
}

/// How to reach the ops listener.
#[derive(Clone, Debug, Args)]
pub struct OpsOptions {
    /// The ops listener
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub ops: Option<SocketAddr>,
    /// The admin token; else `admin.token` of the data directory
    #[arg(long, env = "FLOODGATE_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub admin_token: Option<String>,
    /// The server's data directory
    #[arg(long, env = "FLOODGATE_DATA_DIR", value_name = "DIR", default_value = "floodgate-data")]
    pub data_dir: PathBuf,
}

impl OpsOptions {
    /// The access, if an ops listener was given.
    pub fn access(&self) -> Result<Option<OpsAccess>, Failure> {
        let Some(addr) = self.ops else {
            return Ok(None);
        };
        if let Some(token) = &self.admin_token {
            return Ok(Some(OpsAccess::new(addr, token.trim())));
        }
        let found = OpsAccess::from_data_dir(addr, &self.data_dir);
        let named = |bad| format!("{}/admin.token: {bad}", self.data_dir.display());
        found.map(Some).map_err(|bad| Failure::Failed(named(bad)))
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    /// Proves the forms of an address that people paste.
    #[test]
    fn reads_addresses() {
        let wanted = "127.0.0.1:8080".parse().unwrap();
        for text in ["127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080/"] {
            assert_eq!(address(text), Ok(wanted));
        }
        assert!(address("127.0.0.1").is_err());
    }
}
