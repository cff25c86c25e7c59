//! The command line's side of the ops API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use super::arguments::OpsArguments;
use super::config::environment;
use super::{Exit, Failure};
use crate::app;
use crate::config::{self, Flags};

/// How long a gateway may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is asked of a gateway.
pub(super) struct Question {
    method: Method,
    path: String,
    /// What it is about, in words: what is not there, where the answer is 404.
    about: String,
    body: Option<Value>,
    key: Option<String>,
}

impl Question {
    pub(super) fn new(method: Method, path: impl Into<String>, about: impl Into<String>) -> Self {
        Self { method, path: path.into(), about: about.into(), body: None, key: None }
    }

    pub(super) fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Asked again with the same key, it is the same change.
    pub(super) fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}

/// A gateway's ops API.
pub(super) struct Ops {
    authority: String,
    token: Option<String>,
}

/// The ops API's address: given, or where the configuration has the gateway listen.
fn url(arguments: &OpsArguments) -> Result<String, Failure> {
    let variable = || std::env::var("FLOODGATE_OPS_URL").ok().filter(|url| !url.is_empty());
    if let Some(url) = arguments.ops_url.clone().or_else(variable) {
        return Ok(url);
    }
    let mut address: SocketAddr = configured(arguments, "ops_listen")?;
    // Who listens everywhere is asked here.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(format!("http://{address}"))
}

/// The admin token: given, or the configuration's, or that of the data dir.
fn token(arguments: &OpsArguments) -> Result<String, Failure> {
    if let Some(token) = &arguments.admin_token {
        return Ok(token.clone());
    }
    if let Some(token) = configured(arguments, "admin_token")? {
        return Ok(token);
    }
    let dir: PathBuf = match &arguments.data_dir {
        Some(dir) => dir.clone(),
        None => configured(arguments, "data_dir")?,
    };
    app::read_token(&dir).map_err(|error| {
        Failure::new(Exit::Failure, format!("{error}; give --admin-token or --data-dir"))
    })
}

/// A key as the gateway's configuration has it.
fn configured<T: DeserializeOwned>(arguments: &OpsArguments, key: &str) -> Result<T, Failure> {
    let flags = Flags { file: arguments.config.clone(), values: Vec::new() };
    Ok(config::load_one(&flags, environment(), key)?)
}

impl Ops {
    /// The gateway at that address; `http://` only: it listens beside the operator.
    pub(super) fn at(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let wrong =
            || Failure::new(Exit::Usage, format!("--ops-url {url}: must be http://HOST:PORT"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let authority = authority.ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: format!("{}:{port}", authority.host()), token })
    }

    /// The gateway that the arguments or its configuration name, with its token.
    pub(super) fn of(arguments: &OpsArguments) -> Result<Self, Failure> {
        Self::at(&url(arguments)?, Some(token(arguments)?))
    }

    /// The same without a token.
    pub(super) fn unnamed(arguments: &OpsArguments) -> Result<Self, Failure> {
        Self::at(&url(arguments)?, None)
    }

    /// Asks, and expects JSON with a status below 400. A problem becomes a failure in its words.
    pub(super) async fn ask(&self, question: &Question) -> Result<Value, Failure> {
        let answer = self.send(question).await.and_then(|(status, body)| match status {
            0..400 => Ok(body),
            _ => Err((self.problem(question, status, &body), status >= 500)),
        });
        // The same key makes it the same change, whether it was made or not.
        answer.map_err(|(mut failure, unknown)| {
            if let (Some(key), true) = (&question.key, unknown) {
                failure.message.push_str(&format!("\n  to ask again safely: --key {key}"));
            }
            failure
        })
    }

    fn problem(&self, question: &Question, status: u16, body: &Value) -> Failure {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let code = text("code");
        let detail = match code.as_str() {
            "not-found" => format!("there is no {}", question.about),
            "identity-required" => {
                format!("the admin token is not known to the gateway at http://{}", self.authority)
            }
            _ => text("detail"),
        };
        let mut message = format!("{detail} ({status} {code})");
        for fault in body["errors"].as_array().into_iter().flatten() {
            let (field, detail) = (&fault["field"], &fault["detail"]);
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            message.push_str(&format!("\n  {}: {}", word(field), word(detail)));
        }
        Failure::new(Exit::Failure, message)
    }

    /// The status alone, of a question that needs no token.
    pub(super) async fn status(&self, question: &Question) -> Result<u16, Failure> {
        let answer = self.send(question).await;
        answer.map(|(status, _)| status).map_err(|(failure, _)| failure)
    }

    /// The status and the body as JSON, or null where it is none. A failure says as well whether the gateway
    /// may have done what was asked.
    async fn send(&self, question: &Question) -> Result<(u16, Value), (Failure, bool)> {
        let unavailable = |error: String| {
            let message = format!("the gateway at {}: {error}", self.authority);
            (Failure::new(Exit::Unavailable, message), true)
        };
        match tokio::time::timeout(DEADLINE, self.exchange(question)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
            Err(_) => Err(unavailable("no answer in time".to_owned())),
        }
    }

    async fn exchange(
        &self,
        question: &Question,
    ) -> Result<(u16, Value), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(question.method.clone())
            .uri(&question.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = &question.key {
            request = request.header("idempotency-key", key);
        }
        let body = question.body.as_ref().map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
        drop(sender);
        connection.abort();
        Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null)))
    }
}
