//! Asking until there is an answer: unknown outcomes and "come back later" are asked again.

use std::sync::Arc;

use fastrand::Rng;

use super::answer::{Answer, Next};
use super::backoff;
use super::crowd::{Crowd, Held};
use super::wish::Wish;
use crate::client::Client;
use crate::ops::OpsClient;

/// Something that a buyer asks over the public listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    Reserve(&'a Wish),
    Misuse(&'a Wish),
    Look(&'a Held),
    Cancel(&'a Held),
    CancelAgain(&'a Held),
}

/// Asks again, with waits in between, until the answer is a yes or a no, the crowd is stopped, or
/// patience is at its end; then the last answer stands.
pub(super) async fn insist(
    crowd: &Crowd,
    client: &mut Client,
    question: Question<'_>,
    rng: &mut Rng,
) -> Answer {
    let mut tries = 0;
    loop {
        let answer = match question {
            Question::Reserve(wish) => crowd.reserve(client, wish).await,
            Question::Misuse(wish) => crowd.misuse(client, wish).await,
            Question::Look(held) => crowd.look(client, held).await,
            Question::Cancel(held) => crowd.cancel(client, held, false).await,
            Question::CancelAgain(held) => crowd.cancel(client, held, true).await,
        };
        tries += 1;
        if !goes_on(crowd, &answer, tries, rng).await {
            return answer;
        }
    }
}

/// The same for a payment, over the ops listener.
pub(super) async fn insist_on_payment(
    crowd: &Crowd,
    ops: &mut OpsClient,
    held: &Held,
    payment: &Arc<str>,
    repeats: bool,
    rng: &mut Rng,
) -> Answer {
    let mut tries = 0;
    loop {
        let answer = crowd.confirm(ops, held, payment, repeats).await;
        tries += 1;
        if !goes_on(crowd, &answer, tries, rng).await {
            return answer;
        }
    }
}

/// Whether to ask again after `tries` times; if so, the wait is over.
async fn goes_on(crowd: &Crowd, answer: &Answer, tries: u32, rng: &mut Rng) -> bool {
    let patience = &crowd.plan.patience;
    if answer.next() != Next::Again || tries >= patience.tries_max || crowd.stop.is_set() {
        return false;
    }
    let wait = backoff::wait(patience, tries - 1, answer.retry_after, rng);
    backoff::sleep(&crowd.stop, wait).await;
    !crowd.stop.is_set()
}
