//! Threads that own a connection each and take jobs from two bounded queues, of which one is served
//! first. SQLite blocks; the runtime's threads must not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender, TrySendError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::limits;
use crate::store::{Job, StoreError};

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// What the shop's own work is put in, and what buyers ask for: a crowd of buyers must not keep the
/// books from being written.
#[derive(Debug)]
struct Queues {
    first: Sender<Task>,
    later: Sender<Task>,
}

/// Whose job it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The writer's.
    First,
    /// A buyer's. Nobody does it if nobody waits for it any more.
    Later,
}

/// Two queues of jobs and their threads, which end with them.
#[derive(Debug)]
pub(super) struct Pool {
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts a thread per connection, each as nice to others as said.
    pub(super) fn start(
        name: &str,
        connections: Vec<Connection>,
        niceness: i32,
    ) -> std::io::Result<Self> {
        let (first, firsts) = channel::bounded::<Task>(limits::STORE_QUEUE);
        let (later, laters) = channel::bounded::<Task>(limits::STORE_QUEUE);
        let mut threads = Vec::new();
        for mut connection in connections {
            let (firsts, laters) = (firsts.clone(), laters.clone());
            let work = move || {
                // On Linux this is the thread's own. A system that refuses loses nothing but manners.
                if niceness != 0 {
                    let _ = rustix::process::setpriority_process(None, niceness);
                }
                while let Some(task) = next(&firsts, &laters) {
                    // A job that panics has rolled back and told its caller; the others go on.
                    let job = AssertUnwindSafe(|| task(&mut connection));
                    if catch_unwind(job).is_err() {
                        tracing::error!("a job of the store panicked");
                    }
                }
            };
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        Ok(Self { queues: Some(Queues { first, later }), threads })
    }

    /// Runs `work` on the next free connection. Once begun it runs to its end.
    pub(super) fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Job<'_, T> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            if turn == Turn::First || !reply.is_closed() {
                let _ = reply.send(work(connection));
            }
        });
        let queue = self.queues.as_ref().map(|queues| match turn {
            Turn::First => &queues.first,
            Turn::Later => &queues.later,
        });
        let queued = match queue {
            Some(queue) => queue.try_send(task).map_err(|refused| match refused {
                TrySendError::Full(_) => StoreError::Overloaded,
                TrySendError::Disconnected(_) => gone(),
            }),
            None => Err(gone()),
        };
        Box::pin(async move {
            queued?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// The next job, or none once both queues are gone and empty.
fn next(firsts: &Receiver<Task>, laters: &Receiver<Task>) -> Option<Task> {
    if let Ok(task) = firsts.try_recv().or_else(|_| laters.try_recv()) {
        return Some(task);
    }
    channel::select! {
        recv(firsts) -> task => task.or_else(|_| laters.recv()).ok(),
        recv(laters) -> task => task.or_else(|_| firsts.recv()).ok(),
    }
}

fn gone() -> StoreError {
    StoreError::Failed("a thread of the store has ended".to_owned())
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has dropped its job, and whoever waited was told.
            let _ = thread.join();
        }
    }
}
