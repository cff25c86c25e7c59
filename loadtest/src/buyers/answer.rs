//! What an answer means: the one place where statuses and bodies of the contract are read.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::wish::Wish;
use crate::client::{Fault, Reply};
use crate::history::{Code, Ending, Level, Line, Receipt, Seen, digest, is_transient, known};
use crate::timestamp::parse_ms;

/// An answer, or what there was instead of one.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub seen: Seen,
    pub retry_after: Option<u64>,
    /// `Idempotent-Replayed: true`.
    pub replayed: bool,
    /// The reservation that was granted.
    pub reservation: Option<Arc<str>>,
    pub receipt: Option<Box<Receipt>>,
    pub body: Bytes,
    /// The server seems to be gone.
    pub disconnected: bool,
    /// Something no server may answer.
    pub anomaly: Option<String>,
}

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It was granted.
    Granted,
    /// Try again with the same key, later.
    Again,
    /// It was refused for good.
    Refused,
}

impl Answer {
    /// Reads the answer to a reservation.
    pub(super) fn to_reserve(wish: &Wish, sale: &str, came: Result<Reply, Fault>) -> Self {
        let mut answer = Self::to_other(201, came);
        if answer.seen != Seen::Ok {
            return answer;
        }
        match granted(wish, sale, &answer.body) {
            Ok((reservation, receipt)) => {
                if receipt.level.is_none() {
                    answer.anomaly = Some(format!("201 for {}: no level is told", wish.key));
                }
                answer.reservation = Some(reservation);
                answer.receipt = Some(Box::new(receipt));
            }
            Err(wrong) => {
                // Units may have been taken, but by what id? Nobody knows.
                answer.seen = Seen::Unknown(Code::Borrowed("unreadable-answer"));
                answer.anomaly = Some(format!("201 for {}: {wrong}", wish.key));
            }
        }
        answer
    }

    /// Reads the answer to anything else, whose success has the status `wanted`.
    pub(super) fn to_other(wanted: u16, came: Result<Reply, Fault>) -> Self {
        let reply = match came {
            Ok(reply) => reply,
            Err(fault) => return Self::of_fault(&fault),
        };
        let (seen, anomaly) = judge(wanted, &reply);
        Self {
            seen,
            retry_after: reply.retry_after,
            replayed: reply.idempotent_replayed,
            reservation: None,
            receipt: None,
            body: reply.body,
            disconnected: false,
            anomaly,
        }
    }

    fn of_fault(fault: &Fault) -> Self {
        let seen = match fault {
            Fault::NotSent(_) => Seen::No(known("not-sent")),
            Fault::Disconnected(_) => Seen::Unknown(known("disconnected")),
            Fault::Deadline => Seen::Unknown(known("deadline")),
        };
        Self {
            seen,
            retry_after: None,
            replayed: false,
            reservation: None,
            receipt: None,
            body: Bytes::new(),
            disconnected: fault.is_disconnect(),
            anomaly: None,
        }
    }

    /// What to do about it.
    pub(super) fn next(&self) -> Next {
        match &self.seen {
            Seen::Ok => Next::Granted,
            Seen::Invoke | Seen::Unknown(_) => Next::Again,
            // Nobody waits at a closed door: these come back in a later wave.
            Seen::No(code) if is_closed_door(code) => Next::Refused,
            Seen::No(code) if is_transient(code) => Next::Again,
            Seen::No(_) => Next::Refused,
        }
    }

    /// Whether a later wave, with a new key, may bring another answer.
    pub(super) fn may_come_back(&self) -> bool {
        match &self.seen {
            Seen::No(code) => code == "sold-out" || is_transient(code),
            Seen::Ok | Seen::Invoke | Seen::Unknown(_) => false,
        }
    }

    /// Whether nobody knows what it did.
    pub(super) fn is_unknown(&self) -> bool {
        match &self.seen {
            Seen::Invoke | Seen::Unknown(_) => true,
            Seen::Ok | Seen::No(_) => false,
        }
    }

    /// What the history keeps of it.
    pub(super) fn ending(&self) -> Ending {
        Ending {
            seen: self.seen.clone(),
            replayed: self.replayed,
            reservation: self.reservation.clone(),
            receipt: self.receipt.clone(),
        }
    }
}

fn is_closed_door(code: &str) -> bool {
    code == "sale-not-open" || code == "sale-paused"
}

/// Granted, refused or unknown; and what is wrong with an answer that is none of the contract's.
fn judge(wanted: u16, reply: &Reply) -> (Seen, Option<String>) {
    #[derive(Deserialize)]
    struct Problem<'a> {
        #[serde(borrow)]
        code: Cow<'a, str>,
    }
    let status = reply.status;
    if status == wanted {
        return (Seen::Ok, None);
    }
    let code =
        serde_json::from_slice::<Problem<'_>>(&reply.body).ok().map(|body| known(&body.code));
    match (status, code) {
        (400..=499, Some(code)) => (Seen::No(code), None),
        (503, Some(code)) if code == "outcome-unknown" => (Seen::Unknown(code), None),
        (503, Some(code)) => (Seen::No(code), None),
        // A proxy in between may say 502 or 504 without meaning harm; unknown all the same.
        (500..=599, code) => (Seen::Unknown(code.unwrap_or(known("unknown"))), None),
        (_, code) => {
            let wrong = format!("status {status} with code {code:?} where {wanted} was due");
            (Seen::Unknown(known("wrong-answer")), Some(wrong))
        }
    }
}

#[derive(Deserialize)]
struct Granted<'a> {
    reservation_id: &'a str,
    sale_id: &'a str,
    status: &'a str,
    lines: Vec<GrantedLine<'a>>,
    total: i64,
    held_at: &'a str,
    expires_at: &'a str,
    #[serde(default)]
    durability: Option<&'a str>,
}

