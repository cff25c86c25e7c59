//! Answers that no server may give.

use std::sync::{Mutex, PoisonError};

use crate::limits::ANOMALIES_MAX;

/// Shared by the crowd: the first ones in words, all of them counted.
#[derive(Debug, Default)]
pub(super) struct Anomalies {
    found: Mutex<(Vec<String>, u64)>,
}

impl Anomalies {
    pub(super) fn report(&self, what: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.1 += 1;
        if found.0.len() < ANOMALIES_MAX {
            found.0.push(what);
        }
    }

    /// What was reported, and how often.
    pub(super) fn take(&self) -> (Vec<String>, u64) {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
