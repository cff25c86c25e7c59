//! `floodgate switch …`: through the ops API of a running gateway.

use hyper::Method;
use serde_json::{Value, json};

use super::arguments::{OnOff, OpsArguments, SwitchCommand};
use super::client::{Ops, Question};
use super::{Exit, Failure, say, small_runtime, table};
use crate::switches::Switch;

const SWITCHES: &str = "/admin/v1/switches";

pub(super) fn run(
    arguments: &OpsArguments,
    command: &SwitchCommand,
    as_json: bool,
) -> Result<Exit, Failure> {
    let question = match command {
        SwitchCommand::List => Question::new(Method::GET, SWITCHES, "list of switches"),
        SwitchCommand::Set { name, to, reason } => {
            let known = Switch::parse(name).ok_or_else(|| {
                let names = Switch::ALL.map(Switch::as_str).join(", ");
                Failure::new(Exit::Usage, format!("{name}: the switches are {names}"))
            })?;
            let on = *to == OnOff::On;
            let path = format!("{SWITCHES}/{}", known.as_str());
            Question::new(Method::PUT, path, format!("switch {name}"))
                .with_body(json!({ "on": on, "reason": reason }))
        }
    };
    let ops = Ops::of(arguments)?;
    let answer = small_runtime()?.block_on(ops.ask(&question))?;
    if as_json {
        say!("{answer}");
        return Ok(Exit::Ok);
    }
    let one = std::slice::from_ref(&answer);
    show(answer["switches"].as_array().map_or(one, Vec::as_slice));
    Ok(Exit::Ok)
}

fn show(switches: &[Value]) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |switch: &Value| {
        let on = if switch["on"] == true { "on" } else { "off" };
        let rest = ["since", "by", "reason"].map(|name| word(&switch[name]));
        [word(&switch["name"]), on.to_owned()].into_iter().chain(rest).collect()
    };
    table::print(
        &["SWITCH", "STATE", "SINCE", "BY", "REASON"],
        &[],
        switches.iter().map(row).collect(),
    );
}
