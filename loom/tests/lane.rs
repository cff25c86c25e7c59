//! A lane's inbox, and the drain around it: the real inbox and tray, over a stand-in for crossbeam's
//! channels. The loops of owner and worker, and the order of the drain, are as `ledger/embedded/owner.rs`,
//! `ledger/redis/worker.rs` and `app.rs` have them, written once more here: those stand on sockets, files
//! and tokio, which loom cannot look into. That a waiting lane is woken is crossbeam's promise, and that
//! a waiting task is, tokio's; neither is tried here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a model that cannot go on fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use floodgate_loom::engine::{Command, Reserve};
use floodgate_loom::explore::every_order;
use floodgate_loom::ledger::lane::{Inbox, Ticket, Tray, inbox};
use floodgate_loom::ledger::{Answer, Pending};
use floodgate_loom::sale::{ReservationId, SaleId, UserId};
use floodgate_loom::stand_ins::channel;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use tokio::sync::oneshot::error::TryRecvError;

fn reserve() -> Command {
    Command::Reserve(Reserve {
        id: ReservationId::from_bytes([0; 16]),
        sale: SaleId::parse("s").unwrap(),
        user: UserId::parse("u").unwrap(),
        lines: Box::default(),
    })
}

/// Answers whatever there is; how many.
fn serve(batch: &mut Vec<Ticket>) -> usize {
    let served = batch.drain(..).map(|ticket| ticket.reply.send(Ok(Answer)));
    served.count()
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Decided,
    /// Nobody has it any more, and nobody will answer: the buyer is told "unknown".
    Lost,
}

fn wait(mut pending: Pending) -> End {
    loop {
        match pending.try_recv() {
            Ok(answer) => {
                answer.unwrap();
                return End::Decided;
            }
            Err(TryRecvError::Closed) => return End::Lost,
            Err(TryRecvError::Empty) => thread::yield_now(),
        }
    }
}

/// A lane that ends with its inboxes: what was accepted before is served.
fn abandoned(run: fn(Tray) -> usize) {
    let (inbox, tray) = inbox(1);
    let lane = thread::spawn(move || run(tray));
    let pending = [inbox.submit(reserve()).unwrap(), inbox.submit(Command::Sweep).unwrap()];
    drop(inbox);
    assert_eq!(lane.join().unwrap(), pending.len(), "a command was left behind");
    assert!(pending.into_iter().all(|pending| wait(pending) == End::Decided));
}

/// Proves that a lane whose inboxes are gone has served what both queues had, whichever of them says
/// first that nobody is left. It would catch a lane that ends with the first queue that does.
#[test]
fn both_queues_are_emptied() {
    every_order(|| {
        abandoned(|tray| {
            let (mut batch, mut served) = (Vec::new(), 0);
            while tray.collect(&mut batch, Duration::MAX) {
                served += serve(&mut batch);
            }
            served
        });
    });
}

/// The twin of `Tray::collect`: it does not look again once one queue has said that nobody is left.
#[test]
#[should_panic(expected = "a command was left behind")]
fn broken_collect() {
    every_order(|| {
        let (first_in, first) = channel::bounded(1);
        let (reservations_in, reservations) = channel::bounded(1);
        let lane = thread::spawn(move || {
            let mut served = 0;
            loop {
                match channel::either(&first, &reservations, Duration::MAX) {
                    channel::Either::First(Ok(())) | channel::Either::Second(Ok(())) => served += 1,
                    channel::Either::First(Err(_)) | channel::Either::Second(Err(_)) => {
                        return served;
                    }
                    channel::Either::Neither => {}
                }
            }
        });
        assert!(reservations_in.try_send(()).is_ok());
        drop((first_in, reservations_in));
        assert_eq!(lane.join().unwrap(), 1, "a command was left behind");
    });
}

/// The loop of `Owner::run` and of `Worker::run`: to the end of the inboxes, or until it is to stop and
/// nothing waits.
fn run(tray: &Tray, stop: &AtomicBool) -> usize {
    let (mut batch, mut served) = (Vec::new(), 0);
    while tray.collect(&mut batch, Duration::ZERO) && !tray.is_over(&mut batch, 1, stop) {
        served += serve(&mut batch);
    }
    served
}

/// A lane that is told to stop after the last request was handed over.
fn stopped(run: fn(&Tray, &AtomicBool) -> usize) {
    let (inbox, tray) = inbox(1);
    let stop = Arc::new(AtomicBool::new(false));
    let lane = thread::spawn({
        let stop = Arc::clone(&stop);
        move || run(&tray, &stop)
    });
    let pending = [inbox.submit(reserve()).unwrap(), inbox.submit(Command::Sweep).unwrap()];
    stop.store(true, Ordering::Release);
    assert_eq!(lane.join().unwrap(), pending.len(), "accepted, and never served");
    assert!(pending.into_iter().all(|pending| wait(pending) == End::Decided));
}

/// Proves that a lane which is told to stop serves first what was handed over before. It would catch one
/// that looks at the stop before it looks at what waits, or that believes an empty look from before.
#[test]
fn a_lane_stops_with_empty_hands() {
    every_order(|| stopped(run));
}

/// The twin of `Tray::is_over`: an empty look from before the stop is believed.
#[test]
#[should_panic(expected = "accepted, and never served")]
fn broken_stop() {
    every_order(|| {
        stopped(|tray, stop| {
            let (mut batch, mut served) = (Vec::new(), 0);
            while tray.collect(&mut batch, Duration::ZERO) {
                if batch.is_empty() && stop.load(Ordering::Acquire) {
                    break;
                }
                served += serve(&mut batch);
            }
            served
        });
    });
}

/// What a drain has in its hands.
struct Gateway {
    draining: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    connection: thread::JoinHandle<Option<End>>,
}

/// A connection with a new reservation, a lane, and somebody who drains both.
fn drained(drain: fn(Gateway) -> Option<End>) {
    let (inbox, tray): (Inbox, Tray) = inbox(1);
    let (draining, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let lane = thread::spawn({
        let stop = Arc::clone(&stop);
        move || drop((run(&tray, &stop), tray))
    });
    let connection = thread::spawn({
        let draining = Arc::clone(&draining);
        move || {
            if draining.load(Ordering::Relaxed) {
                return None;
            }
            Some(inbox.submit(reserve()).map_or(End::Lost, wait))
        }
    });
    let end = drain(Gateway { draining, stop, connection });
    lane.join().unwrap();
    assert_ne!(end, Some(End::Lost), "let in, and never decided");
}

/// Proves that a reservation which got in before the drain began is decided and told, and that the flag
/// which keeps others out may be as relaxed as it is: what counts is that the lanes end after the
/// connections. It would catch lanes that are stopped beside them.
#[test]
fn who_got_in_is_decided() {
    every_order(|| {
        drained(|Gateway { draining, stop, connection }| {
            draining.store(true, Ordering::Relaxed);
            let end = connection.join().unwrap();
            stop.store(true, Ordering::Release);
            end
        });
    });
}

/// The twin: lanes and connections are ended together.
#[test]
#[should_panic(expected = "let in, and never decided")]
fn broken_drain() {
    every_order(|| {
        drained(|Gateway { draining, stop, connection }| {
            draining.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Release);
            connection.join().unwrap()
        });
    });
}