#[derive(Deserialize)]
struct GrantedLine<'a> {
    item_id: &'a str,
    quantity: u32,
    unit_price: i64,
}

/// Reads a 201 and compares it with what was asked for.
fn granted(wish: &Wish, sale: &str, body: &[u8]) -> Result<(Arc<str>, Receipt), String> {
    let granted: Granted<'_> = serde_json::from_slice(body).map_err(|bad| bad.to_string())?;
    if granted.sale_id != sale || granted.status != "held" {
        return Err(format!("sale {}, status {}", granted.sale_id, granted.status));
    }
    let asked = |line: &GrantedLine<'_>| {
        let same = |l: &&Line| *l.item_id == *line.item_id && l.quantity == line.quantity;
        wish.lines.iter().any(|asked| same(&asked))
    };
    if granted.lines.len() != wish.lines.len() || !granted.lines.iter().all(asked) {
        return Err("other lines than were asked for".to_owned());
    }
    let sum: i64 = granted.lines.iter().map(|l| l.unit_price * i64::from(l.quantity)).sum();
    if sum != granted.total {
        return Err(format!("lines add up to {sum}, total is {}", granted.total));
    }
    let time = |text: &str| parse_ms(text).ok_or_else(|| format!("no time: {text}"));
    let receipt = Receipt {
        sale_id: sale.into(),
        lines: granted
            .lines
            .iter()
            .map(|line| Line { item_id: line.item_id.into(), quantity: line.quantity })
            .collect(),
        total: granted.total,
        held_at_ms: time(granted.held_at)?,
        expires_at_ms: time(granted.expires_at)?,
        body_digest: digest(body),
        level: granted.durability.and_then(Level::parse),
    };
    if receipt.expires_at_ms <= receipt.held_at_ms {
        return Err("expires before it is held".to_owned());
    }
    Ok((granted.reservation_id.into(), receipt))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Answer, Next, Wish};
    use crate::client::{Fault, Reply};
    use crate::history::{Level, Line, Seen};

    fn wish() -> Wish {
        let lines = [Line { item_id: "a".into(), quantity: 2 }];
        Wish { user: "u".into(), key: "k".into(), lines: lines.into() }
    }

    fn reply(status: u16, body: &str) -> Result<Reply, Fault> {
        Ok(Reply {
            status,
            retry_after: None,
            idempotent_replayed: false,
            location: None,
            etag: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }

    fn granted(quantity: u32, total: i64) -> String {
        format!(
            r#"{{"reservation_id":"r","sale_id":"s","status":"held","lines":[{{"item_id":"a",
            "quantity":{quantity},"unit_price":5,"currency":"EUR"}}],"total":{total},
            "currency":"EUR","held_at":"2025-12-31T23:59:59.999Z",
            "expires_at":"2026-01-01T00:09:59.999Z","durability":"fsync"}}"#
        )
    }

    fn read(came: Result<Reply, Fault>) -> Answer {
        Answer::to_reserve(&wish(), "s", came)
    }

    /// Proves that a 201 is read, and that one that does not fit the request is an anomaly.
    #[test]
    fn reads_a_grant() {
        let answer = read(reply(201, &granted(2, 10)));
        assert_eq!((&answer.seen, answer.next()), (&Seen::Ok, Next::Granted));
        assert_eq!(answer.reservation.as_deref(), Some("r"));
        let receipt = answer.receipt.unwrap();
        assert_eq!(receipt.expires_at_ms - receipt.held_at_ms, 600_000);
        for wrong in [granted(1, 5), granted(2, 11), "{}".to_owned()] {
            let answer = read(reply(201, &wrong));
            assert!(answer.anomaly.is_some() && answer.is_unknown());
        }
    }

    /// Proves that the level is read, and that one which is missing or unknown is an anomaly, and no other's.
    #[test]
    fn reads_the_level() {
        let told = granted(2, 10);
        let answer = read(reply(201, &told.replace("fsync", "replicated")));
        assert_eq!(answer.anomaly, None);
        assert_eq!(answer.receipt.unwrap().level, Some(Level::Replicated));
        for wrong in [told.replace("fsync", "always"), told.replace(r#","durability":"fsync""#, "")]
        {
            let answer = read(reply(201, &wrong));
            assert!(answer.anomaly.is_some() && answer.seen == Seen::Ok, "{wrong}");
            assert_eq!(answer.receipt.unwrap().level, None);
        }
    }

    /// Proves the three values: yes, a definite no, unknown.
    #[test]
    fn tells_no_from_unknown() {
        let sold_out = read(reply(409, r#"{"code":"sold-out"}"#));
        assert_eq!((sold_out.next(), sold_out.may_come_back()), (Next::Refused, true));
        let limit = read(reply(409, r#"{"code":"limit-reached"}"#));
        assert_eq!((limit.next(), limit.may_come_back()), (Next::Refused, false));
        let busy = read(reply(503, r#"{"code":"overloaded"}"#));
        assert_eq!((busy.next(), busy.is_unknown()), (Next::Again, false));
        let unknown = read(reply(503, r#"{"code":"outcome-unknown"}"#));
        assert_eq!((unknown.next(), unknown.is_unknown()), (Next::Again, true));
        assert!(read(reply(500, "")).is_unknown());
        assert!(read(Err(Fault::Deadline)).is_unknown());
        let refused = read(Err(Fault::NotSent("refused".into())));
        assert!(!refused.is_unknown() && refused.disconnected && refused.next() == Next::Again);
        assert!(read(reply(200, "{}")).anomaly.is_some());
        assert!(read(reply(409, "no problem")).anomaly.is_some());
    }
}
