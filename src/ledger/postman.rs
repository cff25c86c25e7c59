//! Delivers the answers of a batch on the runtime's side.
//!
//! Waking a task from another thread costs a lock and often a system call, and a batch has hundreds of
//! them. So the owner hands over the whole batch with one wake-up, and the tasks are woken from within
//! the runtime, where it is cheap. A batch that is no crowd is delivered by the owner itself: there the
//! second wake-up would only be waited for.

use tokio::sync::mpsc;

use tokio::sync::oneshot;

use super::{Answer, Fault};

/// Who waits for an answer.
pub(super) type Reply = oneshot::Sender<Result<Answer, Fault>>;

/// Answers of one batch, each with whom it is for.
pub(super) type Mail = Vec<(Reply, Result<Answer, Fault>)>;

/// Batches that may lie with the postman; beyond that the owner delivers itself.
const BAG: usize = 16;

/// So few answers are not worth a wake-up of their own.
const ALONE: usize = 2;

/// The owner's end.
#[derive(Clone, Debug)]
pub(super) struct Postman(mpsc::Sender<Mail>);

/// Starts a postman on the current runtime. It ends with its owner.
pub(super) fn start() -> Postman {
    let (sender, mut bag) = mpsc::channel(BAG);
    tokio::spawn(async move {
        while let Some(mail) = bag.recv().await {
            deliver(mail);
        }
    });
    Postman(sender)
}

impl Postman {
    /// Hands a batch over. Never blocks.
    pub(super) fn take(&self, mail: Mail) {
        if mail.len() <= ALONE {
            return deliver(mail);
        }
        match self.0.try_send(mail) {
            Ok(()) => {}
            // A runtime that is busy, or on its way out: nobody waits longer for that.
            Err(
                mpsc::error::TrySendError::Full(mail) | mpsc::error::TrySendError::Closed(mail),
            ) => {
                deliver(mail);
            }
        }
    }
}

fn deliver(mail: Mail) {
    for (reply, answer) in mail {
        // Whoever has gone will ask again, and find it.
        let _ = reply.send(answer);
    }
}
