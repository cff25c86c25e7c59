//! The command line's side of the ops API.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::arguments::OpsArguments;
use super::{Exit, Failure};
use crate::app;

/// How long a gateway may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A gateway's ops API.
pub(super) struct Ops {
    authority: String,
    token: Option<String>,
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

    /// The gateway that the arguments name, with its token.
    pub(super) fn of(arguments: &OpsArguments) -> Result<Self, Failure> {
        let token = match &arguments.admin_token {
            Some(token) => token.clone(),
            None => app::read_token(&arguments.data_dir).map_err(|error| {
                Failure::new(Exit::Failure, format!("{error}; give --admin-token or --data-dir"))
            })?,
        };
        Self::at(&arguments.ops_url, Some(token))
    }

    /// Asks, and expects JSON with a status below 400. A problem becomes a failure in its words.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let (status, body) = self.send(method, path, body).await?;
        if status < 400 {
            return Ok(body);
        }
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let mut message = format!("{} ({status} {})", text("detail"), text("code"));
        for fault in body["errors"].as_array().into_iter().flatten() {
            let (field, detail) = (&fault["field"], &fault["detail"]);
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            message.push_str(&format!("\n  {}: {}", word(field), word(detail)));
        }
        Err(Failure::new(Exit::Failure, message))
    }

    /// Asks for anything; the status and the body as JSON, or null where it is none.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Failure> {
        let unavailable = |error: String| {
            Failure::new(Exit::Unavailable, format!("the gateway at {}: {error}", self.authority))
        };
        match tokio::time::timeout(DEADLINE, self.exchange(method, path, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
            Err(_) => Err(unavailable("no answer in time".to_owned())),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
        drop(sender);
        connection.abort();
        Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null)))
    }
}
