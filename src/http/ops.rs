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
use hyper::body::{Body, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;

use self::route::{Route, Router};
use super::answer::{self, Answer};
use super::body;
use super::problem::Problem;
use super::request::{Head, REQUEST_ID};
use super::server::Service;
use crate::admission::Guard;
use crate::carts::CartCache;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::identity::admins::{Admin, Admins};
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
    admins: Arc<Admins>,
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
    pub admins: Arc<Admins>,
    /// Where the gateway is in its life.
    pub state: watch::Receiver<State>,
    /// Whether a lane has failed.
    pub failed: watch::Receiver<bool>,
}

impl Ops {
    /// The ops API over these.
    pub fn new(parts: Parts) -> Self {
        let Parts { gate, store, store_guard, switches, carts, clock, metrics, .. } = parts;
        let Parts { progress, admins, state, failed, .. } = parts;
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
            admins,
            router,
            state,
            failed,
        }
    }

    /// What anybody may ask.
    async fn tell(&self, head: &Head) -> Result<Answer, Problem> {
        head.check()?;
        let route = self.router.route(head.uri.path()).ok_or(Problem::NotFound)?;
        match (&route, head.read_as()) {
            (Route::Live, Method::GET) => {
                Ok(answer::value(StatusCode::OK, &json!({ "status": "ok" })))
            }
            (Route::Ready, Method::GET) => Ok(self.ready(head).await),
            (Route::Metrics, Method::GET) => Ok(self.scrape().await),
            (Route::Version, Method::GET) => {
                let version = env!("CARGO_PKG_VERSION");
                Ok(answer::value(
                    StatusCode::OK,
                    &json!({ "name": "floodgate", "version": version }),
                ))
            }
            (Route::OpenApi, Method::GET) => Ok(answer::json(StatusCode::OK, OPENAPI)),
            (route, _) => Err(Problem::MethodNotAllowed { allow: route.allow() }),
        }
    }

    /// What operators ask.
    async fn operate(
        &self,
        head: &Head,
        body: &mut Incoming,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let method = head.read_as();
        if method != Method::GET && !admin.may_change() {
            return Err(Problem::Forbidden);
        }
        let route = self.router.route(head.uri.path()).ok_or(Problem::NotFound)?;
        if method != Method::GET
            && !route.goes_on()
            && let Some(switch) = self.switches.against_changes()
        {
            return Err(Problem::SwitchedOff(switch));
        }
        match (&route, method) {
            (Route::Sales, Method::GET) => self.list_sales().await,
            (Route::Sales, Method::POST) => self.create_sale(head, body, admin).await,
            (Route::Sale { sale }, Method::GET) => self.show_sale(sale).await,
            (Route::ArchiveSale { sale }, Method::POST) => self.archive_sale(sale, admin).await,
            (Route::MoveSale { sale, step }, Method::POST) => {
                self.move_sale(sale, step, admin).await
            }
            (Route::Restock { sale, item }, Method::POST) => {
                self.restock((sale, item), head, body, admin).await
            }
            (Route::Confirm { id }, Method::POST) => self.confirm(id, head, body).await,
            (Route::Cancel { id }, Method::POST) => self.cancel(id, head, body, admin).await,
            (Route::Switches, Method::GET) => Ok(self.list_switches()),
            (Route::Switch { name }, Method::PUT) => self.set_switch(name, head, body, admin).await,
            (Route::AuditLog, Method::GET) => self.audit_log(head).await,
            (Route::DeadLetters, Method::GET) => self.dead_letters(head).await,
            (Route::DeadLetter { id }, Method::GET) => self.show_dead_letter(id).await,
            (Route::DeadLetter { id }, Method::DELETE) => self.drop_dead_letter(id, admin).await,
            (Route::RetryDeadLetter { id }, Method::POST) => {
                self.retry_dead_letter(id, admin).await
            }
            (route, _) => Err(Problem::MethodNotAllowed { allow: route.allow() }),
        }
    }

    /// Who operates. Whether an admin path exists is nobody's business who may not use it.
    fn admit(&self, head: &Head) -> Result<Admin, Problem> {
        head.check()?;
        self.admins.find(head.bearer()?).ok_or(Problem::IdentityRequired)
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
        let (head, mut body) = Head::of(request);
        let request_id = head.request_id();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let mut actor = None;
        let answered = if !path.starts_with("/admin") {
            self.tell(&head).await
        } else {
            match self.admit(&head) {
                Ok(admin) => {
                    let answered = self.operate(&head, &mut body, &admin).await;
                    actor = Some(admin.name);
                    answered
                }
                Err(problem) => Err(problem),
            }
        };
        let mut answer = answered.unwrap_or_else(|problem| {
            problem.log(&request_id);
            problem.into_answer(self.clock.now())
        });
        if let Some(actor) = actor.filter(|_| method != Method::GET) {
            let status = answer.status().as_u16();
            let request_id = request_id.to_str().unwrap_or_default();
            tracing::info!(%method, path, status, actor, request_id, "operated");
        }
        let policy = HeaderValue::from_static("default-src 'none'");
        answer.headers_mut().insert(hyper::header::CONTENT_SECURITY_POLICY, policy);
        answer.headers_mut().insert(REQUEST_ID, request_id);
        // Last: whoever goes meanwhile has operated all the same.
        if !body.is_end_stream() {
            body::leave(&head, &mut body, &mut answer).await;
        }
        answer
    }
}
