//! A balancer: takes connections and hands each to a gateway that is there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a gateway may take to accept.
const ACCEPTS_WITHIN: Duration = Duration::from_millis(500);

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    accepts: JoinHandle<()>,
}

impl Front {
    /// In front of these.
    pub async fn open(behind: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (behind, turn) = (Arc::new(behind), Arc::new(AtomicUsize::new(0)));
        let accepts = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (behind, turn) = (Arc::clone(&behind), Arc::clone(&turn));
                tokio::spawn(hand_over(client, behind, turn));
            }
        });
        Ok(Self { address, accepts })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn hand_over(mut client: TcpStream, behind: Arc<Vec<SocketAddr>>, turn: Arc<AtomicUsize>) {
    for _ in 0..behind.len() {
        let next = turn.fetch_add(1, Ordering::Relaxed) % behind.len();
        let reached = timeout(ACCEPTS_WITHIN, TcpStream::connect(behind[next])).await;
        if let Ok(Ok(mut server)) = reached {
            // Either end may break it, which is the other's to see.
            let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
