//! The operator's side of a server: create and open a sale, look at its counters, take a payment.

mod access;
mod view;

pub use access::OpsAccess;
pub use view::{ItemSpec, ItemView, SaleSpec, SaleView};

use bytes::Bytes;
use thiserror::Error;

use crate::client::{Client, Fault, HeaderName, Method, Reply, header};

/// Why an operator's request did not do what it should.
#[derive(Debug, Error)]
pub enum OpsError {
    /// No answer.
    #[error("ops api at {0}: {1}")]
    Fault(std::net::SocketAddr, Fault),
    /// Another answer than the one that was needed.
    #[error("ops api: {what} answered {status}: {body}")]
    Answer {
        /// What was asked for.
        what: String,
        /// The status of the answer.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
    /// An answer that cannot be read.
    #[error("ops api: {0}: {1}")]
    Unreadable(String, serde_json::Error),
}

/// A client of the ops listener.
#[derive(Debug)]
pub struct OpsClient {
    client: Client,
    bearer: String,
}

impl OpsClient {
    /// A client that connects when it is first used.
    #[must_use]
    pub fn new(access: &OpsAccess) -> Self {
        let bearer = format!("Bearer {}", access.token);
        Self { client: Client::new(access.addr), bearer }
    }

    /// `GET /admin/v1/sales/{sale}`.
    ///
    /// # Errors
    ///
    /// No answer, or no such sale.
    pub async fn sale(&mut self, sale: &str) -> Result<SaleView, OpsError> {
        let what = format!("sale {sale}");
        let path = format!("/admin/v1/sales/{sale}");
        let reply = self.expect(&what, Method::GET, &path, Bytes::new(), &[200]).await?;
        serde_json::from_slice(&reply.body).map_err(|bad| OpsError::Unreadable(what, bad))
    }

    /// Creates a sale; the same again is no error.
    ///
    /// # Errors
    ///
    /// No answer, or the sale was refused.
    pub async fn create_sale(&mut self, spec: &SaleSpec) -> Result<(), OpsError> {
        let what = format!("creating sale {}", spec.id);
        let body =
            serde_json::to_vec(spec).map_err(|bad| OpsError::Unreadable(what.clone(), bad))?;
        let done = self.expect(&what, Method::POST, "/admin/v1/sales", body.into(), &[200, 201]);
        done.await.map(drop)
    }

    /// `POST /admin/v1/sales/{sale}/{transition}`: `open`, `pause`, `resume` or `close`.
    ///
    /// # Errors
    ///
    /// No answer, or a transition that makes no sense.
    pub async fn transition(&mut self, sale: &str, transition: &str) -> Result<(), OpsError> {
        let what = format!("{transition} of sale {sale}");
        let path = format!("/admin/v1/sales/{sale}/{transition}");
        self.expect(&what, Method::POST, &path, Bytes::new(), &[200]).await.map(drop)
    }

    /// Whether `GET /readyz` answers 200.
    ///
    /// # Errors
    ///
    /// No answer at all.
    pub async fn is_ready(&mut self) -> Result<bool, Fault> {
        self.send(Method::GET, "/readyz", Bytes::new()).await.map(|reply| reply.status == 200)
    }

    /// What the gateway says of itself, for people.
    ///
    /// # Errors
    ///
    /// No answer at all.
    pub async fn readiness(&mut self) -> Result<String, Fault> {
        let reply = self.send(Method::GET, "/readyz?verbose", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    /// `POST /admin/v1/reservations/{id}/confirm` with a payment's reference.
    ///
    /// # Errors
    ///
    /// No answer; refusals are answers.
    pub async fn confirm(&mut self, reservation: &str, payment: &str) -> Result<Reply, Fault> {
        let path = format!("/admin/v1/reservations/{reservation}/confirm");
        let body = serde_json::json!({ "payment_ref": payment }).to_string();
        self.send(Method::POST, &path, body.into()).await
    }

    /// Any request with the admin token.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Reply, Fault> {
        const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");
        let bearer = (header::AUTHORIZATION, self.bearer.as_str());
        let headers: &[_] = if body.is_empty() { &[bearer] } else { &[bearer, JSON] };
        self.client.request(method, path, headers, body).await
    }

    async fn expect(
        &mut self,
        what: &str,
        method: Method,
        path: &str,
        body: Bytes,
        wanted: &[u16],
    ) -> Result<Reply, OpsError> {
        let answered = self.send(method, path, body).await;
        let reply = answered.map_err(|fault| OpsError::Fault(self.client.addr(), fault))?;
        if wanted.contains(&reply.status) {
            return Ok(reply);
        }
        let body = String::from_utf8_lossy(&reply.body).chars().take(500).collect();
        Err(OpsError::Answer { what: what.to_owned(), status: reply.status, body })
    }
}
