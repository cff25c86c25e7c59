//! What a gateway listens on: addresses of its own, or sockets that a supervisor keeps open.
//!
//! A listener that a supervisor holds outlives the process. While one gateway drains and the next one starts,
//! buyers' connections wait in its queue instead of being refused; nothing else hands them over without a gap.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::sync::watch;

use super::StartError;
use crate::config::Settings;
use crate::http::ops::Ops;
use crate::http::{Tuning, bind, serve};
use crate::runtimes::Handles;

/// Listening sockets that the process was started with, by the convention of systemd's socket activation
/// (sd_listen_fds(3)): `LISTEN_FDS` of them from descriptor 3 on, the public one first, the ops one second.
#[derive(Debug, Default)]
pub struct Handed {
    public: Option<TcpListener>,
    ops: Option<TcpListener>,
}

impl Handed {
    /// Takes what the environment announces, and the announcement out of the environment. To be called
    /// once, before there are other threads.
    ///
    /// # Errors
    /// A sentence: there are more than two, or one is no listening TCP socket.
    pub fn take() -> Result<Self, String> {
        let given = std::env::var("LISTEN_FDS").unwrap_or_default();
        if !given.is_empty() && !matches!(given.as_str(), "0" | "1" | "2") {
            return Err(format!(
                "LISTEN_FDS is {given:?}; it may be 1 (the public listener) or 2 (and the ops listener)"
            ));
        }
        let mut handed = ListenFd::from_env();
        let mut take = |index, name: &str| {
            let socket = handed.take_tcp_listener(index).and_then(listening);
            socket.map_err(|error| format!("the {name} listener of LISTEN_FDS: {error}"))
        };
        Ok(Self { public: take(0, "public")?, ops: take(1, "ops")? })
    }
}

/// It may block, as it comes; tokio wants it not to.
fn listening(socket: Option<TcpListener>) -> io::Result<Option<TcpListener>> {
    if let Some(socket) = &socket {
        if !SockRef::from(socket).is_listener()? {
            return Err(io::Error::other("it does not listen"));
        }
        socket.set_nonblocking(true)?;
    }
    Ok(socket)
}

/// What a gateway listens on: everything that may still fail once the lanes run.
pub(super) struct Ends {
    pub public: tokio::net::TcpListener,
    pub public_address: SocketAddr,
    pub ops: OpsEnd,
    pub ops_address: SocketAddr,
}

/// The ops listener and its own runtime.
pub(super) struct OpsEnd {
    listener: TcpListener,
    runtime: tokio::runtime::Runtime,
}

impl Ends {
    /// What was handed over, and for the rest the addresses of the settings.
    pub(super) fn open(settings: &Settings, handed: Handed) -> Result<Self, StartError> {
        let open = |address, handed: Option<TcpListener>| -> io::Result<_> {
            let listener = handed.map_or_else(|| bind(address), Ok)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let failed = |address| move |cause| StartError::Listen { address, cause };
        let (public, public_address) =
            open(settings.listen, handed.public).map_err(failed(settings.listen))?;
        let public = tokio::net::TcpListener::from_std(public).map_err(failed(settings.listen))?;
        let (listener, ops_address) =
            open(settings.ops_listen, handed.ops).map_err(failed(settings.ops_listen))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed(settings.ops_listen))?;
        let ops = OpsEnd { listener, runtime };
        Ok(Self { public, public_address, ops, ops_address })
    }
}

/// Runs the ops listener on a thread and runtime of its own, so that health and metrics answer when
/// the public listener has every other thread busy.
pub(super) fn serve_ops(
    end: OpsEnd,
    ops: Arc<Ops>,
    tuning: Tuning,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, StartError> {
    let OpsEnd { listener, runtime } = end;
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let run = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => serve(listener, ops, tuning, Handles::current(), stop).await,
                Err(error) => tracing::error!(%error, "the ops listener does not start"),
            }
        });
    };
    let thread = std::thread::Builder::new().name("ops".to_owned()).spawn(run);
    thread.map_err(|cause| StartError::Listen { address, cause })
}
