//! A TCP proxy that makes connections fail in the ways that matter: an answer that is lost after the
//! question was served, and a peer that is not there.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Forwards connections until it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Every so manieth answer is lost; 0: none.
    swallow_every: AtomicU64,
    answers: AtomicU64,
    swallowed: AtomicU64,
    stopped: AtomicBool,
}

impl FaultProxy {
    /// Listens on a free loopback port, and forwards what comes to `upstream`.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::default());
        let accepts = Arc::clone(&faults);
        let listener = std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepts.stopped.load(Ordering::Acquire) {
                    break;
                }
                // A connection that fails here is one that fails.
                let _ = client.and_then(|client| forward(client, upstream, &accepts));
            }
        });
        Ok(Self { address, faults, listener: Some(listener) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every `nth` answer is lost, and its connection with it; 0 ends that.
    pub fn swallow_every(&self, nth: u64) {
        self.faults.swallow_every.store(nth, Ordering::Release);
    }

    /// Answers that were lost so far.
    pub fn swallowed(&self) -> u64 {
        self.faults.swallowed.load(Ordering::Acquire)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.faults.stopped.store(true, Ordering::Release);
        // Wakes the listener, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn forward(client: TcpStream, upstream: SocketAddr, faults: &Arc<Faults>) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asks, mut asked) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        // Ends with either side; the other learns it by the shutdown.
        let _ = io::copy(&mut asks, &mut asked);
        let _ = asked.shutdown(Shutdown::Both);
    });
    let faults = Arc::clone(faults);
    std::thread::spawn(move || {
        let _ = answer(server, client, &faults);
    });
    Ok(())
}

/// Hands answers back, until one is lost.
fn answer(mut server: TcpStream, mut client: TcpStream, faults: &Faults) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut buffer)?;
        let nth = faults.answers.fetch_add(1, Ordering::AcqRel) + 1;
        let every = faults.swallow_every.load(Ordering::Acquire);
        if every > 0 && nth.is_multiple_of(every) {
            faults.swallowed.fetch_add(1, Ordering::AcqRel);
            server.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        if read == 0 {
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&buffer[..read])?;
    }
}
