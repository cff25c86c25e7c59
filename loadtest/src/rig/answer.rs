//! What of an answer counts: who got what, or why not, and when to come again.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{LOCATION, RETRY_AFTER};

use super::response::Head;

/// Bytes of a reservation's id.
pub type ReservationId = [u8; 16];

/// An answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    /// The reservation that `Location` names.
    pub reservation: Option<ReservationId>,
    /// The code of a problem; empty where there is none.
    pub code: String,
    /// Whole seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    pub body_bytes: usize,
}

impl Answer {
    /// By the bytes of an HTTP/1.1 answer.
    pub(super) fn of_bytes(head: &Head, bytes: &[u8]) -> Self {
        let (head_bytes, body) = bytes.split_at(head.head_bytes.min(bytes.len()));
        Self::new(head.status, body, |name: &str| header(head_bytes, name))
    }

    /// By the parts of an answer that somebody else has read.
    pub(super) fn of_parts(status: u16, headers: &HeaderMap, body: &Bytes) -> Self {
        Self::new(status, body, |name: &str| {
            let name = if name == "location" { LOCATION } else { RETRY_AFTER };
            headers.get(name)?.to_str().ok()
        })
    }

    fn new<'a>(status: u16, body: &[u8], header: impl Fn(&str) -> Option<&'a str>) -> Self {
        let won = status == 201;
        Self {
            status,
            reservation: if won { header("location").and_then(reservation_of) } else { None },
            code: if won { String::new() } else { code_of(body).to_owned() },
            retry_after: if won {
                None
            } else {
                header("retry-after").and_then(|s| s.parse().ok())
            },
            body_bytes: body.len(),
        }
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = head.split(|byte| *byte == b'\n').skip(1);
    let value = lines.find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        found.eq_ignore_ascii_case(name.as_bytes()).then_some(())?;
        value.strip_prefix(b":")
    })?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// The id at the end of a reservation's path.
pub(crate) fn reservation_of(path: &str) -> Option<ReservationId> {
    let id = path.rsplit('/').next()?;
    let mut digits = id.bytes().filter(|byte| *byte != b'-');
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        let mut digit = || char::from(digits.next()?).to_digit(16);
        *byte = u8::try_from(digit()? * 16 + digit()?).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

/// The value of `"code"` in a problem's body.
fn code_of(body: &[u8]) -> &str {
    const NAME: &[u8] = b"\"code\":\"";
    let at = body.windows(NAME.len()).position(|window| window == NAME);
    let code = at.and_then(|at| body[at + NAME.len()..].split(|byte| *byte == b'"').next());
    code.and_then(|code| std::str::from_utf8(code).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Answer;
    use crate::rig::parse;

    fn read(bytes: &[u8]) -> Answer {
        Answer::of_bytes(&parse(bytes).unwrap().unwrap(), bytes)
    }

    /// Proves that id, code and waiting time are found, and that nothing is made up where they are not.
    #[test]
    fn reads_what_counts() {
        let won = read(
            b"HTTP/1.1 201 Created\r\nLocation: /v1/reservations/0193f0b2-7d4c-7a31-9c5e-2f6b8d1e4a70\r\n\
            content-length: 2\r\n\r\n{}",
        );
        assert_eq!(won.reservation.unwrap()[..3], [0x01, 0x93, 0xf0]);
        assert_eq!((won.retry_after, &*won.code, won.body_bytes), (None, "", 2));
        let refused = read(
            b"HTTP/1.1 409 Conflict\r\nretry-after: 7\r\ncontent-length: 26\r\n\r\n{\"a\":1,\"code\":\"sold-out\"}\n",
        );
        assert_eq!((&*refused.code, refused.retry_after), ("sold-out", Some(7)));
        assert_eq!(refused.reservation, None);
        assert_eq!(read(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").reservation, None);
    }
}
