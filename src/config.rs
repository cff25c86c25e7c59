//! Configuration: flag > environment > file > default, every key in all four forms.
//!
//! A key that is not known is an error wherever it stands, and all faults are reported at once, before
//! any port is bound. Secrets print as `***`.

mod changes;
mod exposed;
mod layers;
mod nearest;
mod places;
mod settings;
mod words;

pub use changes::changed_keys;
pub use exposed::{Exposed, exposed};
pub use layers::{Flags, Loaded, Origin, load, load_one};
pub use places::redis_fault;
pub use settings::{LedgerSettings, LogFormat, Settings};

/// What is wrong with a configuration: every fault, each naming its key and where it was set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);
