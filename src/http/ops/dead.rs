//! The dead letters: what the writer could not digest, and what is to become of it.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Ops;
use crate::engine::Position;
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::http::request::Head;
use crate::identity::admins::Admin;
use crate::limits;
use crate::store::{DeadMark, Job, Retried};

impl Ops {
    /// Oldest first, in pages: `?limit=` and `?after=`, which is the last page's `next`.
    pub(super) async fn dead_letters(&self, head: &Head) -> Result<Answer, Problem> {
        let most = limits::DEAD_LETTERS_PAGE_MAX;
        let limit = head.number("limit", most, 1..=most)?;
        let after = match head.query("after") {
            None => None,
            Some(text) => Some(DeadMark::parse(text).ok_or_else(|| {
                Problem::malformed("after must be the `next` of the page before")
            })?),
        };
        let letters = self.ask_store(self.store.dead_letters(after, limit)).await?;
        let last = letters.last().filter(|_| letters.len() == limit);
        let next = last.map(|(lane, letter)| {
            DeadMark { lane: *lane, position: letter.record.last }.to_string()
        });
        let letters: Vec<Value> = letters.iter().map(|(lane, dead)| dead.to_json(*lane)).collect();
        Ok(answer::value(StatusCode::OK, &json!({ "dead_letters": letters, "next": next })))
    }

    pub(super) async fn show_dead_letter(&self, id: &str) -> Result<Answer, Problem> {
        let mark = DeadMark::parse(id).ok_or(Problem::NotFound)?;
        let Position { epoch, seq } = mark.position;
        // Events are numbered from one.
        let seq = seq.checked_sub(1).ok_or(Problem::NotFound)?;
        let before = DeadMark { lane: mark.lane, position: Position { epoch, seq } };
        let letters = self.ask_store(self.store.dead_letters(Some(before), 1)).await?;
        let found = letters.first().filter(|(lane, letter)| {
            DeadMark { lane: *lane, position: letter.record.last } == mark
        });
        let (lane, letter) = found.ok_or(Problem::NotFound)?;
        Ok(answer::value(StatusCode::OK, &letter.to_json(*lane)))
    }

    pub(super) async fn retry_dead_letter(
        &self,
        id: &str,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let mark = DeadMark::parse(id).ok_or(Problem::NotFound)?;
        let retried = self.store.retry_dead_letter(mark, admin.name.clone());
        match self.ask_store(retried).await?.ok_or(Problem::NotFound)? {
            Retried::Digested(carts) => {
                self.carts.forget(&carts);
                let body = json!({ "id": mark.to_string(), "status": "digested" });
                Ok(answer::value(StatusCode::OK, &body))
            }
            Retried::Refused(reason) => Err(Problem::StillDead { reason }),
        }
    }

    pub(super) async fn drop_dead_letter(
        &self,
        id: &str,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let mark = DeadMark::parse(id).ok_or(Problem::NotFound)?;
        if !self.ask_store(self.store.drop_dead_letter(mark, admin.name.clone())).await? {
            return Err(Problem::NotFound);
        }
        let body = json!({ "id": mark.to_string(), "status": "dropped" });
        Ok(answer::value(StatusCode::OK, &body))
    }

    /// Waits for the store within bounds.
    pub(super) async fn ask_store<T>(&self, job: Job<'_, T>) -> Result<T, Problem> {
        let deadline = Duration::from_millis(limits::STORE_REPLY_MS);
        let answer = tokio::time::timeout(deadline, job).await;
        Ok(answer.map_err(|_| Problem::StoreUnavailable(None))??)
    }
}
