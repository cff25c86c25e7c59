//! Buyers' tokens: JWTs whose `sub` is the user.
//!
//! The algorithm follows from the key. A token's header only picks among keys, and names none that is not
//! there; so there is no `none`, and no public key is ever taken for a secret. What is in the token counts
//! once its signature was found right.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::{Validation, decode, decode_header};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{Key, Keys};
use super::signatures;
use crate::clock::{Clock, Millis};
use crate::limits;
use crate::sale::UserId;

/// Keys of buyers' tokens.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// The secret of tokens by HS256.
    pub secret: Option<String>,
    /// The public keys of tokens by RS256, ES256 and EdDSA: a JWKS, or PEM.
    pub keys_file: Option<PathBuf>,
    /// Who must have issued a token.
    pub issuer: Option<String>,
    /// For whom a token must be.
    pub audience: Option<String>,
    /// How far the issuer's clock may be off.
    pub leeway_seconds: u64,
}

impl Default for JwtSettings {
    fn default() -> Self {
        let leeway_seconds = limits::JWT_LEEWAY_SECONDS;
        Self { secret: None, keys_file: None, issuer: None, audience: None, leeway_seconds }
    }
}

impl JwtSettings {
    /// What is wrong with them; `wanted`: whether tokens are what buyers are known by.
    pub fn faults(&self, wanted: bool) -> Vec<String> {
        let mut faults = Vec::new();
        match (&self.secret, &self.keys_file) {
            (None, None) if wanted => faults.push(
                "auth = \"jwt\" needs jwt.secret (HS256) or jwt.keys_file (RS256, ES256, EdDSA)"
                    .to_owned(),
            ),
            (Some(_), Some(_)) => faults.push(
                "jwt.secret and jwt.keys_file contradict each other: tokens are signed by one or the other"
                    .to_owned(),
            ),
            (Some(secret), None) if secret.len() < limits::JWT_SECRET_BYTES_MIN => {
                let least = limits::JWT_SECRET_BYTES_MIN;
                faults.push(format!("jwt.secret must be at least {least} bytes long"));
            }
            (Some(_), None) | (None, Some(_) | None) => {}
        }
        for (key, value) in [("jwt.issuer", &self.issuer), ("jwt.audience", &self.audience)] {
            if value.as_ref().is_some_and(String::is_empty) {
                faults.push(format!("{key} must not be empty; leave it out to accept any"));
            }
        }
        if self.leeway_seconds > limits::JWT_LEEWAY_SECONDS_MAX {
            let most = limits::JWT_LEEWAY_SECONDS_MAX;
            faults.push(format!("jwt.leeway_seconds must be at most {most}"));
        }
        faults
    }
}

/// What a gateway knows about its buyers' tokens.
pub struct Tokens {
    settings: JwtSettings,
    clock: Arc<dyn Clock>,
    known: ArcSwap<Known>,
}

/// Keys, and the tokens that were verified with them. Both go together.
struct Known {
    keys: Keys,
    /// By the digest of the token. Not there where verifying is as quick.
    seen: Option<Cache<[u8; 32], Seen>>,
}

/// A token that was verified.
#[derive(Clone)]
struct Seen {
    user: UserId,
    until: Millis,
}

/// Why a token is not believed. For the log only.
#[derive(Debug, thiserror::Error)]
pub enum Disbelief {
    /// It has more bytes than any token of ours.
    #[error("it is too long")]
    TooLong,
    /// Its form, its signature, its issuer or its audience.
    #[error("{0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// It says that it is not to be understood without something that is not understood here.
    #[error("it has critical extensions")]
    Critical,
    /// No key is of its algorithm and its name.
    #[error("there is no such key")]
    NoKey,
    /// It is for somebody, and who we are is not configured: so it is for somebody else.
    #[error("it is for somebody else")]
    Elsewhere,
    /// It is over, or not yet valid.
    #[error("it is not valid at this time")]
    Untimely,
    /// `exp` or `nbf` is no instant.
    #[error("it has times that are none")]
    NoTime,
    /// `sub` is no user id.
    #[error("its subject is no user id")]
    NoUser,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    aud: Option<serde_json::Value>,
    /// Here so that one that is no text is refused whatever is configured.
    #[serde(rename = "iss")]
    _iss: Option<String>,
}

impl Tokens {
    /// With the keys of a configuration.
    ///
    /// # Errors
    /// In words that name the key and the file.
    pub fn new(settings: &JwtSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        signatures::install();
        let known = ArcSwap::from_pointee(Known::load(settings)?);
        Ok(Self { settings: settings.clone(), clock, known })
    }

