//! What reads bytes that others have written, as functions of bytes: for fuzzers, and for a test that
//! does the same for a moment. Each asserts what holds of whatever was read.
//!
//! Not a part of the product: compiled for tests and under `cfg(fuzzing)`, which cargo-fuzz sets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::Value;

pub use crate::http::fuzzing::{idempotency_key, reservation};

use crate::clock::{Millis, SystemClock};
use crate::engine::{Position, State};
use crate::http::client::Client;
use crate::http::client::forwarded::{Hops, walk};
use crate::identity::tokens::{JwtSettings, Tokens};
use crate::outbox::Record;
use crate::sale::SaleDefinition;

/// A sale's file. One that is taken is the same again once it was written and read.
pub fn sale_file(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    match SaleDefinition::from_json(&value) {
        Ok(definition) => {
            let again = SaleDefinition::from_json(&definition.to_json());
            assert_eq!(again.as_ref(), Ok(&definition));
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}

/// A record of the outbox whose checksum is right: what a lane would have to have written itself. One that
/// can be read is the same again once it was written; one that cannot be folded is refused, or stops the
/// lane that folds it, and never makes units of nothing.
pub fn outbox_record(bytes: &[u8]) {
    let Some((&events, payload)) = bytes.split_first() else { return };
    let last = Position { epoch: 1, seq: u64::from(events) };
    let at = Millis(1_795_225_445_067);
    let mut record = Record::unreadable(last, u32::from(events), at, payload.to_vec());
    assert!(record.decode().is_err(), "its checksum is wrong");
    record.crc = !record.crc;
    let Ok(read) = record.decode() else { return };
    let again = Record::of(last, at, &read);
    assert_eq!(again.decode().as_ref(), Ok(&read));
    let mut state = State::default();
    // Refused or not: it is the same either way.
    let folded = record.fold(&mut state).is_ok();
    assert_eq!(again.fold(&mut State::default()).is_ok(), folded);
}

/// A line of `Forwarded` or `X-Forwarded-For`. Whoever is named is no trusted hop, and nothing that a client
/// writes in front changes who that is.
pub fn forwarded(bytes: &[u8]) {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for form in [Hops::Forwarded, Hops::XForwardedFor] {
        let named = |line: &[u8]| walk(peer, |hop| hop.is_loopback(), form.of(line));
        if let Client::Named(address) = named(bytes) {
            assert!(!address.is_loopback());
            let in_front = [&b"for=192.0.2.1, "[..], bytes].concat();
            assert_eq!(named(&in_front), Client::Named(address));
        }
    }
}

/// A buyer's token. None that was not signed with the secret is believed.
pub fn token(bytes: &[u8]) {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    let secret = format!("{:032x}", fastrand::u128(..));
    let settings = JwtSettings { secret: Some(secret), ..JwtSettings::default() };
    let Ok(tokens) = Tokens::new(&settings, Arc::new(SystemClock)) else {
        unreachable!("a secret is enough")
    };
    assert!(tokens.user_of(token).is_err());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outbox::sample;

    const RESERVATIONS: [&str; 4] = [
        r#"{"item_id":"sku-1","quantity":1}"#,
        r#"{"lines":[{"item_id":"sku-1","quantity":2},{"item_id":"sku-2","quantity":1e3}]}"#,
        r#"{"item_id":"a","quantity":-9223372036854775809,"user_id":"u","idempotency_key":"k"}"#,
        r#"{"item_id":"\u0061\n","quantity":1.5,"lines":[]}"#,
    ];
    const SALES: [&str; 2] = [
        r#"{"id":"bf","title":"B","hold_seconds":60,"items":[{"id":"i","title":"I","price":1,"currency":"EUR","stock":5}]}"#,
        r#"{"id":"..","title":"","opens_at":"2026-11-27T09:00:00+01:00","closes_at":"then","per_user_limit":0,"items":[{}]}"#,
    ];
    const KEYS: [&str; 4] = ["7f3c", r#""a \"quoted\" key""#, r#""ends in \"#, "\u{7f}\u{80} é"];

    const FORWARDED: [&str; 5] = [
        "for=192.0.2.60;proto=http;by=203.0.113.43, for=127.0.0.1",
        r#"for="[2001:db8::17]:4711", For="_hidden", for=unknown"#,
        "203.0.113.7, 127.0.0.1, 127.0.0.1",
        "2001:db8::1, [::1]:80, ::ffff:127.0.0.1",
        r#"for="a, for=192.0.2.1"#,
    ];
    /// Of RFC 7519 §3.1, and one without an algorithm.
    const TOKENS: [&str; 2] = [
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1IiwiZXhwIjo0MTAyNDQ0ODAwfQ.",
    ];

    fn records() -> Vec<Vec<u8>> {
        vec![[&[2][..], &sample().payload].concat()]
    }

    /// Bytes that somebody might send: any, and good ones with some of them changed, left out or doubled.
    fn bytes(good: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let good = prop::sample::select(good);
        let changes =
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..8);
        let mutated = (good, changes).prop_map(|(mut bytes, changes)| {
            for (index, byte, kind) in changes {
                if bytes.is_empty() {
                    break;
                }
                let at = index.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            bytes
        });
        prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..512), 4 => mutated]
    }

    fn of(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    proptest! {
        /// Proves that no bytes make the reader of reservations panic or pass what it should not.
        #[test]
        fn reservations(bytes in bytes(of(&RESERVATIONS))) {
            reservation(&bytes);
        }

        /// Proves the same of sale files.
        #[test]
        fn sale_files(bytes in bytes(of(&SALES))) {
            sale_file(&bytes);
        }

        /// Proves the same of `Idempotency-Key`.
        #[test]
        fn idempotency_keys(bytes in bytes(of(&KEYS))) {
            idempotency_key(&bytes);
        }

        /// Proves the same of forwarded headers.
        #[test]
        fn forwarded_headers(bytes in bytes(of(&FORWARDED))) {
            forwarded(&bytes);
        }

        /// Proves the same of tokens.
        #[test]
        fn tokens(bytes in bytes(of(&TOKENS))) {
            token(&bytes);
        }

        /// Proves the same of records of the outbox.
        #[test]
        fn outbox_records(bytes in bytes(records())) {
            outbox_record(&bytes);
        }
    }
}
