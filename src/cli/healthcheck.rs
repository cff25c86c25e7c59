//! `floodgate healthcheck`.

use hyper::Method;
use serde_json::json;

use super::arguments::OpsArguments;
use super::client::{Ops, Question};
use super::{Exit, Failure, say, small_runtime};

pub(super) fn run(arguments: &OpsArguments, as_json: bool) -> Result<Exit, Failure> {
    // Liveness needs no token.
    let ops = Ops::unnamed(arguments)?;
    let question = Question::new(Method::GET, "/livez", "health");
    let status = small_runtime()?.block_on(ops.status(&question));
    let status = status.map_err(|failure| failure.with("alive", json!(false)))?;
    let alive = status == 200;
    if as_json {
        say!("{}", json!({ "alive": alive, "status": status }));
    } else {
        say!("{}", if alive { "alive" } else { "not alive" });
    }
    Ok(if alive { Exit::Ok } else { Exit::Failure })
}
