//! Where values come from, and which one counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::words::{is_secret, said, syntax};
use super::{ConfigError, Exposed, Settings, exposed};

/// What was given on the command line: keys and values, as text.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// A file to read.
    pub file: Option<PathBuf>,
    /// Keys such as `ledger.lanes`, and their values.
    pub values: Vec<(String, String)>,
}

/// A configuration without faults, and where each of its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// Every key in order, its value as text (secrets masked), and where it was set.
    pub origins: Vec<(String, String, Origin)>,
    /// Files that hold its secrets.
    secret_files: Vec<PathBuf>,
}

impl Loaded {
    /// Files with secrets that everybody on the machine can read, that of the admin token among them.
    pub fn exposed(&self) -> Vec<Exposed> {
        let own = self.settings.data_dir.join("admin.token");
        let own = self.settings.admin_token.is_none().then_some(own.as_path());
        exposed(self.secret_files.iter().map(PathBuf::as_path).chain(own))
    }
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

/// Variables that are not keys: they name a file, or belong to other commands.
const OTHER_VARIABLES: [&str; 2] = ["FLOODGATE_CONFIG", "FLOODGATE_OPS_URL"];
/// Variables under names that others know too.
const COMMON_VARIABLES: [(&str, &str); 3] =
    [("REDIS_URL", "redis_url"), ("DATABASE_URL", "database_url"), ("RUST_LOG", "log")];
/// Keys whose values are lists, which people write with commas.
const LISTS: [&str; 2] = ["trusted_proxies", "http.cors_origins"];

/// Puts the layers together and checks the result.
///
/// `environment` is the process's: passed, so that tests need not change their own.
///
/// # Errors
/// [`ConfigError`] with every fault.
pub fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let Layers { figment, file, mut secret_files } = layers(flags, environment, |_| true)?;
    let settings = extract(&figment)?;
    let faults = settings.faults();
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    let origins = origins(&figment);
    secret_files.extend(file.filter(|file| sets_a_secret(file, &origins)));
    Ok(Loaded { settings, origins, secret_files })
}

fn sets_a_secret(file: &Path, origins: &[(String, String, Origin)]) -> bool {
    let from = format!("file {}", file.display());
    origins.iter().any(|(key, _, origin)| is_secret(key) && origin.0 == from)
}

/// One key only, as the layers have it: for commands that need no other, whatever is wrong with the rest.
///
/// # Errors
/// [`ConfigError`] where a layer or the value cannot be read.
pub fn load_one<T: DeserializeOwned>(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
    key: &str,
) -> Result<T, ConfigError> {
    let Layers { figment, .. } = layers(flags, environment, |known| known == key)?;
    let said =
        |error: figment::Error| error.into_iter().map(|error| said(&error, &figment)).collect();
    figment.extract_inner(key).map_err(|error| ConfigError(said(error)))
}

/// The layers over one another, and which files they were read from.
struct Layers {
    figment: Figment,
    file: Option<PathBuf>,
    secret_files: Vec<PathBuf>,
}

/// Reads the layers, with the variables of the keys that are wanted.
fn layers(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Layers, ConfigError> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let (variables, secret_files) = variables(&environment, wanted)?;
    let mut figment = Figment::from(Serialized::defaults(Settings::default()));
    let named = environment.get("FLOODGATE_CONFIG").filter(|file| !file.is_empty());
    let file = flags.file.clone().or(named.map(PathBuf::from));
    if let Some(file) = &file {
        figment = figment.merge(Read { text: read(file)?, name: file.display().to_string() });
    }
    let figment = figment
        .merge(Layer::new("environment", &variables))
        .merge(Layer::new("command line", &flags.values));
    Ok(Layers { figment, file, secret_files })
}

