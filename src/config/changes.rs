//! What two configurations differ in.

use serde_json::Value;

use super::Settings;

/// The keys whose values differ, in order. Names only: a value may be a secret.
pub fn changed_keys(before: &Settings, after: &Settings) -> Vec<String> {
    let value = |settings| serde_json::to_value(settings).unwrap_or_default();
    let mut changed = Vec::new();
    let mut pairs = vec![(String::new(), value(before), value(after))];
    while let Some((key, before, mut after)) = pairs.pop() {
        let Value::Object(table) = before else {
            if before != after {
                changed.push(key);
            }
            continue;
        };
        for (name, before) in table {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let after = after.get_mut(&name).map(Value::take).unwrap_or_default();
            pairs.push((key, before, after));
        }
    }
    changed.sort();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{AdmissionSettings, RateSetting};

    /// Proves that every key that differs is named, however deep it stands, and no other.
    #[test]
    fn names_what_differs() {
        let before = Settings::default();
        assert_eq!(changed_keys(&before, &before), Vec::<String>::new());
        let after = Settings {
            secret: Some("a-secret-of-some-length".into()),
            trusted_proxies: Vec::new(),
            admission: AdmissionSettings {
                per_user: RateSetting { rate: 1.0, ..before.admission.per_user },
                ..AdmissionSettings::default()
            },
            ..Settings::default()
        };
        let expected = ["admission.per_user.rate", "secret", "trusted_proxies"];
        assert_eq!(changed_keys(&before, &after), expected);
        assert_eq!(changed_keys(&after, &before), expected);
    }
}
