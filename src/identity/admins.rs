//! Operators' tokens: who may see, and who may change.
//!
//! The gateway keeps hashes, not tokens. A plain SHA-256 is enough, and right: a token is 32 random bytes, not
//! a password, so there is nothing to guess that a slow hash would make dearer; and each request hashes once.

use std::path::PathBuf;

use arc_swap::ArcSwap;
use metrics::Counter;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::engine::Actor;
use crate::limits;

/// The setting that names the file.
const SETTING: &str = "admin_tokens_file";
/// Names in the audit log that are not those of tokens.
const TAKEN: [&str; 2] = ["admin", "reconcile"];

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To look at everything.
    Read,
    /// To change what can be changed, too.
    Operate,
}

/// An operator who has shown a token.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The token's name, which the audit log keeps.
    pub name: Actor,
    role: Role,
}

impl Admin {
    /// Whether they may change something.
    pub fn may_change(&self) -> bool {
        match self.role {
            Role::Read => false,
            Role::Operate => true,
        }
    }
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    role: Role,
    sha256: String,
}

struct Known {
    admin: Admin,
    digest: [u8; 32],
}

/// Whose tokens are taken.
pub struct Admins {
    /// The one that every gateway has, once it has it.
    own: Option<Known>,
    file: Option<PathBuf>,
    listed: ArcSwap<Vec<Known>>,
    failures: Counter,
}

impl Admins {
    /// Those of a file, if there is one. `failures` counts who was not let in.
    ///
    /// # Errors
    /// In words that name the setting, the file and the line.
    pub fn new(file: Option<PathBuf>, failures: Counter) -> Result<Self, String> {
        let admins = Self { own: None, file, listed: ArcSwap::default(), failures };
        admins.reload()?;
        Ok(admins)
    }

    /// And the gateway's own token, which may do everything.
    pub fn with_own(mut self, token: &str) -> Self {
        let admin = Admin { name: "admin".into(), role: Role::Operate };
        self.own = Some(Known { admin, digest: digest(token) });
        self
    }

    /// Reads the file once more. One that cannot be used leaves the tokens that were there.
    ///
    /// # Errors
    /// In words that name the setting, the file and the line.
    pub fn reload(&self) -> Result<(), String> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = super::read(SETTING, path, limits::ADMIN_TOKENS_FILE_BYTES_MAX)?;
        let known =
            parse(&text).map_err(|fault| format!("{SETTING}: {}: {fault}", path.display()))?;
        self.listed.store(known.into());
        Ok(())
    }

    /// Whose token it is. How long that takes does not say how much of it is right, nor whose it is like.
    pub fn find(&self, token: Option<&str>) -> Option<Admin> {
        let found = token.and_then(|token| {
            let digest = digest(token);
            let listed = self.listed.load();
            let mut found = None;
            for known in listed.iter().chain(&self.own) {
                if bool::from(known.digest.ct_eq(&digest)) {
                    found = Some(known.admin.clone());
                }
            }
            found
        });
        if found.is_none() {
            self.failures.increment(1);
        }
        found
    }
}

impl std::fmt::Debug for Admins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admins").finish_non_exhaustive()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// One JSON object a line; empty lines and those that begin with `#` are for people.
fn parse(text: &str) -> Result<Vec<Known>, String> {
    let mut known: Vec<Known> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |what: String| format!("line {number}: {what}");
        let Line { name, role, sha256 } =
            serde_json::from_str(line).map_err(|error| fault(error.to_string()))?;
        check_name(&name).map_err(fault)?;
        let digest = unhex(&sha256)
            .ok_or_else(|| fault("sha256 must be 64 hexadecimal digits".to_owned()))?;
        if known.iter().any(|other| *other.admin.name == *name || other.digest == digest) {
            return Err(fault(format!("the name {name}, or its token, stands there twice")));
        }
        if known.len() == limits::ADMIN_TOKENS_MAX {
            return Err(fault(format!("more than {} tokens", limits::ADMIN_TOKENS_MAX)));
        }
        known.push(Known { admin: Admin { name: name.into(), role }, digest });
    }
    Ok(known)
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=limits::ADMIN_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fits {
        let most = limits::ADMIN_NAME_BYTES_MAX;
        return Err(format!("a name is 1 to {most} of letters, digits, `.`, `_` and `-`"));
    }
    if TAKEN.contains(&name) {
        return Err(format!("the name {name} is the product's own"));
    }
    Ok(())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let digits = std::str::from_utf8(pair).ok()?;
        // A sign is no digit, whatever numbers may have.
        let digits = Some(digits).filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

/// A new token.
#[derive(Debug)]
pub struct Created {
    /// To be given to its bearer, and kept nowhere else.
    pub token: String,
    /// For the file.
    pub line: String,
}

/// Makes a token.
///
/// # Errors
/// The name, or a system that has no randomness.
pub fn create(name: &str, role: Role) -> Result<Created, String> {
    check_name(name)?;
    let mut random = [0; 32];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| "the system gives no random bytes".to_owned())?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let token = hex(&random);
    let line = Line { name: name.to_owned(), role, sha256: hex(&digest(&token)) };
    let line = serde_json::to_string(&line).map_err(|error| error.to_string())?;
    Ok(Created { token, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a file with a fault is refused with the line of the fault, whatever is wrong.
    #[test]
    fn faults_of_files() {
        let hash = "0".repeat(64);
        let good = format!(r#"{{"name":"ann","role":"read","sha256":"{hash}"}}"#);
        let other = good.replace("ann", "bob").replace("000", "001");
        assert_eq!(parse(&format!("# people\n\n{good}\n{other}\n")).unwrap().len(), 2);
        let bad = [
            "nonsense".to_owned(),
            good.replace("read", "root"),
            good.replace("ann", ""),
            good.replace("ann", "a b"),
            good.replace("ann", "admin"),
            good.replace("ann", "reconcile"),
            good.replace("ann", &"a".repeat(65)),
            good.replace("00\"", "0\""),
            good.replace("00\"", "0g\""),
            good.replace('}', r#","token":"x"}"#),
            good.replace("ann", "bob"),
            good.replace("0000", "1111"),
        ];
        for bad in &bad[..11] {
            let fault = parse(&format!("{good}\n{bad}")).err().unwrap();
            assert!(fault.starts_with("line 2: "), "{bad}: {fault}");
        }
        assert!(parse(&format!("{good}\n{}", bad[11])).err().unwrap().contains("twice"));
    }
}