/// Reads the settings; figment stops at the first fault, so a value that is wrong is put aside in favour
/// of its default and the others are read on.
fn extract(figment: &Figment) -> Result<Settings, ConfigError> {
    /// More than there are keys.
    const TRIES: usize = 64;
    let defaults = Figment::from(Serialized::defaults(Settings::default()));
    let mut figment = figment.clone();
    let mut faults = Vec::new();
    for _ in 0..TRIES {
        let error = match figment.extract::<Settings>() {
            Ok(settings) if faults.is_empty() => return Ok(settings),
            Ok(_) => break,
            Err(error) => error,
        };
        let path = error.path.join(".");
        faults.extend(error.into_iter().map(|error| said(&error, &figment)));
        match defaults.find_value(&path) {
            Ok(default) if !path.is_empty() && default.as_dict().is_none() => {
                figment = figment.merge((path, default));
            }
            // A key that is not known cannot be put aside; what is behind it comes with the next try.
            Ok(_) | Err(_) => break,
        }
    }
    Err(ConfigError(faults))
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file)
        .map_err(|error| ConfigError(vec![format!("{}: {error}", file.display())]))
}

/// A file as it was read.
struct Read {
    text: String,
    name: String,
}

impl Provider for Read {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        match toml::from_str::<Dict>(&self.text) {
            Ok(dict) => Ok(Profile::Default.collect(dict)),
            Err(error) => Err(figment::Error::from(syntax(&self.text, &error))),
        }
    }
}

/// Keys and values that the environment sets, and the files that it names.
type Variables = (Vec<(String, String)>, Vec<PathBuf>);

