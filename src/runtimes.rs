//! The runtimes of the process: one thread each, one for each core.
//!
//! A connection stays on the runtime that it was dealt to, so nothing that it does is handed from thread to
//! thread but its commands and their answers. `docs/decisions/0005-threads.md` has what that gains.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::limits;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Which of the runtimes this thread runs; a thread that runs none counts as the first. Costs a look at
/// the thread's own memory.
pub fn here() -> usize {
    HERE.get()
}

/// How many a gateway has: one for each core, or what the environment variable `TOKIO_WORKER_THREADS` says.
///
/// # Errors
/// In words, where that is not from 1 to [`limits::RUNTIMES_MAX`].
pub fn wanted() -> Result<usize, String> {
    let Ok(given) = std::env::var("TOKIO_WORKER_THREADS") else {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        return Ok(cores.min(limits::RUNTIMES_MAX));
    };
    let count = given.parse().ok().filter(|count| (1..=limits::RUNTIMES_MAX).contains(count));
    count.ok_or_else(|| {
        let most = limits::RUNTIMES_MAX;
        format!("TOKIO_WORKER_THREADS is {given:?}; it must be a whole number from 1 to {most}")
    })
}

/// The runtimes as others know them, in their order. A process has one set of them: [`here`] counts in it.
#[derive(Clone, Debug)]
pub struct Handles(Arc<[Handle]>);

impl Handles {
    /// That on which this is called, alone.
    ///
    /// # Panics
    /// Outside of any.
    pub fn current() -> Self {
        Self(Arc::new([Handle::current()]))
    }

    /// Each of them; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter()
    }

    /// The one whose turn it is, so that each has as many turns as the others.
    pub fn at_turn(&self, turn: usize) -> &Handle {
        &self.0[turn % self.0.len()]
    }
}

/// All of them, by whoever started them. The first is driven by the thread that waits in it.
#[derive(Debug)]
pub struct Runtimes {
    first: Runtime,
    others: Vec<Other>,
}

/// One with a thread of its own, which ends when its `stop` is gone.
#[derive(Debug)]
struct Other {
    handle: Handle,
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Runtimes {
    /// Starts so many, and at least one.
    ///
    /// # Errors
    /// The system's, for the lack of a thread or a descriptor.
    pub fn start(count: usize) -> io::Result<Self> {
        let first = Builder::new_current_thread().enable_all().build()?;
        let others = (1..count).map(Other::start).collect::<io::Result<_>>()?;
        Ok(Self { first, others })
    }

    /// How to reach them.
    pub fn handles(&self) -> Handles {
        let others = self.others.iter().map(|other| other.handle.clone());
        Handles([self.first.handle().clone()].into_iter().chain(others).collect())
    }

    /// Runs this on the first, which rests before and after.
    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.first.block_on(what)
    }

    /// Ends them, with whatever they are at; waits at most `within` for the jobs of the first that block.
    pub fn shutdown(self, within: Duration) {
        let until = Instant::now() + within;
        let end = |Other { stop, ended, .. }| {
            drop::<oneshot::Sender<()>>(stop);
            ended
        };
        let ending: Vec<mpsc::Receiver<()>> = self.others.into_iter().map(end).collect();
        self.first.shutdown_timeout(within);
        for ended in ending {
            // Whoever does not end in time ends with the process.
            let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl Other {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stops) = oneshot::channel();
        let (ends, ended) = mpsc::channel::<()>();
        thread::Builder::new().name(format!("runtime-{index}")).spawn(move || {
            HERE.set(index);
            let _ = runtime.block_on(stops);
            runtime.shutdown_background();
            drop(ends);
        })?;
        Ok(Self { handle, stop, ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that each runs what it is given on a thread of its own, which knows which it is; and that they
    /// end with what never does.
    #[test]
    fn each_has_its_thread() {
        let runtimes = Runtimes::start(3).unwrap();
        let handles = runtimes.handles();
        let told: Vec<usize> = runtimes.block_on(async {
            let mut told = Vec::new();
            for turn in 0..4 {
                told.push(handles.at_turn(turn).spawn(async { here() }).await.unwrap());
            }
            told
        });
        assert_eq!(told, [0, 1, 2, 0]);
        let (kept, gone) = mpsc::channel::<()>();
        for handle in handles.iter() {
            let kept = kept.clone();
            handle.spawn(async move {
                std::future::pending::<()>().await;
                drop(kept);
            });
        }
        drop(kept);
        runtimes.shutdown(Duration::from_secs(60));
        let ended = gone.recv_timeout(Duration::from_secs(60));
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
