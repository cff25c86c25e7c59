//! Reading `Forwarded` and `X-Forwarded-For` from the right.
//!
//! Only what a trusted hop wrote may count, and that is the end of the list; the rest may be anything,
//! such as a quote that is never closed. So a list is taken apart backwards, one entry at a time, and
//! nothing to the left of the entry that counts is looked at.

use std::net::{IpAddr, Ipv6Addr};

use super::Client;
use crate::limits;

/// Who stands in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// An address.
    Address(IpAddr),
    /// Somebody whom the hop does not name: `unknown`, `_hidden`, or no `for` at all.
    Hidden,
    /// Not an entry.
    Invalid,
}

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hops {
    /// RFC 7239.
    Forwarded,
    /// Addresses with commas between them.
    XForwardedFor,
}

/// Goes from hop to hop, the nearest first, as long as they are trusted.
pub fn walk(
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
    hops: impl Iterator<Item = Hop>,
) -> Client {
    let mut last = peer;
    for (number, hop) in hops.enumerate() {
        if number >= limits::FORWARDED_HOPS_MAX {
            return Client::Invalid(last);
        }
        match hop {
            Hop::Address(address) if is_trusted(address) => last = address,
            Hop::Address(address) => return Client::Named(address),
            Hop::Hidden => return Client::Unnamed,
            Hop::Invalid => return Client::Invalid(last),
        }
    }
    Client::Unnamed
}

impl Hops {
    /// The entries of one header line, the rightmost first. Empty ones are none (RFC 9110 §5.6.1).
    pub fn of(self, line: &[u8]) -> impl Iterator<Item = Hop> {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            loop {
                let (before, entry) = match self {
                    Hops::Forwarded => split_last(rest?),
                    Hops::XForwardedFor => split_last_bare(rest?),
                };
                rest = before;
                let entry = entry.trim_ascii();
                if !entry.is_empty() {
                    return Some(self.hop(entry));
                }
            }
        })
    }

    fn hop(self, entry: &[u8]) -> Hop {
        let Ok(entry) = std::str::from_utf8(entry) else { return Hop::Invalid };
        match self {
            Hops::Forwarded => element(entry),
            Hops::XForwardedFor => node(entry),
        }
    }
}

fn split_last_bare(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match list.iter().rposition(|byte| *byte == b',') {
        Some(comma) => (Some(&list[..comma]), &list[comma + 1..]),
        None => (None, list),
    }
}

/// Cuts off the last entry at the last comma that does not stand between quotes, counted from the end.
fn split_last(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' if !(quoted && is_escaped(list, at)) => quoted = !quoted,
            b',' if !quoted => return (Some(&list[..at]), &list[at + 1..]),
            _ => {}
        }
    }
    (None, list)
}

/// Whether an odd number of backslashes stands before a byte.
fn is_escaped(list: &[u8], at: usize) -> bool {
    list[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// One entry of `Forwarded`: pairs with semicolons between them, of which one may be `for`.
fn element(entry: &str) -> Hop {
    let mut hop = None;
    let mut rest = entry;
    loop {
        let Some((name, after)) = rest.split_once('=') else { return Hop::Invalid };
        let Some((value, after)) = value(after) else { return Hop::Invalid };
        // A quote in a name would leave it to what stands in front of the entry where it begins.
        if !is_token(name.trim()) {
            return Hop::Invalid;
        }
        if name.trim().eq_ignore_ascii_case("for") && hop.replace(node(&value)).is_some() {
            return Hop::Invalid;
        }
        match after.trim_start().strip_prefix(';') {
            Some(next) if next.trim().is_empty() => return hop.unwrap_or(Hop::Hidden),
            Some(next) => rest = next,
            None if after.trim().is_empty() => return hop.unwrap_or(Hop::Hidden),
            None => return Hop::Invalid,
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// A token, or a quoted string without its quotes; and what follows.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t', '"']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

/// An address with or without its port, or a name that says nothing.
fn node(text: &str) -> Hop {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return Hop::Invalid };
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return Hop::Invalid;
        }
        address.parse::<Ipv6Addr>().map(IpAddr::V6)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        Ok(address)
    } else {
        // A second colon is no port's.
        let name = match text.split_once(':') {
            None => text,
            Some((name, port)) if is_port(port) => name,
            Some(_) => return Hop::Invalid,
        };
        if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
            return Hop::Hidden;
        }
        name.parse().map(IpAddr::V4)
    };
    address.map_or(Hop::Invalid, |address| Hop::Address(address.to_canonical()))
}

/// A number, or a port that is not named either.
fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|_| port.bytes().all(|byte| byte.is_ascii_digit()))
        || is_obfuscated(port)
}

fn is_obfuscated(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed))
}

#[cfg(test)]
mod tests;
