//! What it costs to know a buyer by a token: verified, and once it is remembered.
//!
//! "remembered" is the same token again and again, so its look-up is always in the processor's caches.

#![allow(clippy::expect_used, reason = "a measurement that cannot go on says where, by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use floodgate::clock::SystemClock;
use floodgate::identity::tokens::{JwtSettings, Tokens};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};

const SECRET: &[u8] = b"a secret of the shop that has 32 bytes and more";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A token of the size that issuers write: about 500 bytes and its signature.
fn token(algorithm: &str, number: usize, sign: &Sign) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = part(format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#));
    let filler = "x".repeat(250);
    let claims = part(format!(
        r#"{{"sub":"buyer-{number}","exp":253402300799,"iss":"https://shop.example","name":"{filler}"}}"#
    ));
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// Algorithm, public key as PEM, and how to sign.
fn issuers() -> Vec<(&'static str, String, Sign)> {
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let rsa = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).expect("a key");
    let rsa_pem = rsa.to_public_key().to_public_key_pem(LineEnding::LF).expect("as PEM");
    let der = rsa.to_pkcs8_der().expect("as PKCS #8");
    let rsa = RsaKeyPair::from_pkcs8(der.as_bytes()).expect("a key");
    let pair = |algorithm| rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let (p256, ed25519) = (pair(&rcgen::PKCS_ECDSA_P256_SHA256), pair(&rcgen::PKCS_ED25519));
    let (p256_pem, ed25519_pem) = (p256.public_key_pem(), ed25519.public_key_pem());
    let fixed = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let p256 = EcdsaKeyPair::from_pkcs8(fixed, &p256.serialize_der(), &SystemRandom::new());
    let p256 = p256.expect("a key");
    let ed25519 = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&ed25519.serialize_der());
    let ed25519 = ed25519.expect("a key");
    vec![
        (
            "HS256",
            String::new(),
            Box::new(move |message| hmac::sign(&hmac_key, message).as_ref().to_vec()),
        ),
        (
            "RS256",
            rsa_pem,
            Box::new(move |message| {
                let mut signature = vec![0; rsa.public().modulus_len()];
                rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .expect("a signature");
                signature
            }),
        ),
        (
            "ES256",
            p256_pem,
            Box::new(move |message| {
                p256.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
            }),
        ),
        ("EdDSA", ed25519_pem, Box::new(move |message| ed25519.sign(message).as_ref().to_vec())),
    ]
}

fn tokens(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    for (algorithm, pem, sign) in issuers() {
        let file = dir.path().join(algorithm);
        std::fs::write(&file, &pem).expect("a file");
        let jwt = if pem.is_empty() {
            let secret = Some(String::from_utf8_lossy(SECRET).into_owned());
            JwtSettings { secret, ..JwtSettings::default() }
        } else {
            JwtSettings { keys_file: Some(file), ..JwtSettings::default() }
        };
        let known = Tokens::new(&jwt, Arc::new(SystemClock)).expect("keys");
        // More of them than are remembered would take long to sign; as many as are measured will do.
        let many: Vec<_> = (0..3_000).map(|number| token(algorithm, number, &sign)).collect();
        let mut next = many.iter();
        let mut group = criterion.benchmark_group(algorithm);
        group.bench_function("verified", |bencher| {
            bencher.iter(|| {
                let token = next.next().unwrap_or_else(|| {
                    // All were seen: forget them.
                    known.reload().expect("the same keys");
                    next = many.iter();
                    &many[0]
                });
                black_box(known.user_of(token)).expect("a buyer")
            });
        });
        group.bench_function("remembered", |bencher| {
            bencher.iter(|| black_box(known.user_of(&many[0])).expect("a buyer"));
        });
        let forged = format!("{}A", &many[0][..many[0].len() - 1]);
        let forged =
            if forged == many[0] { format!("{}Q", &many[0][..many[0].len() - 1]) } else { forged };
        group.bench_function("forged", |bencher| {
            bencher.iter(|| black_box(known.user_of(&forged)).is_err());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(1))
        .sample_size(20);
    targets = tokens
}
criterion_main!(benches);
