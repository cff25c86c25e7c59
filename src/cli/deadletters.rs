//! `floodgate deadletters …`: through the ops API of a running gateway.

use hyper::Method;
use serde_json::Value;

use super::arguments::{DeadLetterCommand, OpsArguments};
use super::client::{Ops, Question};
use super::{Exit, Failure, say, small_runtime, table};
use crate::store::DeadMark;

const LETTERS: &str = "/admin/v1/dead-letters";

pub(super) fn run(
    arguments: &OpsArguments,
    command: &DeadLetterCommand,
    as_json: bool,
) -> Result<Exit, Failure> {
    let ops = Ops::of(arguments)?;
    let runtime = small_runtime()?;
    let ask = |method: Method, path: &str| {
        let about = path.strip_prefix(LETTERS).and_then(|rest| rest.split('/').nth(1));
        let about = format!("dead letter {}", about.unwrap_or_default());
        runtime.block_on(ops.ask(&Question::new(method, path, about)))
    };
    let answer = match command {
        DeadLetterCommand::List => {
            let mut letters = Vec::new();
            let mut next = Some(LETTERS.to_owned());
            while let Some(path) = next {
                let mut page = ask(Method::GET, &path)?;
                next = page["next"].as_str().map(|mark| format!("{LETTERS}?after={mark}"));
                if let Value::Array(page) = page["dead_letters"].take() {
                    letters.extend(page);
                }
            }
            if !as_json {
                show_list(&letters);
                return Ok(Exit::Ok);
            }
            Value::from(letters)
        }
        DeadLetterCommand::Show { id } => ask(Method::GET, &path(id, "")?)?,
        DeadLetterCommand::Retry { id } => ask(Method::POST, &path(id, "/retry")?)?,
        DeadLetterCommand::Drop { id } => ask(Method::DELETE, &path(id, "")?)?,
    };
    if as_json {
        say!("{answer}");
    } else {
        let pretty = serde_json::to_string_pretty(&answer);
        say!("{}", pretty.unwrap_or_else(|_| answer.to_string()));
    }
    Ok(Exit::Ok)
}

fn path(id: &str, rest: &str) -> Result<String, Failure> {
    let wrong = || format!("{id}: a dead letter's id is LANE-EPOCH-SEQ, as `list` shows it");
    let mark = DeadMark::parse(id).ok_or_else(|| Failure::new(Exit::Usage, wrong()))?;
    Ok(format!("{LETTERS}/{mark}{rest}"))
}

fn show_list(letters: &[Value]) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |letter: &Value| {
        let events = letter["event_count"].to_string();
        vec![word(&letter["id"]), word(&letter["at"]), events, word(&letter["reason"])]
    };
    table::print(&["LETTER", "AT", "EVENTS", "REASON"], &[2], letters.iter().map(row).collect());
}
