//! Threads that run one at a time.
//!
//! A worker of the ledger blocks: it waits for its connection and sleeps between tries. Here it runs on a
//! thread that goes on only while the simulation waits for it, and whatever it waits for is a future, whose
//! time the simulation makes. So there is one order of all steps, and it follows from the seed.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::made;

/// What a thread unwinds with that was killed.
pub struct Killed;

/// How often a thread goes on.
enum Turn {
    On,
    Die,
}

/// What a thread knows of the simulation.
struct Thread {
    turns: Receiver<Turn>,
    parked: SyncSender<()>,
    woken: Arc<Bell>,
    runtime: Handle,
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// The runtime's time, for whoever reads it from wherever.
pub struct Time {
    runtime: Handle,
    beginning: Instant,
}

impl Time {
    /// From now on. Within a runtime.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { runtime: Handle::current(), beginning: Instant::now() })
    }
}

impl made::Maker for Time {
    fn now(&self) -> Duration {
        let _within = self.runtime.enter();
        Instant::now() - self.beginning
    }

    fn sleep(&self, pause: Duration) {
        block_on(async { tokio::time::sleep(pause).await });
    }
}

thread_local! {
    static THREAD: RefCell<Option<Rc<Thread>>> = const { RefCell::new(None) };
}

/// Whether the calling thread is the simulation's to drive.
pub fn is_driven() -> bool {
    THREAD.with(|thread| thread.borrow().is_some())
}

/// Waits for a future while the rest of the simulation goes on.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let thread = THREAD.with(|thread| thread.borrow().clone()).expect("a driven thread");
    let waker = Waker::from(Arc::clone(&thread.woken));
    let mut future = pin!(future);
    loop {
        let polled = {
            // Let go before the thread is parked: others enter meanwhile.
            let _within = thread.runtime.enter();
            future.as_mut().poll(&mut Context::from_waker(&waker))
        };
        match polled {
            Poll::Ready(answer) => return answer,
            Poll::Pending => park(&thread),
        }
    }
}

fn park(thread: &Thread) {
    // An end that is gone has given the thread up.
    let _ = thread.parked.send(());
    match thread.turns.recv() {
        Ok(Turn::On) => {}
        Ok(Turn::Die) | Err(_) => resume_unwind(Box::new(Killed)),
    }
}

/// Runs `body` on a thread until it ends or `killed` becomes true. A panic of the body is the answer.
pub async fn run(
    time: Arc<Time>,
    seed: u64,
    mut killed: watch::Receiver<bool>,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), String> {
    let (turn, turns) = sync_channel(1);
    let (parked, parks) = sync_channel(1);
    let woken = Arc::new(Bell(Notify::new()));
    let (bell, runtime) = (Arc::clone(&woken), Handle::current());
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        if !matches!(turns.recv(), Ok(Turn::On)) {
            return Ok(());
        }
        made::by(Some(time));
        fastrand::seed(seed);
        let own = Thread { turns, parked, woken: bell, runtime };
        THREAD.with(|thread| *thread.borrow_mut() = Some(Rc::new(own)));
        let ended = catch_unwind(AssertUnwindSafe(body));
        crate::crash::simulated::decided_by(None);
        THREAD.with(|thread| *thread.borrow_mut() = None);
        made::by(None);
        match ended {
            Ok(()) => Ok(()),
            Err(payload) if payload.is::<Killed>() => Ok(()),
            Err(payload) => Err(said(payload.as_ref())),
        }
    });
    let thread = thread.expect("a thread");
    let mut dies = *killed.borrow();
    loop {
        let next = if dies { Turn::Die } else { Turn::On };
        // Nothing else of the simulation runs until the thread is parked or has ended.
        if turn.send(next).is_err() || parks.recv().is_err() {
            break;
        }
        if !dies {
            tokio::select! {
                biased;
                _ = killed.wait_for(|killed| *killed) => dies = true,
                () = woken.0.notified() => {}
            }
        }
    }
    thread.join().unwrap_or_else(|payload| Err(said(payload.as_ref())))
}

/// What a panic said.
pub fn said(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
