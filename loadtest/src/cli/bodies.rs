//! `bodies`: request bodies for generators that cannot make a header per request (oha).

use std::io::{BufWriter, Write};

use clap::Args;
use serde::Serialize;

use super::Failure;

#[derive(Debug, Args)]
pub struct BodiesOptions {
    /// How many users, one line each
    #[arg(long)]
    users: u64,
    /// The item
    #[arg(long)]
    item: String,
    /// Units of it
    #[arg(long, default_value_t = 1)]
    quantity: u32,
    /// Users are called by this prefix and their number
    #[arg(long, default_value = "u")]
    prefix: String,
}

#[derive(Serialize)]
struct Body<'a> {
    user_id: &'a str,
    idempotency_key: &'a str,
    item_id: &'a str,
    quantity: u32,
}

pub fn run(options: &BodiesOptions) -> Result<(), Failure> {
    match write(options, BufWriter::new(std::io::stdout().lock())) {
        // Who reads has had enough.
        Err(bad) if bad.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::failed),
    }
}

fn write(options: &BodiesOptions, mut out: impl Write) -> std::io::Result<()> {
    for n in 0..options.users {
        let user_id = format!("{}{n}", options.prefix);
        let idempotency_key = format!("{user_id}-1");
        let body = Body {
            user_id: &user_id,
            idempotency_key: &idempotency_key,
            item_id: &options.item,
            quantity: options.quantity,
        };
        serde_json::to_writer(&mut out, &body)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::{BodiesOptions, write};

    /// Proves one line a user, with a user and a key of its own.
    #[test]
    fn writes_lines() {
        let options = BodiesOptions { users: 2, item: "i".into(), quantity: 1, prefix: "u".into() };
        let mut out = Vec::new();
        write(&options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.lines().nth(1),
            Some(r#"{"user_id":"u1","idempotency_key":"u1-1","item_id":"i","quantity":1}"#)
        );
        assert_eq!(text.lines().count(), 2);
    }
}
