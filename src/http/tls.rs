//! TLS of the public listener: rustls, its certificate, and another one while it runs.

mod handshake;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::Gauge;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, version};
use serde::{Deserialize, Serialize};

use crate::metrics::Metrics;

pub(super) use handshake::Handshakes;
pub(super) use tokio_rustls::server::TlsStream;

/// What a client that speaks HTTP/2 is called in ALPN.
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// Bits of a mode that let everybody read a file.
const READ_BY_OTHERS: u32 = 0o004;

/// Keys of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate and those that lead to its root, as PEM. With it the public listener speaks TLS.
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
    /// Whether clients may choose HTTP/2.
    pub http2: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { cert_file: None, key_file: None, http2: true }
    }
}

impl TlsSettings {
    /// What is wrong with the keys together. The files are looked at when a gateway starts.
    pub fn faults(&self) -> Vec<String> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => vec!["tls.key_file must be set, since tls.cert_file is".to_owned()],
            (None, Some(_)) => vec!["tls.cert_file must be set, since tls.key_file is".to_owned()],
            (Some(_), Some(_)) | (None, None) => Vec::new(),
        }
    }
}

/// The certificate in force, and where the next one will be.
#[derive(Debug)]
pub struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    http2: bool,
    config: ArcSwap<ServerConfig>,
    expiry: Gauge,
}

/// Files as they were read.
struct Loaded {
    config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970.
    expiry: i64,
}

impl Tls {
    /// Reads the files; `None` where none are named.
    ///
    /// # Errors
    /// What is wrong, in a sentence that names the key.
    pub fn open(settings: &TlsSettings, metrics: &Metrics) -> Result<Option<Arc<Self>>, String> {
        let (Some(cert_file), Some(key_file)) = (&settings.cert_file, &settings.key_file) else {
            return Ok(None);
        };
        let Loaded { config, expiry } = load(cert_file, key_file, settings.http2)?;
        let tls = Self {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            http2: settings.http2,
            config: ArcSwap::from(config),
            expiry: metrics.gauge("floodgate_tls_certificate_expiry_timestamp_seconds", &[]),
        };
        tls.expiry.set(expiry as f64);
        Ok(Some(Arc::new(tls)))
    }

    /// Reads the files again. Connections that are open keep what they have.
    ///
    /// # Errors
    /// What is wrong, in a sentence that names the key; the old certificate stays.
    pub fn reload(&self) -> Result<(), String> {
        let Loaded { config, expiry } = load(&self.cert_file, &self.key_file, self.http2)?;
        self.config.store(config);
        self.expiry.set(expiry as f64);
        Ok(())
    }

    /// The files that [`Tls::reload`] reads.
    pub fn files(&self) -> [&Path; 2] {
        [&self.cert_file, &self.key_file]
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn load(cert_file: &Path, key_file: &Path, http2: bool) -> Result<Loaded, String> {
    let cert_fault = |what: String| format!("tls.cert_file: {}: {what}", cert_file.display());
    let key_fault = |what: String| format!("tls.key_file: {}: {what}", key_file.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect)
        .map_err(|error| cert_fault(error.to_string()))?;
    let first = chain.first().ok_or_else(|| cert_fault("holds no certificate".to_owned()))?;
    let expiry = expiry(first).map_err(cert_fault)?;
    check_mode(key_file).map_err(key_fault)?;
    let key =
        PrivateKeyDer::from_pem_file(key_file).map_err(|error| key_fault(error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|error| key_fault(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| key_fault(format!("does not fit the certificate: {error}")))?;
    config.alpn_protocols =
        if http2 { vec![HTTP2.into(), HTTP1.into()] } else { vec![HTTP1.into()] };
    // A request that can be replayed by whoever recorded it is none that takes units.
    config.max_early_data_size = 0;
    // Sessions are resumed by tickets whose keys change by themselves: no memory for each client.
    config.ticketer = ring::Ticketer::new().map_err(|error| key_fault(error.to_string()))?;
    Ok(Loaded { config: Arc::new(config), expiry })
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, certificate) = parsed.map_err(|error| format!("cannot be read: {error}"))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// A key that everybody on the machine can read is no secret.
fn check_mode(file: &Path) -> Result<(), String> {
    let metadata = File::open(file).and_then(|file| file.metadata());
    let mode = metadata.map_err(|error| error.to_string())?.permissions().mode();
    if mode & READ_BY_OTHERS != 0 {
        return Err("can be read by everybody; take that right away (chmod 640)".to_owned());
    }
    Ok(())
}
