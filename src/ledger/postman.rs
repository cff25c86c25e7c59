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
        if mail.len() <= ALONE {
            return deliver(mail);
        }
        match &*self.0 {
            [bag] => hand_over(bag, mail),
            bags => {
                let fair = mail.len() / bags.len() * 2;
                let mut parts: Vec<Mail> = bags.iter().map(|_| Mail::with_capacity(fair)).collect();
                for letter in mail {
                    match parts.get_mut(letter.0.runtime()) {
                        Some(part) => part.push(letter),
                        // Of a runtime that is not among these: there it is only woken for more.
                        None => letter.0.send(letter.1),
                    }
                }
                for (bag, part) in bags.iter().zip(parts) {
                    if part.len() <= ALONE { deliver(part) } else { hand_over(bag, part) }
                }
            }
        }
    }
}

fn hand_over(bag: &mpsc::Sender<Mail>, mail: Mail) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Command, Position};
    use crate::ledger::lane::{Ticket, inbox};
    use crate::limits;
    use crate::runtimes::Runtimes;
    use crate::sale::Outcome;

    /// Proves that everybody is answered, on whichever runtime they wait, in a crowd and alone.
    #[test]
    fn on_each_runtime() {
        let runtimes = Runtimes::start(2).unwrap();
        let handles = runtimes.handles();
        let postman = start(&handles);
        for crowd in [1, 2, 5, 100] {
            let (inbox, tray) = inbox(limits::LANE_INBOX);
            runtimes.block_on(async {
                let mut waiting = Vec::new();
                for turn in 0..crowd {
                    let inbox = inbox.clone();
                    let asks = async move { inbox.submit(Command::Sweep).unwrap().await.unwrap() };
                    waiting.push(handles.at_turn(turn).spawn(asks));
                }
                let mut batch: Vec<Ticket> = Vec::new();
                while batch.len() < crowd {
                    tokio::task::yield_now().await;
                    tray.take(&mut batch, crowd);
                }
                let outcome = || Outcome::Swept { expired: 1, more: false };
                let answer = || Ok(Answer { outcome: outcome(), position: Position::default() });
                postman.take(batch.drain(..).map(|ticket| (ticket.reply, answer())).collect());
                for waits in waiting {
                    assert_eq!(waits.await.unwrap().unwrap().outcome, outcome());
                }
            });
        }
        runtimes.shutdown(Duration::from_secs(60));
    }
}