    /// Reads the keys once more. A file that cannot be used leaves those that were there. Tokens of keys that
    /// are gone are not believed from now on.
    ///
    /// # Errors
    /// In words that name the key and the file.
    pub fn reload(&self) -> Result<(), String> {
        self.known.store(Arc::new(Known::load(&self.settings)?));
        Ok(())
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`Disbelief`], for the log.
    pub fn user_of(&self, token: &str) -> Result<UserId, Disbelief> {
        if token.len() > limits::JWT_BYTES_MAX {
            return Err(Disbelief::TooLong);
        }
        let now = self.clock.now();
        let known = self.known.load();
        let Some(cache) = &known.seen else {
            return Ok(self.verify(&known.keys, token, now)?.user);
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(seen) = cache.get(&digest) {
            return if now < seen.until { Ok(seen.user) } else { Err(Disbelief::Untimely) };
        }
        // Only what is valid is kept: whoever makes tokens up fills nothing.
        let seen = self.verify(&known.keys, token, now)?;
        cache.insert(digest, seen.clone());
        Ok(seen.user)
    }

    fn verify(&self, keys: &Keys, token: &str, now: Millis) -> Result<Seen, Disbelief> {
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(Disbelief::Critical);
        }
        let mut wrong = Disbelief::NoKey;
        for key in keys.of_header(&header) {
            match decode::<Claims>(token, &key.decoding, &self.validation(key)) {
                Ok(found) => return self.judge(found.claims, now),
                Err(error) => wrong = error.into(),
            }
        }
        Err(wrong)
    }

    /// What the library looks at. Times are looked at here, by the gateway's own clock.
    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.settings.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    fn judge(&self, claims: Claims, now: Millis) -> Result<Seen, Disbelief> {
        if self.settings.audience.is_none() && claims.aud.is_some() {
            return Err(Disbelief::Elsewhere);
        }
        let leeway = Duration::from_secs(self.settings.leeway_seconds);
        let until = instant(claims.exp)?.after(leeway);
        let from = claims.nbf.map(instant).transpose()?.unwrap_or_default();
        if now >= until || now.after(leeway) < from {
            return Err(Disbelief::Untimely);
        }
        let user = UserId::parse(&claims.sub).map_err(|_| Disbelief::NoUser)?;
        Ok(Seen { user, until })
    }
}

impl Known {
    fn load(settings: &JwtSettings) -> Result<Self, String> {
        let keys = match (&settings.secret, &settings.keys_file) {
            (Some(secret), _) => Keys::secret(secret),
            (None, Some(path)) => Keys::of_file(path)?,
            (None, None) => return Err("jwt.secret or jwt.keys_file must be set".to_owned()),
        };
        let seen = keys.are_dear().then(|| Cache::new(limits::JWT_CACHED));
        Ok(Self { keys, seen })
    }
}

/// Seconds since the epoch, with or without a fraction; up to the year 9999.
fn instant(seconds: f64) -> Result<Millis, Disbelief> {
    const LATEST: f64 = 253_402_300_799.0;
    if !(0.0..=LATEST).contains(&seconds) {
        return Err(Disbelief::NoTime);
    }
    // Within the range above nothing is cut off but the fraction of a millisecond.
    Ok(Millis((seconds * 1_000.0) as u64))
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn now(&self) -> Millis {
            Millis(self.0.load(Ordering::Relaxed))
        }
    }

    /// Proves that a token counts from `nbf` to `exp`, by the gateway's clock and with the leeway at both ends, also
    /// once it is remembered.
    #[test]
    fn tokens_have_their_time() {
        let random = ring::rand::SystemRandom::new();
        let pair = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        std::fs::write(&file, jwks.to_string()).unwrap();
        let clock = Arc::new(HandClock(AtomicU64::new(0)));
        let settings = JwtSettings { keys_file: Some(file), ..JwtSettings::default() };
        let tokens = Tokens::new(&settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let claims = json!({ "sub": "ann", "nbf": 1_000, "exp": 2_000.5 });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": "EdDSA" })), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
        let token = format!("{message}.{signature}");
        for (now, believed) in [
            (0, false),
            (969_999, false),
            (970_000, true),
            (1_500_000, true),
            (2_030_499, true),
            (2_030_500, false),
            (9_000_000, false),
            (1_500_000, true),
        ] {
            clock.0.store(now, Ordering::Relaxed);
            assert_eq!(tokens.user_of(&token).is_ok(), believed, "at {now}");
        }
    }
}