/// Reads the environment, of the keys that are wanted. A secret may stand in a file that `…_FILE` names; an empty
/// variable of a secret is one that is not set, as compose files write it.
fn variables(
    environment: &BTreeMap<String, String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Variables, ConfigError> {
    let mut values = Vec::new();
    let mut files = Vec::new();
    let mut faults = Vec::new();
    for (name, value) in environment {
        let common = COMMON_VARIABLES.iter().find(|(common, _)| {
            name == common || name.strip_suffix("_FILE").is_some_and(|name| name == *common)
        });
        let key = match common {
            Some((_, key)) if name.ends_with("_FILE") => format!("{key}_file"),
            Some((_, key)) => (*key).to_owned(),
            None if OTHER_VARIABLES.contains(&name.as_str()) => continue,
            None => match name.strip_prefix("FLOODGATE_") {
                Some(key) => key.to_ascii_lowercase().replace("__", "."),
                None => continue,
            },
        };
        let secret = key.strip_suffix("_file").filter(|key| Settings::SECRETS.contains(key));
        let is_secret = Settings::SECRETS.contains(&secret.unwrap_or(&key));
        if !wanted(secret.unwrap_or(&key)) || (is_secret && value.is_empty()) {
            continue;
        }
        let Some(secret) = secret else {
            values.push((key, value.clone()));
            continue;
        };
        match std::fs::read_to_string(value) {
            Ok(text) => {
                values.push((secret.to_owned(), text.trim_end().to_owned()));
                files.push(PathBuf::from(value));
            }
            Err(error) => faults.push(format!("{name}: {value}: {error}")),
        }
    }
    if faults.is_empty() { Ok((values, files)) } else { Err(ConfigError(faults)) }
}

/// Keys and values as text, under one name.
struct Layer {
    name: &'static str,
    dict: Dict,
}

impl Layer {
    fn new(name: &'static str, values: &[(String, String)]) -> Self {
        let mut dict = Dict::new();
        for (key, text) in values {
            let value = if Settings::TEXTS.contains(&key.as_str()) {
                Value::from(text.clone())
            } else if LISTS.contains(&key.as_str()) && !text.trim_start().starts_with('[') {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::from(items.map(str::to_owned).collect::<Vec<String>>())
            } else {
                // Numbers, booleans and lists as figment reads them; never fails.
                text.parse().unwrap_or_else(|_| Value::from(text.clone()))
            };
            insert(&mut dict, key, value);
        }
        Self { name, dict }
    }
}

/// Parts that a key has at most, where it is known.
const PARTS_MAX: usize = 4;

/// Puts a value where its key says, into tables that are made as needed. What stood in the way of a
/// table is gone: that key is wrong, and is told of by its other name.
fn insert(dict: &mut Dict, key: &str, value: Value) {
    let mut parts: Vec<&str> = key.splitn(PARTS_MAX, '.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut table = dict;
    for part in parts {
        let inner = table.entry(part.to_owned()).or_insert_with(|| Value::from(Dict::new()));
        if !matches!(inner, Value::Dict(..)) {
            *inner = Value::from(Dict::new());
        }
        let Value::Dict(_, inner) = inner else { return };
        table = inner;
    }
    // A name with a dot is no key.
    table.insert(last.replace('.', "__"), value);
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn origins(figment: &Figment) -> Vec<(String, String, Origin)> {
    let mut keys = Vec::new();
    if let Ok(all) = figment.extract::<Dict>() {
        flatten("", &all, &mut keys);
    }
    keys.into_iter()
        .map(|(key, value)| {
            let from = figment.find_metadata(&key).map(|metadata| metadata.name.to_string());
            let from = match from.as_deref() {
                Some("environment") => format!("environment ({})", variable(&key)),
                Some("command line") | None => from.unwrap_or_else(|| "default".to_owned()),
                Some(name) if name.contains("Settings") => "default".to_owned(),
                Some(file) => format!("file {file}"),
            };
            (key, value, Origin(from))
        })
        .collect()
}

pub(super) fn flatten(prefix: &str, dict: &Dict, keys: &mut Vec<(String, String)>) {
    for (name, value) in dict {
        let key = format!("{prefix}{name}");
        if let Value::Dict(_, inner) = value {
            flatten(&format!("{key}."), inner, keys);
            continue;
        }
        let secret = Settings::SECRETS.contains(&key.as_str());
        let shown = if matches!(value, Value::Empty(..)) {
            "(not set)".to_owned()
        } else if secret {
            "***".to_owned()
        } else {
            serde_json::to_value(value).map_or_else(|_| "?".to_owned(), |value| value.to_string())
        };
        keys.push((key, shown));
    }
}

/// The variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    let common = COMMON_VARIABLES.iter().find(|(_, common)| *common == key);
    common.map_or_else(
        || format!("FLOODGATE_{}", key.to_ascii_uppercase().replace('.', "__")),
        |(name, _)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::admission::HeaderStyle;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn flags(pairs: &[(&str, &str)]) -> Flags {
        Flags { file: None, values: environment(pairs) }
    }

    /// A flag counts before the environment, that before the file, that before the default; and
    /// the origin of each is told.
    #[test]
    fn precedence_and_origins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floodgate.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\nlog = \"warn\"\n[ledger]\nlanes = 2\n")
            .unwrap();
        let flags = Flags { file: Some(file), ..flags(&[("listen", "127.0.0.1:3")]) };
        let environment =
            environment(&[("FLOODGATE_LISTEN", "127.0.0.1:2"), ("FLOODGATE_LEDGER__LANES", "7")]);
        let loaded = load(&flags, environment).unwrap();
        assert_eq!(loaded.settings.listen.port(), 3);
        assert_eq!(loaded.settings.ledger.lanes, 7);
        assert_eq!(loaded.settings.log, "warn");
        let origin = |key: &str| {
            loaded.origins.iter().find(|(known, ..)| known == key).map(|(.., o)| o.0.clone())
        };
        assert_eq!(origin("listen").unwrap(), "command line");
        assert_eq!(origin("ledger.lanes").unwrap(), "environment (FLOODGATE_LEDGER__LANES)");
        assert!(origin("log").unwrap().starts_with("file "));
        assert_eq!(origin("ops_listen").unwrap(), "default");
    }

    /// Unknown keys are errors wherever they stand, and say where.
    #[test]
    fn unknown_keys() {
        let error = load(&flags(&[]), environment(&[("FLOODGATE_LISEN", "x")])).unwrap_err();
        assert!(error.to_string().contains("set by FLOODGATE_LISEN"), "{error}");
        assert!(error.to_string().contains("did you mean FLOODGATE_LISTEN?"), "{error}");
        let error = load(&flags(&[]), environment(&[("FLOODGATE_DATADIR", "x")])).unwrap_err();
        assert!(error.to_string().contains("did you mean FLOODGATE_DATA_DIR?"), "{error}");
        let error = load(&flags(&[("ledger.lane", "3")]), []).unwrap_err();
        assert!(error.to_string().contains("did you mean ledger.lanes?"), "{error}");
        let error = load(&flags(&[("a.b.c", "3")]), []).unwrap_err();
        assert!(error.to_string().contains('a'), "{error}");
    }

    /// Values that look like numbers are text where text is wanted; others are what they look like.
    #[test]
    fn values_keep_their_type() {
        let given = environment(&[
            ("FLOODGATE_ADMIN_TOKEN", "1234567890123456"),
            ("FLOODGATE_TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
            ("FLOODGATE_ADMISSION__PER_USER__RATE", "0.5"),
            ("FLOODGATE_ADMISSION__READS__PER_IP__BURST", "7"),
            ("FLOODGATE_ADMISSION__HEADERS", "both"),
        ]);
        let loaded = load(&flags(&[]), given).unwrap();
        assert_eq!(loaded.settings.admin_token.as_deref(), Some("1234567890123456"));
        assert_eq!(loaded.settings.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
        let admission = &loaded.settings.admission;
        assert_eq!((admission.per_user.rate, admission.per_user.burst), (0.5, 10));
        assert_eq!((admission.reads.per_ip.rate, admission.reads.per_ip.burst), (1_000.0, 7));
        assert_eq!(admission.headers, HeaderStyle::Both);
        assert!(load(&flags(&[("ledger.lanes", "many")]), []).is_err());
        let quick = load(&flags(&[("admission.per_user.rate", "1e9")]), []).unwrap_err();
        assert!(quick.to_string().contains("admission.per_user.rate"), "{quick}");
    }

    /// Every value that is wrong is told, not just the first; and lists may be written as people do.
    #[test]
    fn all_faults_at_once() {
        let given = environment(&[
            ("FLOODGATE_LISTEN", "here"),
            ("FLOODGATE_ADMISSION__READS__PER_IP__RATE", "fast"),
            ("FLOODGATE_OPS_LISTEN", "there"),
            ("FLOODGATE_LEDGER__LANES", "many"),
        ]);
        let error = load(&flags(&[]), given).unwrap_err();
        assert_eq!(error.0.len(), 4, "{error}");
        let said = error.to_string();
        assert!(said.contains("listen: \"here\": must be IP:PORT"), "{said}");
        assert!(said.contains("(set by FLOODGATE_LISTEN)"), "{said}");
        let error = load(&flags(&[]), environment(&[("FLOODGATE_TLS__HTTP2", "x")])).unwrap_err();
        assert!(error.to_string().ends_with("(set by FLOODGATE_TLS__HTTP2)"), "{error}");
        let given = environment(&[("FLOODGATE_TRUSTED_PROXIES", "10.0.0.0/8, here")]);
        let error = load(&flags(&[]), given).unwrap_err().to_string();
        assert!(error.ends_with("(set by FLOODGATE_TRUSTED_PROXIES)"), "{error}");
        let given = environment(&[("FLOODGATE_TRUSTED_PROXIES", "10.0.0.0/8, ::1/128")]);
        assert_eq!(load(&flags(&[]), given).unwrap().settings.trusted_proxies.len(), 2);
    }

    /// An empty variable of a secret is none: compose files set it so. Others may mean what they say.
    #[test]
    fn empty_variables() {
        let given = environment(&[
            ("REDIS_URL", ""),
            ("REDIS_URL_FILE", ""),
            ("DATABASE_URL", ""),
            ("FLOODGATE_ADMIN_TOKEN", ""),
            ("FLOODGATE_ADMIN_TOKEN_FILE", ""),
            ("FLOODGATE_CONFIG", ""),
            ("FLOODGATE_TRUSTED_PROXIES", ""),
        ]);
        let settings = load(&flags(&[]), given).unwrap().settings;
        assert_eq!((settings.redis_url, settings.database_url), (None, None));
        assert_eq!(settings.admin_token, None);
        assert!(settings.trusted_proxies.is_empty(), "nobody is trusted");
    }

    /// One key has the same value alone as among the others, and their faults are not its own.
    #[test]
    fn one_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floodgate.toml");
        std::fs::write(&file, "lisen = 1\nops_listen = \"127.0.0.1:1\"\ndata_dir = \"a\"\n")
            .unwrap();
        let given = || {
            let file = ("FLOODGATE_CONFIG", file.to_str().unwrap());
            environment(&[file, ("FLOODGATE_DATA_DIR", "b"), ("REDIS_URL_FILE", "/nowhere")])
        };
        let address: SocketAddr = load_one(&flags(&[]), given(), "ops_listen").unwrap();
        assert_eq!(address.port(), 1);
        let dir: PathBuf = load_one(&flags(&[]), given(), "data_dir").unwrap();
        assert_eq!(dir, PathBuf::from("b"));
        let dir: PathBuf = load_one(&flags(&[("data_dir", "c")]), given(), "data_dir").unwrap();
        assert_eq!(dir, PathBuf::from("c"));
        let token: Option<String> = load_one(&flags(&[]), given(), "admin_token").unwrap();
        assert_eq!(token, None);
        let wrong = environment(&[("FLOODGATE_OPS_LISTEN", "there")]);
        let error = load_one::<SocketAddr>(&flags(&[]), wrong, "ops_listen").unwrap_err();
        assert!(error.to_string().contains("ops_listen"), "{error}");
    }

    /// No error shows a secret: not where the file is none, nor where a value stands in a table's place.
    #[test]
    fn errors_show_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floodgate.toml");
        let flags = Flags { file: Some(file.clone()), values: Vec::new() };
        for (text, place) in [
            ("admin_token = CANARY-canary-canary\n", "line 1, column 15: "),
            ("log = \"info\"\nadmin_token = \"CANARY-canary\n", "line 2, column "),
            ("[jwt]\nsecret = CANARY-canary-canary\n", "line 2, column 10: "),
            ("[jwt]\nsecret = 'CANARY-canary-canary", "line 2, column "),
            ("[jwt]\nissuer = \"é\" secret = \"CANARY\"", "line 2, column 14: "),
            ("redis_url = redis://:CANARY@there", "line 1, column 13: "),
            ("secret = \"a\"\nsecret = \"CANARY\"", "line 2, column 1: duplicate key"),
            ("jwt = \"CANARY\"", "jwt: "),
            ("[admin_token]\nCANARY = 1", "admin_token: "),
            ("secret = [\"CANARY\"]", "secret: "),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = load(&flags, []).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.to_lowercase().contains("canary"), "{text}: {said}");
            assert!(said.contains(place) && said.contains("floodgate.toml"), "{text}: {said}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
        let error = load(&Flags::default(), environment(&[("FLOODGATE_JWT", "CANARY")]));
        assert!(!error.unwrap_err().to_string().contains("CANARY"));
    }

    /// A secret can stand in a file, and a file that is not there is a fault that names it.
    #[test]
    fn secrets_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "a-token-of-some-length\n").unwrap();
        let name = file.to_str().unwrap();
        let given = environment(&[("FLOODGATE_ADMIN_TOKEN_FILE", name)]);
        let loaded = load(&flags(&[]), given).unwrap();
        assert_eq!(loaded.settings.admin_token.as_deref(), Some("a-token-of-some-length"));
        assert!(!format!("{:?}", loaded).contains("a-token-of"), "masked in print");
        let mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
            loaded.exposed()
        };
        let exposed = mode(0o644);
        assert_eq!((exposed.len(), exposed[0].mode, &exposed[0].file), (1, 0o644, &file));
        assert_eq!(mode(0o640), []);
        let config = dir.path().join("floodgate.toml");
        let found = |text: &str| -> Vec<PathBuf> {
            std::fs::write(&config, text).unwrap();
            std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o604))
                .unwrap();
            let flags = Flags { file: Some(config.clone()), values: Vec::new() };
            load(&flags, []).unwrap().exposed().into_iter().map(|found| found.file).collect()
        };
        let told = found("[jwt]\nsecret = \"a-secret-of-more-than-some-length\"");
        assert_eq!(told, std::slice::from_ref(&config));
        assert_eq!(found("log = \"warn\""), Vec::<PathBuf>::new());
        let error = load(&flags(&[]), environment(&[("FLOODGATE_SECRET_FILE", "/nowhere")]));
        assert!(error.unwrap_err().to_string().contains("/nowhere"));
    }
}
