//! The keys that tokens are verified with. Each is for one algorithm, which follows from the key.

use std::collections::BTreeSet;
use std::path::Path;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header};
use serde::Deserialize;
use serde_json::Value;

use super::signatures::without_zeros;
use crate::limits;

/// One key.
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// All of them. Either each has an id, or none has.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// The one key of issuer and gateway.
    pub(super) fn secret(secret: &str) -> Self {
        let decoding = DecodingKey::from_secret(secret.as_bytes());
        Self(vec![Key { id: None, algorithm: Algorithm::HS256, decoding }])
    }

    /// Those of a file: a JWKS, or public keys as PEM.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        const SETTING: &str = "jwt.keys_file";
        let text = super::read(SETTING, path, limits::JWT_KEYS_FILE_BYTES_MAX)?;
        let jwks = text.trim_start().starts_with('{');
        let keys = if jwks { of_jwks(&text) } else { of_pem(&text) };
        let keys = keys.and_then(checked);
        keys.map(Self).map_err(|fault| format!("{SETTING}: {}: {fault}", path.display()))
    }

    /// The keys with which a token may have been signed: those of its algorithm, and where keys have ids,
    /// the one that it names.
    pub(super) fn of_header<'k>(&'k self, header: &'k Header) -> impl Iterator<Item = &'k Key> {
        self.0.iter().filter(|key| {
            let named = key.id.is_none() || key.id == header.kid;
            named && key.algorithm == header.alg
        })
    }

    /// Whether verifying costs more than looking up what was verified before.
    pub(super) fn are_dear(&self) -> bool {
        self.0.iter().any(|key| key.algorithm != Algorithm::HS256)
    }
}

/// What has to be true of all of them together.
fn checked(keys: Vec<Key>) -> Result<Vec<Key>, String> {
    let ids: BTreeSet<_> = keys.iter().filter_map(|key| key.id.as_deref()).collect();
    if keys.is_empty() {
        return Err("it holds no key for RS256, ES256 or EdDSA".to_owned());
    }
    if keys.len() > limits::JWT_KEYS_MAX {
        return Err(format!("it holds more than {} keys", limits::JWT_KEYS_MAX));
    }
    if ids.is_empty() && keys.len() > limits::JWT_UNNAMED_KEYS_MAX {
        let most = limits::JWT_UNNAMED_KEYS_MAX;
        return Err(format!("more than {most} keys need a `kid` each: without, all are tried"));
    }
    if !ids.is_empty() && ids.len() != keys.len() {
        return Err("either each key has a `kid` of its own, or none has one".to_owned());
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

fn of_jwks(text: &str) -> Result<Vec<Key>, String> {
    let set: Jwks = serde_json::from_str(text).map_err(|error| format!("no JWKS: {error}"))?;
    let mut keys = Vec::new();
    for (place, value) in (1..).zip(set.keys) {
        let fault = |what: &str| format!("key {place}: {what}");
        if value.get("d").is_some() || value.get("k").is_some() {
            return Err(fault("it is secret; public keys only, please"));
        }
        let jwk: Jwk = serde_json::from_value(value).map_err(|error| fault(&error.to_string()))?;
        let Some(algorithm) = algorithm_of(&jwk) else { continue };
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|error| fault(&error.to_string()))?;
        let key = Key { id: jwk.common.key_id, algorithm, decoding };
        keys.push(sound(key).map_err(|what| fault(&what))?);
    }
    Ok(keys)
}

/// The algorithm that a key is for, if it is one of ours and the key is for signatures.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let key = &jwk.algorithm;
    let (algorithm, named) = if matches!(key, AlgorithmParameters::RSA(_)) {
        (Algorithm::RS256, KeyAlgorithm::RS256)
    } else if matches!(key, AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256)
    {
        (Algorithm::ES256, KeyAlgorithm::ES256)
    } else if matches!(key, AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519)
    {
        (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
    } else {
        return None;
    };
    let common = &jwk.common;
    let signs =
        common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let fits = common.key_algorithm.is_none_or(|given| given == named);
    (signs && verifies && fits).then_some(algorithm)
}

type ReadPem = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

fn of_pem(text: &str) -> Result<Vec<Key>, String> {
    const BEGIN: &str = "-----BEGIN ";
    let mut keys = Vec::new();
    for (place, block) in (1..).zip(text.split(BEGIN).skip(1)) {
        let fault = |what: String| format!("key {place}: {what}");
        let label = block.split("-----").next().unwrap_or_default();
        if label.contains("PRIVATE") {
            return Err(fault("it is secret; public keys only, please".to_owned()));
        }
        if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err(fault(format!("{label:?} is no public key")));
        }
        let pem = format!("{BEGIN}{block}");
        let readers: [(Algorithm, ReadPem); 3] = [
            (Algorithm::EdDSA, DecodingKey::from_ed_pem),
            (Algorithm::ES256, DecodingKey::from_ec_pem),
            (Algorithm::RS256, DecodingKey::from_rsa_pem),
        ];
        let read = readers.into_iter().find_map(|(algorithm, read)| {
            let decoding = read(pem.as_bytes()).ok()?;
            Some(Key { id: None, algorithm, decoding })
        });
        let key = read.ok_or_else(|| fault("it is no RSA, P-256 or Ed25519 key".to_owned()))?;
        keys.push(sound(key).map_err(fault)?);
    }
    Ok(keys)
}

/// A key that could verify something; others would refuse every token without a word.
fn sound(key: Key) -> Result<Key, String> {
    let (bytes, least, most) = match (key.algorithm, key.decoding.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            (without_zeros(n), limits::JWT_RSA_BYTES.0, limits::JWT_RSA_BYTES.1)
        }
        // As DER it has some bytes around.
        (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => {
            (&der[..], limits::JWT_RSA_BYTES.0, limits::JWT_RSA_BYTES.1 + 64)
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => (&point[..], 65, 65),
        (_, DecodingKeyKind::SecretOrDer(point)) => (&point[..], 32, 32),
        (_, DecodingKeyKind::RsaModulusExponent { n, .. }) => (&n[..], 0, 0),
    };
    if (least..=most).contains(&bytes.len()) {
        return Ok(key);
    }
    Err("it is too short, too long, or on another curve: RSA of 2048 to 8192 bits, P-256 or Ed25519"
        .to_owned())
}
