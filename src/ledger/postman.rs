//! Delivers the answers of a batch on the runtimes' side.
//!
//! Waking a task from another thread costs a lock and often a system call, and a batch has hundreds of
//! them. So the owner hands each runtime its part of the batch with one wake-up, and the tasks are woken
//! from within, where it is cheap. A part that is no crowd is delivered by the owner itself: there the
//! second wake-up would only be waited for.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError::{Closed, Full};

use super::lane::Reply;
use super::{Answer, Fault};
use crate::runtimes::Handles;

/// Answers of one batch, each with whom it is for.
pub(super) type Mail = Vec<(Reply, Result<Answer, Fault>)>;

/// Batches that may lie with the postman of a runtime; beyond that the owner delivers itself.
const BAG: usize = 16;

/// So few answers are not worth a wake-up of their own.
const ALONE: usize = 2;

/// The owner's end: a bag for each runtime, in their order.
#[derive(Clone, Debug)]
pub(super) struct Postman(Vec<mpsc::Sender<Mail>>);

/// Starts a postman on each of these. They end with their owner.
pub(super) fn start(runtimes: &Handles) -> Postman {
    let bags = runtimes.iter().map(|runtime| {
        let (sender, mut bag) = mpsc::channel(BAG);
        runtime.spawn(async move {
            while let Some(mail) = bag.recv().await {
                deliver(mail);
            }
        });
        sender
    });
    Postman(bags.collect())
}

impl Postman {
    /// Hands a batch over. Never blocks.
    pub(super) fn take(&self, mail: Mail) {
        match &*self.0 {
            [bag] => hand_over(bag, mail),
            bags => {
                let mut parts: Vec<Mail> = bags.iter().map(|_| Mail::new()).collect();
                for letter in mail {
                    parts[letter.0.runtime()].push(letter);
                }
                for (bag, part) in bags.iter().zip(parts) {
                    hand_over(bag, part);
                }
            }
        }
    }
}

fn hand_over(bag: &mpsc::Sender<Mail>, mail: Mail) {
    if mail.len() <= ALONE {
        return deliver(mail);
    }
    match bag.try_send(mail) {
        Ok(()) => {}
        // A runtime that is busy, or on its way out: nobody waits longer for that.
        Err(Full(mail) | Closed(mail)) => deliver(mail),
    }
}

fn deliver(mail: Mail) {
    for (reply, answer) in mail {
        reply.send(answer);
    }
}
