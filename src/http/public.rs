//! The public API: what buyers and their shops ask. Contract §3.

mod cart;
mod kept;
mod meter;
mod orders;
mod reservations;
mod route;
mod sales;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderName, ORIGIN};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;
use tokio::time::timeout;

use self::kept::Kept;
use self::meter::Meter;
use self::route::{Route, Router};
use super::answer::{self, Answer};
use super::body;
use super::caller::Identity;
use super::client::{ClientAddress, Clients};
use super::cors::Cors;
use super::problem::Problem;
use super::request::{Head, REQUEST_ID};
use super::server::Service;
use super::settings::HttpSettings;
use crate::admission::{Admitted, Asking, Buckets, Guard, Verdict};
use crate::carts::CartCache;
use crate::clock::Clock;
use crate::gate::{Denied, Gate};
use crate::limits;
use crate::metrics::Metrics;
use crate::sale::UserId;
use crate::store::{Job, Store, StoreError};
use crate::switches::Switches;

#[cfg(any(test, fuzzing))]
pub(super) use reservations::lines as read_wish;
pub use reservations::to_json as reservation_json;
#[cfg(test)]
pub(super) use route::PATTERNS;

/// What the public listener serves from.
pub struct Public {
    gate: Arc<Gate>,
    store: Arc<dyn Store>,
    store_guard: Arc<Guard>,
    switches: Arc<Switches>,
    carts: Arc<CartCache>,
    kept: Kept,
    clock: Arc<dyn Clock>,
    identity: Identity,
    clients: Clients,
    buckets: Arc<Buckets>,
    cors: Cors,
    body_within: Duration,
    router: Router,
    meter: Meter,
    draining: AtomicBool,
}

/// What a [`Public`] is made of.
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
    /// Whom to believe.
    pub identity: Identity,
    /// Which header names the client.
    pub client_address: ClientAddress,
    /// The token buckets.
    pub buckets: Arc<Buckets>,
    /// How requests are taken.
    pub http: HttpSettings,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// A request on its way through a handler.
struct Call<'r> {
    peer: SocketAddr,
    /// By which address its sender is limited, if by any.
    client: Option<IpAddr>,
    head: &'r Head,
    /// Whoever does not want it leaves it.
    body: &'r mut Incoming,
}

impl Public {
    /// The public API over these.
    pub fn new(parts: Parts) -> Self {
        let Parts { gate, store, store_guard, switches, carts, clock, identity, .. } = parts;
        let Parts { client_address, buckets, http, metrics, .. } = parts;
        let trusted = identity.trusted_proxies.clone();
        Self {
            gate,
            store,
            store_guard,
            switches,
            carts,
            kept: Kept::new(),
            clock,
            identity,
            clients: Clients::new(client_address, trusted, &metrics),
            buckets,
            // What is wrong with it was told when the configuration was read.
            cors: Cors::of(&http.cors_origins).unwrap_or(Cors::Off),
            body_within: Duration::from_millis(http.body_ms),
            router: Router::new(),
            meter: Meter::new(&metrics),
            draining: AtomicBool::new(false),
        }
    }

