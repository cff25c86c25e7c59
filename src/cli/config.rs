//! `floodgate config check|print`.

use std::ffi::OsString;

use serde_json::{Map, Value, json};

use super::arguments::{ConfigArguments, ConfigCommand};
use super::{Exit, Failure, say, table};
use crate::app::file_faults;
use crate::config::{self, ConfigError, Loaded};

/// The configuration that a command runs with.
pub(super) fn load(arguments: &ConfigArguments) -> Result<Loaded, Failure> {
    Ok(config::load(&arguments.flags(), environment())?)
}

/// The process's environment. A variable that is not UTF-8 is none of ours.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

pub(super) fn run(command: &ConfigCommand, as_json: bool) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check { config } => {
            let settings = load(config)?.settings;
            // What a start would end with as well.
            let faults = file_faults(&settings);
            if !faults.is_empty() {
                return Err(ConfigError(faults).into());
            }
            if as_json {
                say!("{}", json!({ "ok": true }));
            } else {
                say!("the configuration is fine");
            }
        }
        ConfigCommand::Print { config, show_origin } => {
            let loaded = load(config)?;
            if as_json {
                say!("{}", as_object(&loaded, *show_origin));
            } else {
                print(&loaded, *show_origin);
            }
        }
    }
    Ok(Exit::Ok)
}

fn as_object(loaded: &Loaded, show_origin: bool) -> Value {
    let mut object = Map::new();
    for (key, value, origin) in &loaded.origins {
        let value = serde_json::from_str(value).unwrap_or_else(|_| match value.as_str() {
            "(not set)" => Value::Null,
            masked => json!(masked),
        });
        let value = if show_origin { json!({ "value": value, "origin": origin.0 }) } else { value };
        object.insert(key.clone(), value);
    }
    Value::Object(object)
}

fn print(loaded: &Loaded, show_origin: bool) {
    let row = |(key, value, origin): &(String, String, config::Origin)| {
        let mut row = vec![key.clone(), value.clone()];
        if show_origin {
            row.push(origin.0.clone());
        }
        row
    };
    let rows = loaded.origins.iter().map(row).collect();
    let headings: &[&str] =
        if show_origin { &["KEY", "VALUE", "SET BY"] } else { &["KEY", "VALUE"] };
    table::print(headings, &[], rows);
}
