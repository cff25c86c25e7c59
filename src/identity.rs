//! Who is calling, by what they show: buyers by tokens of the shop's own issuer, operators by tokens of ours.
//!
//! Nothing here knows HTTP. What was wrong with a token is for the log, not for whoever showed it.

pub mod admins;
mod keys;
mod signatures;
pub mod tokens;

use std::path::Path;

/// A small file of text; `key` is the setting that names it.
fn read(key: &str, path: &Path, bytes_max: u64) -> Result<String, String> {
    let fault = |what: String| format!("{key}: {}: {what}", path.display());
    let size = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?.len();
    if size > bytes_max {
        return Err(fault(format!("it has more than {bytes_max} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))
}
