//! How a command ends. The codes are part of the contract.

use std::process::{ExitCode, Termination};

use serde_json::{Value, json};

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Ok,
    /// 1: it did not work.
    Failure,
    /// 2: the command line is wrong.
    Usage,
    /// 3: a promise was broken.
    Broken,
    /// 4: something that is needed is not there.
    Unavailable,
    /// 64: the configuration is wrong.
    Configuration,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Broken => 3,
            Exit::Unavailable => 4,
            Exit::Configuration => 64,
        })
    }
}

/// Why a command did not do what it was asked for, in words for whoever asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One or more lines.
    pub message: String,
    /// What a program is told besides, as members of a JSON object.
    more: Vec<(&'static str, Value)>,
}

impl Failure {
    /// A failure of these words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), more: Vec::new() }
    }

    /// And a member for programs.
    pub(super) fn with(mut self, name: &'static str, value: Value) -> Self {
        self.more.push((name, value));
        self
    }

    /// The failure for programs, which read standard output.
    pub(super) fn as_json(&self) -> Value {
        let mut object = json!({ "ok": false, "error": self.message });
        for (name, value) in &self.more {
            object[*name] = value.clone();
        }
        object
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        let faults = json!(error.0);
        Self::new(Exit::Configuration, error.to_string()).with("faults", faults)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failure, error.to_string())
    }
}