    /// New reservations are refused from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn dispatch(&self, route: Option<Route<'_>>, call: Call<'_>) -> Result<Answer, Problem> {
        call.head.check()?;
        if let Some(answer) = self.cors.preflight(call.head) {
            return Ok(answer);
        }
        let Some(route) = route else { return Err(Problem::NotFound) };
        match (&route, call.head.read_as()) {
            (Route::Sales, Method::GET) => {
                self.admit_read(&call, None)?;
                Ok(self.list_sales(call.head))
            }
            (Route::Sale { sale }, Method::GET) => {
                self.admit_read(&call, None)?;
                self.show_sale(sale, call.head)
            }
            (Route::Reservations { sale }, Method::POST) => self.reserve(sale, call).await,
            (Route::Reservation { id }, Method::GET) => self.show_reservation(id, call).await,
            (Route::Reservation { id }, Method::DELETE) => self.cancel(id, call).await,
            (Route::Orders, Method::GET) => self.list_orders(call).await,
            (Route::Order { id }, Method::GET) => self.show_order(id, call).await,
            (Route::Cart, Method::GET) => self.show_cart(call).await,
            (Route::Cart, Method::DELETE) => self.clear_cart(call).await,
            (Route::CartMerge, Method::POST) => self.merge_carts(call).await,
            (Route::CartItem { item }, Method::POST) => self.add_to_cart(item, call).await,
            (Route::CartItem { item }, Method::PUT) => self.put_in_cart(item, call).await,
            (Route::CartItem { item }, Method::DELETE) => self.take_out_of_cart(item, call).await,
            (Route::Time, Method::GET) => {
                self.admit_read(&call, None)?;
                let now = self.clock.now();
                let body = json!({ "server_time": now.to_string(), "unix_ms": now.0 });
                Ok(answer::value(StatusCode::OK, &body))
            }
            (Route::Health, Method::GET) => {
                Ok(answer::value(StatusCode::OK, &json!({ "status": "ok" })))
            }
            (route, _) => Err(Problem::MethodNotAllowed { allow: route.allow() }),
        }
    }

    /// Who reads, or cancels; a refusal if they do it too often.
    fn reader(&self, call: &Call<'_>) -> Result<UserId, Problem> {
        let user = self.identity.require(call.peer.ip(), call.head)?;
        self.admit_read(call, Some(&user))?;
        Ok(user)
    }

    fn admit_read(&self, call: &Call<'_>, user: Option<&UserId>) -> Result<(), Problem> {
        let asking = Asking { user: user.map(UserId::as_str), client: call.client, sale: None };
        Ok(self.buckets.admit_read(asking)?)
    }

    /// Lets a write through that is in no sale.
    async fn admit_write(
        &self,
        user: &UserId,
        client: Option<IpAddr>,
    ) -> Result<Admitted, Problem> {
        let asking = Asking { user: Some(user.as_str()), client, sale: None };
        Ok(self.buckets.admit_write(asking).await?)
    }

    /// Reads from the store within bounds; not at all where it has not answered for a while.
    async fn read_store<'s, T>(
        &'s self,
        read: impl FnOnce(&'s dyn Store) -> Job<'s, T>,
    ) -> Result<T, Problem> {
        let call = self.store_guard.admit().ok_or(Problem::StoreUnavailable(None))?;
        let started = Instant::now();
        let answer = timeout(STORE_REPLY, read(self.store.as_ref())).await;
        call.settle(match &answer {
            Ok(Ok(_)) => Verdict::Answered,
            // It had no room: at once, or was waited for in vain.
            Ok(Err(StoreError::Overloaded)) if started.elapsed() < STORE_SLOW => Verdict::Mute,
            Ok(Err(_)) | Err(_) => Verdict::Failed,
        });
        Ok(answer.map_err(|_| Problem::Denied(Denied::Overloaded))??)
    }

    /// Changes the store within bounds. Beyond them nobody knows whether it is done; where the store
    /// does not answer those who read, it is certainly not.
    async fn change_store<'s, T>(
        &'s self,
        change: impl FnOnce(&'s dyn Store) -> Job<'s, T>,
    ) -> Result<T, Problem> {
        if self.store_guard.is_refusing() {
            return Err(Problem::StoreUnavailable(None));
        }
        let answer = timeout(STORE_REPLY, change(self.store.as_ref())).await;
        Ok(answer.map_err(|_| Problem::Denied(Denied::OutcomeUnknown))??)
    }
}

impl Service for Public {
    async fn answer(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Full<bytes::Bytes>> {
        let started = Instant::now();
        let (mut head, mut body) = Head::of(request);
        head.body_within = self.body_within;
        if head.version == Version::HTTP_2 && head.has_body && !head.takes_body() {
            head.has_body = body::follows(&head, &mut body).await;
        }
        let request_id = head.request_id();
        let origin = head.headers.get(ORIGIN).cloned();
        let traceparent = head.headers.get(TRACEPARENT).cloned();
        let route = self.router.route(head.uri.path());
        let meter = self.meter.of(route.as_ref());
        let client = self.clients.address(peer.ip(), &head.headers);
        let call = Call { peer, client, head: &head, body: &mut body };
        let mut answer = match self.dispatch(route, call).await {
            Ok(answer) => answer,
            Err(problem) => {
                problem.log(&request_id);
                problem.into_answer(self.clock.now())
            }
        };
        if !body.is_end_stream() {
            body::leave(&head, &mut body, &mut answer).await;
        }
        meter.record(answer.status(), started.elapsed());
        self.cors.label(origin.as_ref(), &mut answer);
        let headers = answer.headers_mut();
        headers.insert(REQUEST_ID, request_id);
        if let Some(traceparent) = traceparent {
            headers.insert(TRACEPARENT, traceparent);
        }
        answer
    }
}

/// How long anybody waits for the store.
const STORE_REPLY: Duration = Duration::from_millis(limits::STORE_REPLY_MS);
/// Whoever says after so long that there was no room has not answered.
const STORE_SLOW: Duration = Duration::from_millis(limits::BREAKER_SLOW_MS);

/// W3C trace context: passed on as it came.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
