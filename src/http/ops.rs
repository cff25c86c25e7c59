//! The ops API: health, metrics, and what operators and payment providers do. Contract §4.
//!
//! Everything below `/admin` wants the admin token; health, metrics and the description of the API do
//! not. The listener is one that buyers cannot reach.

mod dead;
mod health;
mod operate;
mod route;
mod scrape;
mod switches;

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use self::route::{Route, Router};
use super::answer::{self, Answer};
use super::problem::Problem;
use super::request::{Head, REQUEST_ID};
use super::server::Service;
use crate::admission::Guard;
use crate::carts::CartCache;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::switches::Switches;
use crate::writer::Progress;

/// What the ops listener serves from.
pub struct Ops {
    gate: Arc<Gate>,
    store: Arc<dyn Store>,
    store_guard: Arc<Guard>,
    switches: Arc<Switches>,
    carts: Arc<CartCache>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    progress: Progress,
    token: Secret,
    router: Router,
    state: watch::Receiver<State>,
    failed: watch::Receiver<bool>,
}

/// Where the gateway is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Serving,
    /// It finishes what it is at.
    Draining,
}

/// A secret that is compared in constant time and never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    fn is(&self, given: &str) -> bool {
        bool::from(self.0.as_bytes().ct_eq(given.as_bytes()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What an [`Ops`] is made of.
pub struct Parts {
    /// The way to the ledger.
    pub gate: Arc<Gate>,
    /// The books.
    pub store: Arc<dyn Store>,
    /// The circuit breaker in front of them.
    pub store_guard: Arc<Guard>,
    /// What an operator has switched off.
    pub switches: Arc<Switches>,
    /// Carts that were read lately.
    pub carts: Arc<CartCache>,
    /// This gateway's clock.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How far the books are.
    pub progress: Progress,
    /// Who may operate.
    pub token: Secret,
    /// Where the gateway is in its life.
    pub state: watch::Receiver<State>,
    /// Whether a lane has failed.
    pub failed: watch::Receiver<bool>,
}

impl Ops {
    /// The ops API over these.
    pub fn new(parts: Parts) -> Self {
        let Parts { gate, store, store_guard, switches, carts, clock, metrics, .. } = parts;
        let Parts { progress, token, state, failed, .. } = parts;
        let router = Router::new();
        Self {
            gate,
            store,
            store_guard,
            switches,
            carts,
            clock,
            metrics,
            progress,
            token,
            router,
            state,
            failed,
        }
    }

    async fn dispatch(&self, head: Head, body: Incoming) -> Result<Answer, Problem> {
        head.check()?;
        let path = head.uri.path().to_owned();
        let route = self.router.route(&path);
        // Whether an admin path exists is nobody's business who may not use it.
        if path.starts_with("/admin") {
            self.check_token(&head)?;
        }
        let route = route.ok_or(Problem::NotFound)?;
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        if method != Method::GET
            && !route.goes_on()
            && let Some(switch) = self.switches.against_changes()
        {
            return Err(Problem::SwitchedOff(switch));
        }
        match (&route, method) {
            (Route::Live, Method::GET) => {
                Ok(answer::value(StatusCode::OK, &json!({ "status": "ok" })))
            }
            (Route::Ready, Method::GET) => Ok(self.ready(&head).await),
            (Route::Metrics, Method::GET) => Ok(self.scrape().await),
            (Route::Version, Method::GET) => {
                let version = env!("CARGO_PKG_VERSION");
                Ok(answer::value(
                    StatusCode::OK,
                    &json!({ "name": "floodgate", "version": version }),
                ))
            }
            (Route::OpenApi, Method::GET) => Ok(answer::json(StatusCode::OK, OPENAPI)),
            (Route::Sales, Method::GET) => self.list_sales().await,
            (Route::Sales, Method::POST) => self.create_sale(&head, body).await,
            (Route::Sale { sale }, Method::GET) => self.show_sale(sale).await,
            (Route::ArchiveSale { sale }, Method::POST) => self.archive_sale(sale).await,
            (Route::MoveSale { sale, step }, Method::POST) => self.move_sale(sale, step).await,
            (Route::Restock { sale, item }, Method::POST) => {
                self.restock(sale, item, &head, body).await
            }
            (Route::Confirm { id }, Method::POST) => self.confirm(id, &head, body).await,
            (Route::Cancel { id }, Method::POST) => self.cancel(id, &head, body).await,
            (Route::Switches, Method::GET) => Ok(self.list_switches()),
            (Route::Switch { name }, Method::PUT) => self.set_switch(name, &head, body).await,
            (Route::AuditLog, Method::GET) => self.audit_log(&head).await,
            (Route::DeadLetters, Method::GET) => self.dead_letters(&head).await,
            (Route::DeadLetter { id }, Method::GET) => self.show_dead_letter(id).await,
            (Route::DeadLetter { id }, Method::DELETE) => self.drop_dead_letter(id).await,
            (Route::RetryDeadLetter { id }, Method::POST) => self.retry_dead_letter(id).await,
            (route, _) => Err(Problem::MethodNotAllowed { allow: route.allow() }),
        }
    }

    fn check_token(&self, head: &Head) -> Result<(), Problem> {
        let given = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme_and_token = given.and_then(|given| given.split_once(' '));
        let token = scheme_and_token
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        match token {
            Some(token) if self.token.is(token) => Ok(()),
            _ => Err(Problem::IdentityRequired),
        }
    }
}

/// The description of both listeners' APIs.
pub const OPENAPI: &str = include_str!("ops/openapi.json");

impl Service for Ops {
    async fn answer(
        self: Arc<Self>,
        _peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Full<bytes::Bytes>> {
        let (head, body) = Head::of(request);
        let request_id = head.request_id();
        let line = (head.method.clone(), head.uri.path().to_owned());
        let mut answer = match self.dispatch(head, body).await {
            Ok(answer) => answer,
            Err(problem) => problem.into_answer(self.clock.now()),
        };
        let known = answer.status() != StatusCode::UNAUTHORIZED;
        if known && line.1.starts_with("/admin") && line.0 != Method::GET {
            let (method, path) = line;
            let status = answer.status().as_u16();
            let request_id = request_id.to_str().unwrap_or_default();
            tracing::info!(%method, path, status, request_id, "operated");
        }
        let policy = HeaderValue::from_static("default-src 'none'");
        answer.headers_mut().insert(hyper::header::CONTENT_SECURITY_POLICY, policy);
        answer.headers_mut().insert(REQUEST_ID, request_id);
        answer
    }
}
