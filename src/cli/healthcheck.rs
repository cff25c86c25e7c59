//! `floodgate healthcheck`.

use hyper::Method;
use serde_json::json;

use super::arguments::OpsArguments;
use super::client::Ops;
use super::{Exit, Failure, say, small_runtime};

pub(super) fn run(arguments: &OpsArguments, as_json: bool) -> Result<Exit, Failure> {
    // Liveness needs no token.
    let ops = Ops::unnamed(arguments)?;
    let answer = small_runtime()?.block_on(ops.send(Method::GET, "/livez", None));
    let (status, _) = answer.map_err(|failure| failure.with("alive", json!(false)))?;
    let alive = status == 200;
    if as_json {
        say!("{}", json!({ "alive": alive, "status": status }));
    } else {
        say!("{}", if alive { "alive" } else { "not alive" });
    }
    Ok(if alive { Exit::Ok } else { Exit::Failure })
}
