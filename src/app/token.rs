//! The admin token: given, or made once and kept in the data dir for nobody else to read.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Settings;

/// The token's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("admin token {path}: {cause}", path = path.display())]
pub struct TokenError {
    path: PathBuf,
    cause: io::Error,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("admin.token")
}

/// The token of a data dir, as its gateway wrote it.
///
/// # Errors
/// [`TokenError`] where there is none or it cannot be read.
pub fn read(dir: &Path) -> Result<String, TokenError> {
    let path = path(dir);
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(token.trim_end().to_owned()),
        Err(cause) => Err(TokenError { path, cause }),
    }
}

/// The token to use. One that is made just now is told.
pub(super) fn load(settings: &Settings, told: impl FnOnce(&str)) -> Result<String, TokenError> {
    if let Some(token) = &settings.admin_token {
        return Ok(token.clone());
    }
    match read(&settings.data_dir) {
        Ok(token) if token.len() >= Settings::SECRET_BYTES_MIN => Ok(token),
        Ok(_) => Err(too_short(&settings.data_dir)),
        Err(error) if error.cause.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let token = make(&path(&settings.data_dir))?;
            told(&token);
            Ok(token)
        }
    }
}

fn too_short(dir: &Path) -> TokenError {
    let path = path(dir);
    let sentence = format!(
        "must hold at least {} bytes; remove it to have one made",
        Settings::SECRET_BYTES_MIN
    );
    TokenError { path, cause: io::Error::new(io::ErrorKind::InvalidData, sentence) }
}

/// Two random UUIDs: 244 random bits.
fn make(path: &Path) -> Result<String, TokenError> {
    let random = || uuid::Uuid::new_v4().simple().to_string();
    let token = random() + &random();
    let error = |cause| TokenError { path: path.to_owned(), cause };
    let mut options = OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(path).map_err(error)?;
    file.write_all(token.as_bytes()).and_then(|()| file.sync_all()).map_err(error)?;
    Ok(token)
}
