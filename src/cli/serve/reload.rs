//! What a running gateway takes over when it is told to read its configuration again.
//!
//! Told by SIGHUP, or by a file that has changed: files are looked at, not listened to, which works with
//! mounted secrets and config maps as well. A configuration with a fault changes nothing at all.

use std::path::PathBuf;
use std::time::SystemTime;

use metrics::Gauge;
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::super::arguments::ConfigArguments;
use super::super::config;
use crate::clock::{Clock, SystemClock};
use crate::config::{Settings, changed_keys};
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::store::Note;
use crate::switches::CONFIGURATION;

/// How something takes its new state from the settings.
type Take = Box<dyn Fn(&Settings) -> Result<(), String>>;

/// Something that can be changed while running.
pub(super) struct Live {
    /// The key, or table of keys, that it is made from.
    key: &'static str,
    /// Files of its own; a change to one is a reason to reload.
    files: Vec<PathBuf>,
    /// Takes the new state; keeps the old one and says why where that cannot be.
    take: Take,
}

impl Live {
    pub(super) fn new(
        key: &'static str,
        take: impl Fn(&Settings) -> Result<(), String> + 'static,
    ) -> Self {
        Self { key, files: Vec::new(), take: Box::new(take) }
    }

    /// With files of its own.
    pub(super) fn with_files(mut self, files: Vec<PathBuf>) -> Self {
        self.files = files;
        self
    }

    fn is_made_from(&self, key: &str) -> bool {
        key.strip_prefix(self.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Reloads what is live.
pub(super) struct Reload<'a> {
    arguments: &'a ConfigArguments,
    /// What the gateway was started with.
    started: &'a Settings,
    /// What was taken over last.
    taken: Settings,
    notes: Notes,
    live: Vec<Live>,
    watched: Vec<(PathBuf, Option<Stamp>)>,
    successful: Gauge,
    succeeded_at: Gauge,
}

/// What shows that a file has changed.
type Stamp = (SystemTime, u64);

impl<'a> Reload<'a> {
    /// The configuration that was read at the start counts as the first success.
    pub(super) fn new(
        arguments: &'a ConfigArguments,
        started: &'a Settings,
        metrics: &Metrics,
        notes: Notes,
        live: Vec<Live>,
    ) -> Self {
        let named = arguments.config.clone();
        let file = named.or_else(|| std::env::var_os("FLOODGATE_CONFIG").map(Into::into));
        let files = live.iter().flat_map(|live| live.files.iter().cloned()).chain(file);
        let watched = files.map(|file| (file.clone(), stamp(&file))).collect();
        let reload = Self {
            arguments,
            started,
            taken: started.clone(),
            notes,
            live,
            watched,
            successful: metrics.gauge("floodgate_config_last_reload_successful", &[]),
            succeeded_at: metrics
                .gauge("floodgate_config_last_reload_success_timestamp_seconds", &[]),
        };
        reload.succeeded();
        reload
    }

    /// Reloads if a file has changed since it was last looked at.
    pub(super) fn look(&mut self) {
        let mut changed = false;
        for (file, known) in &mut self.watched {
            let now = stamp(file);
            changed |= std::mem::replace(known, now) != now;
        }
        if changed {
            self.reload();
        }
    }

    /// Reads the configuration again and takes over what is live.
    pub(super) fn reload(&mut self) {
        let settings = match config::load(self.arguments) {
            Ok(loaded) => loaded.settings,
            Err(failure) => {
                self.successful.set(0.0);
                let error = failure.message;
                error!(%error, "the configuration was not reloaded; the old one stays");
                return;
            }
        };
        let mut complete = true;
        for live in &self.live {
            if let Err(error) = (live.take)(&settings) {
                complete = false;
                let key = live.key;
                error!(key, %error, "a part of the configuration was not reloaded; the old one stays");
            }
        }
        let changed = changed_keys(&self.taken, &settings);
        let mut waiting = changed_keys(self.started, &settings);
        waiting.retain(|key| !self.live.iter().any(|live| live.is_made_from(key)));
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            warn!(keys, "changed keys are in force after a restart only");
        }
        // Keys, not their values: some are secrets.
        self.notes.take(Note {
            actor: CONFIGURATION.into(),
            action: "reload",
            subject: "configuration".to_owned(),
            before: Value::Null,
            after: json!({ "changed": changed, "complete": complete, "after_restart": waiting }),
            reason: None,
        });
        self.taken = settings;
        if complete {
            self.succeeded();
            info!("configuration reloaded");
        } else {
            self.successful.set(0.0);
        }
    }

    fn succeeded(&self) {
        self.successful.set(1.0);
        self.succeeded_at.set(SystemClock.now().0 as f64 / 1_000.0);
    }
}

fn stamp(file: &PathBuf) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
