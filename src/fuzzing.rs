//! What reads bytes that others have written, as functions of bytes: for fuzzers, and for a test that
//! does the same for a moment. Each asserts what holds of whatever was read.
//!
//! Not a part of the product: compiled for tests and under `cfg(fuzzing)`, which cargo-fuzz sets.

use serde_json::Value;

pub use crate::http::fuzzing::{idempotency_key, reservation};

use crate::clock::Millis;
use crate::engine::{Position, State};
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Event;
    use crate::sale::{IdempotencyKey, ItemId, SaleId};

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

    fn records() -> Vec<Vec<u8>> {
        let event = Event::Restocked {
            sale: SaleId::parse("s").unwrap(),
            item: ItemId::parse("i").unwrap(),
            delta: -3,
            key: IdempotencyKey::parse("k").unwrap(),
            before: 9,
            reason: "counted".into(),
            actor: "admin".into(),
        };
        let record = Record::of(Position { epoch: 1, seq: 2 }, Millis(0), &[event.clone(), event]);
        vec![[&[2][..], &record.payload].concat()]
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

        /// Proves the same of records of the outbox.
        #[test]
        fn outbox_records(bytes in bytes(records())) {
            outbox_record(&bytes);
        }
    }
}
