//! Who issues tokens: keys that are made in the test, and tokens of any shape, right or wrong.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};

/// What makes a signature of bytes.
type Sign = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;

/// Whoever signs tokens with one key.
pub struct Issuer {
    pub algorithm: &'static str,
    /// The public key, as JWK with its `kid` and as PEM.
    pub jwk: Value,
    pub pem: String,
    sign: Box<Sign>,
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The keys of these issuers, for a file.
pub fn jwks(issuers: &[&Issuer]) -> String {
    let keys: Vec<_> = issuers.iter().map(|issuer| &issuer.jwk).collect();
    json!({ "keys": keys }).to_string()
}

impl Issuer {
    pub fn hs256(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let sign = Box::new(move |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec());
        Self { algorithm: "HS256", jwk: Value::Null, pem: String::new(), sign }
    }

    pub fn rs256(id: &str, bits: usize) -> Self {
        let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
        let public = private.to_public_key();
        let der = private.to_pkcs8_der().unwrap();
        let jwk = json!({
            "kty": "RSA", "kid": id, "alg": "RS256", "use": "sig",
            "n": base64(public.n().to_bytes_be()), "e": base64(public.e().to_bytes_be()),
        });
        let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
        // ring signs with no key that is too short for it.
        let signer = RsaKeyPair::from_pkcs8(der.as_bytes()).ok();
        let sign = Box::new(move |message: &[u8]| {
            let signer = signer.as_ref().unwrap();
            let mut signature = vec![0; signer.public().modulus_len()];
            signer.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        });
        Self { algorithm: "RS256", jwk, pem, sign }
    }

    pub fn es256(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": base64(x), "y": base64(y) });
        let pem = pair.public_key_pem();
        let random = SystemRandom::new();
        let der = pair.serialize_der();
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).unwrap();
        let sign = Box::new(move |message: &[u8]| {
            signer.sign(&random, message).unwrap().as_ref().to_vec()
        });
        Self { algorithm: "ES256", jwk, pem, sign }
    }

    pub fn eddsa(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = base64(pair.public_key_raw());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": x });
        let pem = pair.public_key_pem();
        let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pair.serialize_der()).unwrap();
        let sign = Box::new(move |message: &[u8]| signer.sign(message).as_ref().to_vec());
        Self { algorithm: "EdDSA", jwk, pem, sign }
    }

    /// The header that this issuer writes.
    pub fn header(&self) -> Value {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm });
        if let Some(id) = self.jwk.get("kid") {
            header["kid"] = id.clone();
        }
        header
    }

    /// A token of these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_of(&self.header().to_string(), claims.to_string())
    }

    /// A token with some fields of its header as they are given; `null` takes one out.
    pub fn token_with(&self, change: &Value, claims: &Value) -> String {
        let mut header = self.header();
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.token_of(&header.to_string(), claims.to_string())
    }

    /// A token of these very texts, rightly signed.
    pub fn token_of(&self, header: &str, claims: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", base64(header), base64(claims));
        format!("{message}.{}", base64((self.sign)(message.as_bytes())))
    }
}
