//! Asking again after the fact: every unknown outcome has a definite answer, and the same key (or
//! the same reservation) finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use fastrand::Rng;
use tokio::task::{JoinError, JoinSet};

use super::answer::{Answer, Next};
use super::crowd::{Crowd, Held};
use super::insist::{Question, insist, insist_on_payment};
use super::report::Resolution;
use super::wish::Wish;
use crate::client::Client;
use crate::history::{Entry, History, Op, Seen, Standing};
use crate::limits::LATE_CALL;
use crate::ops::OpsClient;

/// Something whose outcome is unknown.
#[derive(Clone, Debug)]
pub(super) enum Open {
    Reserve(Wish),
    Cancel(Held),
    Confirm(Held, Arc<str>),
}

/// All that is unknown in a history, in order.
pub(super) fn questions(history: &History) -> Vec<Open> {
    let keys = history.keys().into_iter();
    let open = keys.filter(|key| key.standing(LATE_CALL) == Standing::Unresolved);
    let mut questions: Vec<Open> = open
        .map(|story| {
            let lines = story.entries[0].lines.clone();
            Open::Reserve(Wish { user: story.user.clone(), key: story.key.clone(), lines })
        })
        .collect();
    let mut endings: BTreeMap<(Op, &str, Option<&str>), Vec<&Entry>> = BTreeMap::new();
    for entry in history.entries() {
        if let (Op::Cancel | Op::Confirm, Some(reservation)) = (entry.op, &entry.reservation) {
            let about = (entry.op, &**reservation, entry.payment_ref.as_deref());
            endings.entry(about).or_default().push(entry);
        }
    }
    questions.extend(endings.into_values().filter_map(|asked| question(&asked)));
    questions
}

/// The question that a series of equal requests leaves open.
fn question(asked: &[&Entry]) -> Option<Open> {
    let last = asked.last()?;
    if !last.is_unknown() || asked.iter().any(|entry| entry.seen == Seen::Ok) {
        return None;
    }
    let held = Held { user: last.user.clone(), reservation: last.reservation.clone()? };
    match (&last.payment_ref, last.op) {
        (Some(payment), Op::Confirm) => Some(Open::Confirm(held, payment.clone())),
        (_, Op::Cancel) => Some(Open::Cancel(held)),
        (_, Op::Reserve | Op::Misuse | Op::Look | Op::Confirm) => None,
    }
}

/// Asks all questions, a few at a time.
pub(super) async fn ask_all(
    crowd: &Arc<Crowd>,
    questions: Vec<Open>,
    connections: usize,
) -> Result<Resolution, JoinError> {
    let unknown = questions.len() as u64;
    let queue = Arc::new(Mutex::new(questions));
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        tasks.spawn(ask_some(crowd.clone(), queue.clone(), number as u64));
    }
    let mut found = Resolution { unknown, ..Resolution::default() };
    while let Some(joined) = tasks.join_next().await {
        let (granted, refused) = joined?;
        found.granted += granted;
        found.refused += refused;
    }
    found.unresolved = unknown - found.granted - found.refused;
    Ok(found)
}

async fn ask_some(crowd: Arc<Crowd>, queue: Arc<Mutex<Vec<Open>>>, seed: u64) -> (u64, u64) {
    let mut client = crowd.client();
    let mut ops = crowd.plan.ops.as_ref().map(OpsClient::new);
    let mut rng = Rng::with_seed(seed);
    let (mut granted, mut refused) = (0, 0);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    while !crowd.stop.is_set()
        && let Some(question) = next()
    {
        let answer = ask(&crowd, &mut client, ops.as_mut(), &question, &mut rng).await;
        match answer.map(|answer| answer.next()) {
            Some(Next::Granted) => granted += 1,
            Some(Next::Refused) => refused += 1,
            Some(Next::Again) | None => {}
        }
    }
    (granted, refused)
}

async fn ask(
    crowd: &Crowd,
    client: &mut Client,
    ops: Option<&mut OpsClient>,
    question: &Open,
    rng: &mut Rng,
) -> Option<Answer> {
    match question {
        Open::Reserve(wish) => Some(insist(crowd, client, Question::Reserve(wish), rng).await),
        Open::Cancel(held) => Some(insist(crowd, client, Question::Cancel(held), rng).await),
        Open::Confirm(held, payment) => {
            Some(insist_on_payment(crowd, ops?, held, payment, false, rng).await)
        }
    }
}
