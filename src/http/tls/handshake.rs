//! Handshakes: bounded in time and number.

use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tls;
use crate::limits;

/// The handshakes of one listener.
#[derive(Debug)]
pub(in crate::http) struct Handshakes(Semaphore);

impl Handshakes {
    pub(in crate::http) fn new() -> Self {
        Self(Semaphore::new(limits::TLS_HANDSHAKES_MAX))
    }

    /// Makes a TLS stream; `None` where the client does not speak it, or not in time.
    pub(in crate::http) async fn shake<T>(&self, tls: &Tls, stream: T) -> Option<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let within = Duration::from_millis(limits::TLS_HANDSHAKE_MS);
        let shaken = timeout(within, async {
            // Whoever says nothing takes up no place.
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
            let _place = self.0.acquire().await.ok()?;
            // The certificate that is in force now.
            hello.into_stream(tls.config()).await.ok()
        });
        shaken.await.ok().flatten()
    }
}
