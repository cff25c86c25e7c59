//! Threads that own a connection each and take jobs from one bounded queue. SQLite blocks; the
//! runtime's threads must not.

use std::thread::JoinHandle;

use crossbeam::channel::{self, Sender, TrySendError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::limits;
use crate::store::{Job, StoreError};

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// A queue of jobs and its threads, which end with it.
#[derive(Debug)]
pub(super) struct Pool {
    tasks: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts a thread per connection, each as nice to others as said.
    pub(super) fn start(
        name: &str,
        connections: Vec<Connection>,
        niceness: i32,
    ) -> std::io::Result<Self> {
        let (tasks, queue) = channel::bounded::<Task>(limits::STORE_QUEUE);
        let mut threads = Vec::new();
        for mut connection in connections {
            let queue = queue.clone();
            let work = move || {
                // On Linux this is the thread's own. A system that refuses loses nothing but manners.
                if niceness != 0 {
                    let _ = rustix::process::setpriority_process(None, niceness);
                }
                for task in queue {
                    task(&mut connection);
                }
            };
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(work)?);
        }
        Ok(Self { tasks: Some(tasks), threads })
    }

    /// Runs `work` on the next free connection. It runs to its end even if nobody waits any more.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Job<'_, T> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            let _ = reply.send(work(connection));
        });
        let queued = match &self.tasks {
            Some(tasks) => tasks.try_send(task).map_err(|refused| match refused {
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

fn gone() -> StoreError {
    StoreError::Failed("a thread of the store has ended".to_owned())
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has dropped its job, and whoever waited was told.
            let _ = thread.join();
        }
    }
}
