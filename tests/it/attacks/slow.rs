//! People who are slow on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::patience::eventually;
use crate::shop::SALE;

/// What they are slow at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// A header line now and then.
    Heads,
    /// A byte of a body now and then.
    Bodies,
    /// They ask for much, and take a byte of it now and then.
    Reads,
    /// They say nothing at all.
    Nothing,
}

/// How long they pause.
const PAUSE: Duration = Duration::from_millis(500);
/// Requests of one that asks for much.
const ASKED: usize = 200;

/// Many of them, each of whom comes again when he is thrown out.
pub struct Attackers {
    tasks: JoinSet<()>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    over: AtomicBool,
    open: AtomicUsize,
    most_open: AtomicUsize,
    thrown_out: AtomicUsize,
}

/// What they have seen.
#[derive(Debug)]
pub struct Stopped {
    pub most_open: usize,
    pub thrown_out: usize,
}

impl Attackers {
    /// Returns when nearly all of them are connected.
    pub async fn start(attack: Attack, address: SocketAddr, count: usize) -> Self {
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let state = Arc::clone(&state);
            tasks.spawn(async move {
                while !state.over.load(Ordering::Relaxed) {
                    let Ok(stream) = connect(attack, address).await else {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    };
                    let open = state.open.fetch_add(1, Ordering::Relaxed) + 1;
                    state.most_open.fetch_max(open, Ordering::Relaxed);
                    // How it ends is the server's business.
                    let _ = attack.run(stream).await;
                    state.open.fetch_sub(1, Ordering::Relaxed);
                    state.thrown_out.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("the attackers are there", async || {
            (state.most_open.load(Ordering::Relaxed) * 10 >= count * 9).then_some(())
        })
        .await;
        Self { tasks, state }
    }

    pub async fn stop(mut self) -> Stopped {
        self.state.over.store(true, Ordering::Relaxed);
        self.tasks.shutdown().await;
        Stopped {
            most_open: self.state.most_open.load(Ordering::Relaxed),
            thrown_out: self.state.thrown_out.load(Ordering::Relaxed),
        }
    }
}

async fn connect(attack: Attack, address: SocketAddr) -> std::io::Result<TcpStream> {
    if attack != Attack::Reads {
        return TcpStream::connect(address).await;
    }
    // A small window: what is not taken stays with the server.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(2 * 1024)?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    socket.connect(address).await
}

impl Attack {
    async fn run(self, mut stream: TcpStream) -> std::io::Result<()> {
        match self {
            Attack::Heads => {
                stream.write_all(b"GET /v1/sales HTTP/1.1\r\nHost: h\r\n").await?;
                loop {
                    stream.write_all(b"X-Slow: 1\r\n").await?;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Attack::Bodies => {
                let head = format!(
                    "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nHost: h\r\nX-User-Id: eve\r\n\
                     Content-Length: 8000\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(b"{").await?;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Attack::Reads => {
                let ask = b"GET /v1/sales HTTP/1.1\r\nHost: h\r\n\r\n".repeat(ASKED);
                let (mut from, mut to) = stream.split();
                let asking = async {
                    to.write_all(&ask).await?;
                    std::future::pending::<std::io::Result<()>>().await
                };
                let taking = async {
                    loop {
                        if from.read(&mut [0]).await? == 0 {
                            return Ok(());
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                tokio::select! { ended = asking => ended, ended = taking => ended }
            }
            Attack::Nothing => {
                // Until it is cut.
                stream.read(&mut [0]).await.map(drop)
            }
        }
    }
}
