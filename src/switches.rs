//! The degradation switches: what this gateway is to do without, by an operator's word.
//!
//! Each gateway has its own, as its configuration says at first and as its ops API says since. A switch
//! that the configuration changes counts as switched then; one that it does not change stays as it was
//! put by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use crate::clock::{Clock, Millis};
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::store::Note;

/// One of the switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// New reservations are taken. On unless somebody has switched it off.
    Reservations,
    /// Carts are shown, and not changed.
    CartsReadOnly,
    /// Orders and reservations are shown as they were read lately, where they were.
    ReadsFromCache,
    /// Nothing is changed for buyers and by operators; payments and refunds go on.
    ReadOnly,
}

impl Switch {
    /// All of them.
    pub const ALL: [Switch; 4] =
        [Switch::Reservations, Switch::CartsReadOnly, Switch::ReadsFromCache, Switch::ReadOnly];

    /// The word on the wire, in metrics and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Switch::Reservations => "reservations",
            Switch::CartsReadOnly => "carts_read_only",
            Switch::ReadsFromCache => "reads_from_cache",
            Switch::ReadOnly => "read_only",
        }
    }

    /// The switch of that name.
    pub fn parse(name: &str) -> Option<Switch> {
        Switch::ALL.into_iter().find(|switch| switch.as_str() == name)
    }

    fn index(self) -> usize {
        match self {
            Switch::Reservations => 0,
            Switch::CartsReadOnly => 1,
            Switch::ReadsFromCache => 2,
            Switch::ReadOnly => 3,
        }
    }
}

/// Keys of the switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchSettings {
    /// See [`Switch::Reservations`].
    pub reservations: bool,
    /// See [`Switch::CartsReadOnly`].
    pub carts_read_only: bool,
    /// See [`Switch::ReadsFromCache`].
    pub reads_from_cache: bool,
    /// See [`Switch::ReadOnly`].
    pub read_only: bool,
}

impl Default for SwitchSettings {
    fn default() -> Self {
        Self {
            reservations: true,
            carts_read_only: false,
            reads_from_cache: false,
            read_only: false,
        }
    }
}

impl SwitchSettings {
    fn of(self, switch: Switch) -> bool {
        match switch {
            Switch::Reservations => self.reservations,
            Switch::CartsReadOnly => self.carts_read_only,
            Switch::ReadsFromCache => self.reads_from_cache,
            Switch::ReadOnly => self.read_only,
        }
    }
}

/// The switches of one gateway.
pub struct Switches {
    cells: [Cell; Switch::ALL.len()],
    /// What the configuration said last. Held while anything is switched.
    configured: Mutex<SwitchSettings>,
    clock: Arc<dyn Clock>,
    notes: Notes,
}

struct Cell {
    on: AtomicBool,
    last: Mutex<Switched>,
    gauge: Gauge,
    changes: Counter,
}

/// Who put a switch as it is.
#[derive(Clone, Debug)]
struct Switched {
    by: Box<str>,
    reason: Box<str>,
    at: Millis,
}

/// Who changes by configuration.
pub const CONFIGURATION: &str = "configuration";

impl Switches {
    /// As the configuration has them.
    pub fn new(
        settings: SwitchSettings,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        notes: Notes,
    ) -> Self {
        let now = clock.now();
        let cell = |switch: Switch| {
            let labels = [("name", switch.as_str().to_owned())];
            let gauge = metrics.gauge("floodgate_switch", &labels);
            gauge.set(f64::from(u8::from(settings.of(switch))));
            Cell {
                on: AtomicBool::new(settings.of(switch)),
                last: Mutex::new(Switched {
                    by: CONFIGURATION.into(),
                    reason: "at the start".into(),
                    at: now,
                }),
                gauge,
                changes: metrics.counter("floodgate_switch_changes_total", &labels),
            }
        };
        Self { cells: Switch::ALL.map(cell), configured: Mutex::new(settings), clock, notes }
    }

    /// Whether a switch is on.
    pub fn is_on(&self, switch: Switch) -> bool {
        self.cells[switch.index()].on.load(Ordering::Relaxed)
    }

    /// The switch that keeps new reservations from being taken, if one does.
    pub fn against_reservations(&self) -> Option<Switch> {
        if self.is_on(Switch::ReadOnly) {
            return Some(Switch::ReadOnly);
        }
        (!self.is_on(Switch::Reservations)).then_some(Switch::Reservations)
    }

