//! Just enough of HTTP/1.1 to know where an answer ends. What it does not know (chunks, upgrades,
//! a second answer that nobody asked for) is an error, not a guess.

use thiserror::Error;

use crate::limits::HEAD_BYTES_MAX;

/// The head of an answer, of which all that counts was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Bytes of the head, the empty line included.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// The connection takes another request.
    pub keep_alive: bool,
}

impl Head {
    /// Bytes of the whole answer.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.head_bytes.saturating_add(self.body_bytes)
    }
}

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadResponse {
    /// Not `HTTP/1.1 nnn`.
    #[error("no status line")]
    StatusLine,
    /// A header without a colon, or a length that is none.
    #[error("bad header")]
    Header,
    /// Chunked, or without a length.
    #[error("no content-length")]
    NoLength,
    /// No end within the bound.
    #[error("head too long")]
    TooLong,
    /// More bytes than the answer has.
    #[error("surplus bytes")]
    Surplus,
}

/// Reads the head at the beginning of `bytes`; `None` while it is not complete.
///
/// # Errors
///
/// Anything that this parser does not understand.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, BadResponse> {
    let mut at = 0;
    let mut status = None;
    let mut length = None;
    let mut keep_alive = true;
    while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = bytes[at..at + end].strip_suffix(b"\r").unwrap_or(&bytes[at..at + end]);
        at += end + 1;
        let Some(status) = status else {
            status = Some(status_of(line)?);
            continue;
        };
        if line.is_empty() {
            let body_bytes = match (status, length) {
                // These never have a body, whatever they say.
                (100..=199 | 204 | 304, _) => 0,
                (_, Some(length)) => length,
                (_, None) => return Err(BadResponse::NoLength),
            };
            return Ok(Some(Head { status, head_bytes: at, body_bytes, keep_alive }));
        }
        let (name, value) = header_of(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(number(value).ok_or(BadResponse::Header)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err(BadResponse::NoLength);
        } else if name.eq_ignore_ascii_case(b"connection") {
            keep_alive = !value.eq_ignore_ascii_case(b"close");
        }
    }
    if bytes.len() > HEAD_BYTES_MAX { Err(BadResponse::TooLong) } else { Ok(None) }
}

fn status_of(line: &[u8]) -> Result<u16, BadResponse> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or(BadResponse::StatusLine)?;
    match rest {
        [a, b, c] | [a, b, c, b' ', ..] => {
            let status = number(&[*a, *b, *c]).and_then(|status| u16::try_from(status).ok());
            status.filter(|status| *status >= 100).ok_or(BadResponse::StatusLine)
        }
        _ => Err(BadResponse::StatusLine),
    }
}

fn header_of(line: &[u8]) -> Result<(&[u8], &[u8]), BadResponse> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BadResponse::Header)?;
    Ok((&line[..colon], line[colon + 1..].trim_ascii()))
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_usize, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| usize::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::{BadResponse, Head, parse};
    use crate::limits::HEAD_BYTES_MAX;

    const ANSWER: &[u8] =
        b"HTTP/1.1 201 Created\r\nDate: x\r\nContent-LENGTH:  12 \r\nx: y:z\r\n\r\n{\"ok\":true}\n";

    /// Proves that a head is found complete at its last byte, and at none before, wherever the
    /// reads were split.
    #[test]
    fn split_reads() {
        let head_bytes = ANSWER.len() - 12;
        for end in 0..head_bytes {
            assert_eq!(parse(&ANSWER[..end]), Ok(None), "{end}");
        }
        let whole = Head { status: 201, head_bytes, body_bytes: 12, keep_alive: true };
        for end in head_bytes..=ANSWER.len() {
            assert_eq!(parse(&ANSWER[..end]), Ok(Some(whole)));
        }
        assert_eq!(whole.total_bytes(), ANSWER.len());
    }

    /// Proves the statuses that have no body, and `Connection: close`.
    #[test]
    fn other_answers() {
        let head = parse(b"HTTP/1.1 204 No Content\r\nconnection: Close\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.body_bytes, head.keep_alive), (204, 0, false));
        let head = parse(b"HTTP/1.1 409\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.body_bytes), (409, 0));
    }

    /// Proves that whatever is not understood is an error.
    #[test]
    fn refuses_what_it_does_not_know() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(parse(chunked), Err(BadResponse::NoLength));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Err(BadResponse::NoLength));
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n"), Err(BadResponse::StatusLine));
        assert_eq!(parse(b"HTTP/1.1 2x0 OK\r\n"), Err(BadResponse::StatusLine));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nnothing\r\n"), Err(BadResponse::Header));
        let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n";
        assert_eq!(parse(endless), Err(BadResponse::Header));
        let mut long = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        long.resize(HEAD_BYTES_MAX + 1, b'a');
        assert_eq!(parse(&long), Err(BadResponse::TooLong));
    }
}
