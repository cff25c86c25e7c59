//! One request at a time: takes what is due, sends it, and sees what becomes of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::Run;
use super::queue::Try;
use crate::limits::CONNECTING_MAX;
use crate::rig::Render;
use crate::rig::answer::Answer;
use crate::rig::connection::{Broken, Connection};
use crate::rig::http2::Multiplexed;
use crate::rig::plan::{OpenPlan, Protocol, Refusal};

/// What the requests of one slot go over.
pub(super) enum Line {
    Http1 { connection: Connection, keep_alive: bool },
    Http2(Multiplexed),
}

impl Line {
    /// One for each request that can be under way.
    pub(super) fn all(plan: &OpenPlan) -> Vec<Self> {
        let target = |n: usize| plan.targets[n % plan.targets.len()];
        let keep_alive = plan.keep_alive;
        let http1 = |n| Self::Http1 { connection: Connection::new(target(n)), keep_alive };
        match plan.protocol {
            Protocol::Http1 => (0..plan.connections).map(http1).collect(),
            Protocol::Http2 { streams } => {
                let shared =
                    (0..plan.connections).map(|n| Multiplexed::new(target(n), plan.tls.clone()));
                shared
                    .flat_map(|line| std::iter::repeat_n(line, streams))
                    .map(Self::Http2)
                    .collect()
            }
        }
    }

    /// Opens what will be needed, so that a run does not begin with a crowd of handshakes. What cannot
    /// be opened yet is opened when it is used.
    pub(super) async fn connect_all(lines: Vec<Self>) -> Vec<Self> {
        let (mut opening, mut open) = (JoinSet::new(), Vec::with_capacity(lines.len()));
        for mut line in lines {
            if opening.len() >= CONNECTING_MAX
                && let Some(Ok(line)) = opening.join_next().await
            {
                open.push(line);
            }
            opening.spawn(async move {
                line.connect().await;
                line
            });
        }
        while let Some(done) = opening.join_next().await {
            open.extend(done);
        }
        open
    }

    async fn connect(&mut self) {
        match self {
            Self::Http1 { connection, keep_alive: true } => drop(connection.ready().await),
            Self::Http1 { keep_alive: false, .. } => {}
            Self::Http2(line) => drop(line.ready().await),
        }
    }

    async fn exchange(&mut self, request: &mut Vec<u8>) -> Result<Answer, Broken> {
        match self {
            Self::Http1 { connection, keep_alive } => {
                if !*keep_alive {
                    close_after(request);
                }
                let head = connection.exchange(request).await?;
                Ok(Answer::of_bytes(&head, connection.bytes()))
            }
            Self::Http2(line) => line.exchange(request).await,
        }
    }
}

/// Adds `Connection: close` behind the request's first line.
fn close_after(request: &mut Vec<u8>) {
    if let Some(end) = request.iter().position(|byte| *byte == b'\n') {
        request.splice(end + 1..end + 1, *b"connection: close\r\n");
    }
}

/// Takes what is due until the run is over.
pub(super) async fn work<R: Render>(run: Arc<Run<R>>, mut line: Line) {
    let mut request = Vec::with_capacity(512);
    while let Some(next) = run.queue.next().await {
        let late = next.due.elapsed();
        if late > run.plan.patience {
            run.tally.dropped(next.phase, 1);
            run.queue.leave();
            continue;
        }
        run.tally.sent(next.phase, late);
        request.clear();
        run.render.render(next.visitor, &mut request);
        let answered = tokio::time::timeout(run.plan.deadline, line.exchange(&mut request)).await;
        match answered {
            Ok(Ok(answer)) => see(&run, next, &answer),
            Ok(Err(broken)) => miss(&run, next, &broken),
            Err(_) => miss(&run, next, &Broken::Deadline),
        }
    }
}

fn see<R>(run: &Run<R>, next: Try, answer: &Answer) {
    run.tally.answered(&next, answer, run.began);
    if answer.status == 201 {
        run.tally.served(&next);
        return run.queue.leave();
    }
    let Answer { status, code, retry_after, .. } = answer;
    let refusal = Refusal { status: Some(*status), code, retry_after: *retry_after };
    after(run, next, &refusal);
}

fn miss<R>(run: &Run<R>, next: Try, broken: &Broken) {
    run.tally.unanswered(&next, broken);
    after(run, next, &Refusal { status: None, code: "", retry_after: None });
}

/// Whether the visitor comes again.
fn after<R>(run: &Run<R>, next: Try, refusal: &Refusal<'_>) {
    match run.plan.retry.wait(next.tries, refusal) {
        Some(wait) => {
            run.queue.again(Try { tries: next.tries + 1, due: Instant::now() + wait, ..next });
        }
        None => run.queue.leave(),
    }
}

#[cfg(test)]
mod tests {
    use super::close_after;

    /// Proves that the header stands behind the first line.
    #[test]
    fn closes() {
        let mut request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_vec();
        close_after(&mut request);
        assert_eq!(request, b"GET / HTTP/1.1\r\nconnection: close\r\nhost: h\r\n\r\n");
    }
}
