//! What all buyers of a crowd share, and the requests that they make. Every request goes through
//! here, so none is missing in the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::anomalies::Anomalies;
use super::answer::Answer;
use super::plan::{Control, CrowdPlan};
use super::wave::Wave;
use super::wish::{Shelf, USER, Wish};
use crate::client::{Client, Method};
use crate::history::{History, Intent, Op, Recorder};
use crate::ops::OpsClient;
use crate::progress::{Progress, ProgressFn};
use crate::stop::StopFlag;

#[derive(Debug)]
pub(super) struct Crowd {
    pub plan: CrowdPlan,
    pub stop: StopFlag,
    pub recorder: Recorder,
    pub anomalies: Anomalies,
    pub shelf: Shelf,
    progress: Option<ProgressFn>,
    reserve_path: String,
    won: AtomicU64,
}

/// A reservation and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub user: Arc<str>,
    pub reservation: Arc<str>,
}

impl Crowd {
    /// A crowd that goes on with `history`.
    pub(super) fn new(
        plan: &CrowdPlan,
        control: Control,
        history: History,
    ) -> std::io::Result<Self> {
        let file = control.history_file.as_deref();
        Ok(Self {
            plan: plan.clone(),
            stop: control.stop,
            recorder: Recorder::open(history, file, control.history_sync)?,
            anomalies: Anomalies::default(),
            shelf: Shelf::new(plan),
            progress: control.progress,
            reserve_path: format!("/v1/sales/{}/reservations", plan.sale),
            won: AtomicU64::new(0),
        })
    }

    /// A connection to the public listener.
    pub(super) fn client(&self) -> Client {
        Client::new(self.plan.target).with_deadline(self.plan.patience.deadline)
    }

    /// Asks for a reservation.
    pub(super) async fn reserve(&self, client: &mut Client, wish: &Wish) -> Answer {
        self.send_wish(client, wish, Op::Reserve).await
    }

    /// Asks for a reservation with a key that was used for something else.
    pub(super) async fn misuse(&self, client: &mut Client, wish: &Wish) -> Answer {
        self.send_wish(client, wish, Op::Misuse).await
    }

    async fn send_wish(&self, client: &mut Client, wish: &Wish, op: Op) -> Answer {
        let ticket = self.recorder.invoke(Intent {
            op,
            user: wish.user.clone(),
            key: Some(wish.key.clone()),
            payment_ref: None,
            lines: wish.lines.clone(),
            reservation: None,
            repeats: false,
        });
        let identity = self.plan.identity;
        let (headers, body) = (wish.headers(identity), wish.body(identity).into());
        let came = client.request(Method::POST, &self.reserve_path, &headers, body).await;
        let location = came.as_ref().ok().and_then(|reply| reply.location.clone());
        let mut answer = Answer::to_reserve(wish, &self.plan.sale, came);
        if let Some(id) = &answer.reservation
            && location.as_deref() != Some(&*format!("/v1/reservations/{id}"))
        {
            answer.anomaly = Some(format!("201 for {id} with Location {location:?}"));
        }
        self.recorder.end(ticket, answer.ending());
        self.notice(&answer);
        answer
    }

    /// Cancels; `repeats` says that it was cancelled before.
    pub(super) async fn cancel(&self, client: &mut Client, held: &Held, repeats: bool) -> Answer {
        self.about(client, held, Op::Cancel, Method::DELETE, repeats).await
    }

    /// Reads a reservation as its owner, or as whoever `held` names.
    pub(super) async fn look(&self, client: &mut Client, held: &Held) -> Answer {
        self.about(client, held, Op::Look, Method::GET, false).await
    }

    async fn about(
        &self,
        client: &mut Client,
        held: &Held,
        op: Op,
        method: Method,
        repeats: bool,
    ) -> Answer {
        let ticket = self.recorder.invoke(intent_about(held, op, None, repeats));
        let path = format!("/v1/reservations/{}", held.reservation);
        let came = client.request(method, &path, &[(USER, &held.user)], Bytes::new()).await;
        let answer = Answer::to_other(200, came);
        self.recorder.end(ticket, answer.ending());
        self.notice(&answer);
        answer
    }

    /// Pays; `repeats` says that it was paid before with the same reference.
    pub(super) async fn confirm(
        &self,
        ops: &mut OpsClient,
        held: &Held,
        payment: &Arc<str>,
        repeats: bool,
    ) -> Answer {
        let payment_ref = Some(payment.clone());
        let ticket = self.recorder.invoke(intent_about(held, Op::Confirm, payment_ref, repeats));
        let answer = Answer::to_other(200, ops.confirm(&held.reservation, payment).await);
        self.recorder.end(ticket, answer.ending());
        self.notice(&answer);
        answer
    }

    fn notice(&self, answer: &Answer) {
        if let Some(anomaly) = &answer.anomaly {
            self.anomalies.report(anomaly.clone());
        }
        if answer.disconnected && self.plan.stop_on_disconnect {
            self.stop.set();
        }
    }

    /// One more reservation was made.
    pub(super) fn count_win(&self) {
        self.won.fetch_add(1, Ordering::Relaxed);
    }

    /// A buyer of the wave went home.
    pub(super) fn report_home(&self, wave: &Wave) {
        let done = wave.goes_home();
        if let Some(progress) = &self.progress {
            progress.call(Progress {
                wave: wave.number,
                done,
                total: wave.total(),
                reserved: self.won.load(Ordering::Relaxed),
            });
        }
    }
}

fn intent_about(held: &Held, op: Op, payment_ref: Option<Arc<str>>, repeats: bool) -> Intent {
    Intent {
        op,
        user: held.user.clone(),
        key: None,
        payment_ref,
        lines: [].into(),
        reservation: Some(held.reservation.clone()),
        repeats,
    }
}
