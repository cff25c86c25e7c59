//! A TCP proxy that makes connections fail in the ways that matter: an answer that is lost after the
//! question was served, one that comes late, a question that arrives when nobody waits for it any more, and
//! a peer that is not there or says nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    /// The answer to every so manieth `COMMIT` of PostgreSQL is lost; 0: none.
    swallow_commits: AtomicU64,
    commits: AtomicU64,
    swallowed: AtomicU64,
    delayed: AtomicU64,
    vanished: AtomicU64,
    /// Answers come so much later, in milliseconds.
    delay: AtomicU64,
    /// What is sent arrives nowhere.
    hole: AtomicBool,
    connections: AtomicU64,
    held: Mutex<Held>,
    handed_on: Condvar,
    stopped: AtomicBool,
}

/// Questions that are on their way for longer than whoever asked them.
#[derive(Debug, Default)]
struct Held {
    /// The questions of connections before this one are held back.
    before: u64,
    questions: usize,
}

/// The simple query `COMMIT`, in PostgreSQL's protocol.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// Chunks of one direction that wait for their time.
const LATE_MAX: usize = 1_024;

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

    /// From now on every `nth` transaction of PostgreSQL is committed without an answer, and its connection
    /// is lost; 0 ends that.
    pub fn swallow_commits(&self, nth: u64) {
        self.faults.swallow_commits.store(nth, Ordering::Release);
    }

    /// Answers that were lost so far.
    pub fn swallowed(&self) -> u64 {
        self.faults.swallowed.load(Ordering::Acquire)
    }

    /// Answers that came late so far.
    pub fn delayed(&self) -> u64 {
        self.faults.delayed.load(Ordering::Acquire)
    }

    /// Pieces of questions and answers that arrived nowhere so far.
    pub fn vanished(&self) -> u64 {
        self.faults.vanished.load(Ordering::Acquire)
    }

    /// From now on answers come so much later.
    pub fn delay(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.faults.delay.store(ms, Ordering::Release);
    }

    /// From now on nothing arrives anywhere, and no connection ends; until it is told otherwise.
    pub fn swallow_all(&self, all: bool) {
        self.faults.hole.store(all, Ordering::Release);
    }

    /// From now on what is asked on the connections that there are stays on its way, until [`Self::hand_on`]; new
    /// connections are served.
    pub fn hold_back(&self) {
        self.faults.held().before = self.faults.connections.load(Ordering::Acquire);
    }

    /// Hands on what was held back, and returns how many questions have gone to the server, or to a connection that it
    /// has ended.
    pub fn hand_on(&self) -> usize {
        let mut held = self.faults.held();
        held.before = 0;
        let all = held.questions;
        self.faults.handed_on.notify_all();
        while held.questions > 0 {
            held = self.faults.handed_on.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        all
    }
}

impl Faults {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a question on, at once or when those that are held back are.
    fn hand_on(&self, connection: u64, question: &[u8], mut server: &TcpStream) -> io::Result<()> {
        let mut held = self.held();
        if connection >= held.before {
            drop(held);
            return server.write_all(question);
        }
        held.questions += 1;
        while connection < held.before {
            held = self.handed_on.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        let written = server.write_all(question);
        held.questions -= 1;
        self.handed_on.notify_all();
        written
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.faults.stopped.store(true, Ordering::Release);
        self.hand_on();
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
    let (asks, asked) = (client.try_clone()?, server.try_clone()?);
    // Set where a commit was sent whose answer is to be lost.
    let doomed = Arc::new(AtomicBool::new(false));
    let connection = faults.connections.fetch_add(1, Ordering::AcqRel);
    let (theirs, dooms) = (Arc::clone(faults), Arc::clone(&doomed));
    std::thread::spawn(move || {
        // Ends with either side; the other learns it by the shutdown.
        let _ = ask(asks, &asked, connection, &theirs, &dooms);
        let _ = asked.shutdown(Shutdown::Both);
    });
    let faults = Arc::clone(faults);
    std::thread::spawn(move || {
        let (late, later) = mpsc::sync_channel::<(Instant, Vec<u8>)>(LATE_MAX);
        let Ok(out) = client.try_clone() else { return };
        let writes = std::thread::spawn(move || write_in_time(&later, out));
        let _ = answer(&server, &late, &faults, &doomed);
        let _ = server.shutdown(Shutdown::Both);
        drop(late);
        // What was answered before the end still arrives.
        let _ = writes.join();
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Hands questions on, and looks for those whose answer is to be lost.
fn ask(
    mut client: TcpStream,
    server: &TcpStream,
    connection: u64,
    faults: &Faults,
    doomed: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let every = faults.swallow_commits.load(Ordering::Acquire);
        if every > 0 && buffer[..read].ends_with(COMMIT) {
            let nth = faults.commits.fetch_add(1, Ordering::AcqRel) + 1;
            doomed.store(nth.is_multiple_of(every), Ordering::Release);
        }
        if faults.hole.load(Ordering::Acquire) {
            faults.vanished.fetch_add(1, Ordering::AcqRel);
        } else {
            faults.hand_on(connection, &buffer[..read], server)?;
        }
    }
}

/// Hands answers back, until one is lost.
fn answer(
    mut server: &TcpStream,
    late: &mpsc::SyncSender<(Instant, Vec<u8>)>,
    faults: &Faults,
    doomed: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut buffer)?;
        let nth = faults.answers.fetch_add(1, Ordering::AcqRel) + 1;
        let every = faults.swallow_every.load(Ordering::Acquire);
        let lost = (every > 0 && nth.is_multiple_of(every)) || doomed.load(Ordering::Acquire);
        if lost {
            faults.swallowed.fetch_add(1, Ordering::AcqRel);
        }
        if lost || read == 0 {
            return Ok(());
        }
        if faults.hole.load(Ordering::Acquire) {
            faults.vanished.fetch_add(1, Ordering::AcqRel);
        } else {
            let delay = Duration::from_millis(faults.delay.load(Ordering::Acquire));
            faults.delayed.fetch_add(u64::from(!delay.is_zero()), Ordering::AcqRel);
            let due = Instant::now() + delay;
            late.send((due, buffer[..read].to_vec())).map_err(io::Error::other)?;
        }
    }
}

fn write_in_time(later: &mpsc::Receiver<(Instant, Vec<u8>)>, mut client: TcpStream) {
    for (due, chunk) in later {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if client.write_all(&chunk).is_err() {
            return;
        }
    }
}
