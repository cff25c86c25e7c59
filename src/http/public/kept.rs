//! Answers that users were given lately: for when ledger or books are not to be asked, or cannot be.
//!
//! An answer that is shown again says so: `Age` is how long ago it was read. Nobody is shown another
//! user's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{AGE, HeaderValue};
use moka::sync::Cache;

use super::Public;
use crate::clock::Millis;
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::http::request::Head;
use crate::limits;
use crate::sale::UserId;
use crate::switches::Switch;

/// A bounded number of bytes of answers, by who asked and for what.
pub(super) struct Kept(Cache<Question, Arc<Read>>);

type Question = (UserId, Box<str>);

/// What was read, and when.
struct Read {
    body: Bytes,
    at: Millis,
}

/// What an entry costs beside its text.
const OVERHEAD: usize = 128;

impl Kept {
    pub(super) fn new() -> Self {
        let weigh = |(user, target): &Question, read: &Arc<Read>| {
            let bytes = user.as_str().len() + target.len() + read.body.len() + OVERHEAD;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .weigher(weigh)
            .max_capacity(limits::ANSWERS_KEPT_BYTES)
            .time_to_live(Duration::from_millis(limits::ANSWERS_KEPT_MS));
        Self(cache.build())
    }

    fn get(&self, question: &Question, now: Millis) -> Option<Answer> {
        let read = self.0.get(question)?;
        let mut answer = answer::json(StatusCode::OK, read.body.clone());
        let age = HeaderValue::from(now.since(read.at).as_secs());
        answer.headers_mut().insert(AGE, age);
        Some(answer)
    }

    /// The user has changed what was read there.
    pub(super) fn forget(&self, user: UserId, head: &Head) {
        self.0.invalidate(&question(user, head));
    }
}

fn question(user: UserId, head: &Head) -> Question {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    (user, target.into())
}

impl Public {
    /// Answers a user's question with what `read` finds, or, while the switch is on or what would be
    /// asked is `refusing` or does not answer, with what it found before.
    pub(super) async fn read(
        &self,
        user: UserId,
        head: &Head,
        refusing: impl Fn() -> bool,
        read: impl Future<Output = Result<Bytes, Problem>>,
    ) -> Result<Answer, Problem> {
        let question = question(user, head);
        let kept = || self.kept.get(&question, self.clock.now());
        if (self.switches.is_on(Switch::ReadsFromCache) || refusing())
            && let Some(kept) = kept()
        {
            return Ok(kept);
        }
        match read.await {
            Ok(body) => {
                let read = Read { body: body.clone(), at: self.clock.now() };
                self.kept.0.insert(question, Arc::new(read));
                Ok(answer::json(StatusCode::OK, body))
            }
            // Whoever was the first to find it gone, or tried in vain whether it is back, is no worse off
            // than the others.
            Err(problem) if problem.is_outage() => kept().ok_or(problem),
            Err(problem) => Err(problem),
        }
    }
}