    /// The switch that keeps carts from being changed, if one does.
    pub fn against_carts(&self) -> Option<Switch> {
        [Switch::ReadOnly, Switch::CartsReadOnly].into_iter().find(|switch| self.is_on(*switch))
    }

    /// The switch that keeps everything else from being changed, if it does.
    pub fn against_changes(&self) -> Option<Switch> {
        self.is_on(Switch::ReadOnly).then_some(Switch::ReadOnly)
    }

    /// Switches. Whether that changed anything; it is written down then.
    pub fn set(&self, switch: Switch, on: bool, by: &str, reason: &str) -> bool {
        let _alone = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(switch, on, by, reason)
    }

    /// Takes over what the configuration has changed since it was last taken over.
    pub fn apply(&self, settings: SwitchSettings) {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        for switch in Switch::ALL {
            if settings.of(switch) != configured.of(switch) {
                self.put(switch, settings.of(switch), CONFIGURATION, "changed there");
            }
        }
        *configured = settings;
    }

    fn put(&self, switch: Switch, on: bool, by: &str, reason: &str) -> bool {
        let cell = &self.cells[switch.index()];
        if cell.on.load(Ordering::Relaxed) == on {
            return false;
        }
        let at = self.clock.now();
        *cell.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Switched { by: by.into(), reason: reason.into(), at };
        cell.on.store(on, Ordering::Relaxed);
        cell.gauge.set(f64::from(u8::from(on)));
        cell.changes.increment(1);
        // The reason is a person's: quoted, it cannot break the line.
        warn!(switch = switch.as_str(), on, by, ?reason, "switched");
        self.notes.take(Note {
            actor: by.into(),
            action: "switch",
            subject: switch.as_str().to_owned(),
            before: json!({ "on": !on }),
            after: json!({ "on": on }),
            reason: Some(reason.to_owned()),
        });
        true
    }

    /// A switch as the ops API shows it.
    pub fn to_json(&self, switch: Switch) -> Value {
        let cell = &self.cells[switch.index()];
        let Switched { by, reason, at } =
            cell.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({
            "name": switch.as_str(), "on": self.is_on(switch),
            "by": by, "reason": reason, "since": at.to_string(),
        })
    }
}

impl std::fmt::Debug for Switches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on = Switch::ALL.into_iter().filter(|switch| self.is_on(*switch));
        f.debug_struct("Switches").field("on", &on.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    /// Proves that a configuration which is read again changes what it changed, and leaves alone what was
    /// put by hand since.
    #[test]
    fn hand_and_configuration() {
        let first = SwitchSettings::default();
        let (notes, mut taken) = Notes::taken();
        let switches = Switches::new(first, Arc::new(SystemClock), &Metrics::new(), notes);
        assert!(switches.set(Switch::Reservations, false, "ann", "the stock is wrong"));
        assert!(!switches.set(Switch::Reservations, false, "bob", "again"), "it is off already");
        switches.apply(first);
        assert!(!switches.is_on(Switch::Reservations), "the file has not changed");
        assert_eq!(switches.to_json(Switch::Reservations)["by"], "ann");
        switches.apply(SwitchSettings { carts_read_only: true, ..first });
        assert_eq!(switches.against_carts(), Some(Switch::CartsReadOnly));
        assert_eq!(switches.against_reservations(), Some(Switch::Reservations));
        switches.apply(SwitchSettings { reservations: false, ..first });
        switches.apply(first);
        assert_eq!((switches.against_reservations(), switches.against_carts()), (None, None));
        let mut log = Vec::new();
        while let Ok(note) = taken.try_recv() {
            log.push((note.actor.to_string(), note.subject, note.after["on"] == true));
        }
        let entry = |by: &str, switch: Switch, on| (by.to_owned(), switch.as_str().to_owned(), on);
        let told = [
            entry("ann", Switch::Reservations, false),
            entry(CONFIGURATION, Switch::CartsReadOnly, true),
            entry(CONFIGURATION, Switch::CartsReadOnly, false),
            entry(CONFIGURATION, Switch::Reservations, true),
        ];
        assert_eq!(log, told);
    }
}
