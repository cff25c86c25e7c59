//! What is said of a configuration that cannot be used. Values of secrets are not in it.

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::Settings;
use super::layers::{flatten, variable};
use super::nearest::nearest;

/// A fault in one line: what, of which key, set where. Values of secrets are not in it.
pub(super) fn said(error: &figment::Error, figment: &Figment) -> String {
    let key = error.path.join(".");
    let from = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
    let from = match from {
        Some(from) if from == "environment" && !key.is_empty() => {
            // Of a list, the place of the item is no part of the name.
            let list = key.rsplit_once('.').filter(|(_, place)| place.parse::<usize>().is_ok());
            Some(variable(list.map_or(key.as_str(), |(list, _)| list)))
        }
        from => from,
    };
    let what = if matches!(error.kind, Kind::UnknownField(..)) {
        unknown(&key, from.as_deref())
    } else if is_secret(&key) {
        "is not what it should be".to_owned()
    } else {
        wrong(&key, error, figment)
    };
    match (key.is_empty(), from) {
        (false, Some(from)) => format!("{key}: {what} (set by {from})"),
        (false, None) => format!("{key}: {what}"),
        (true, Some(from)) => format!("{what} (in {from})"),
        (true, None) => what,
    }
}

/// What is said of a key that is not known.
fn unknown(key: &str, from: Option<&str>) -> String {
    let known = known_keys();
    match nearest(key, known.iter().map(String::as_str)) {
        Some(near) if from == Some(variable(key).as_str()) => {
            format!("there is no such key; did you mean {}?", variable(near))
        }
        Some(near) => format!("there is no such key; did you mean {near}?"),
        None => "there is no such key; `floodgate config print` shows all of them".to_owned(),
    }
}

/// What is said of a value, which is no secret.
fn wrong(key: &str, error: &figment::Error, figment: &Figment) -> String {
    let value = figment.find_value(key).ok().and_then(Value::into_string);
    let value = value.map(|value| format!("{value:?}: ")).unwrap_or_default();
    let what = &error.kind;
    match key {
        "listen" | "ops_listen" => format!("{value}must be IP:PORT, such as 127.0.0.1:8080"),
        _ if matches!(what, Kind::Message(_)) => format!("{value}{what}"),
        _ => what.to_string(),
    }
}

/// Every key, as it is written with `--set`.
fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    if let Ok(all) = Figment::from(Serialized::defaults(Settings::default())).extract::<Dict>() {
        flatten("", &all, &mut keys);
    }
    keys.into_iter().map(|(key, _)| key).collect()
}

/// Whether a key's value is a secret, or should have been a table with one: `jwt = "…"`.
pub(super) fn is_secret(key: &str) -> bool {
    Settings::SECRETS.iter().any(|secret| {
        secret.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// What is wrong and where. The error's own text quotes the line, which may hold a secret.
pub(super) fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before =
        error.span().and_then(|span| text.as_bytes().get(..span.start)).unwrap_or_default();
    let before = String::from_utf8_lossy(before);
    let line = before.split('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    let message = error.message().replace('\n', ", ");
    format!("line {line}, column {column}: {message}")
}
