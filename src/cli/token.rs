//! `floodgate token`.

use serde_json::json;

use super::arguments::TokenCommand;
use super::{Exit, Failure, say};
use crate::identity::admins::{self, Created};

pub(super) fn run(command: &TokenCommand, as_json: bool) -> Result<Exit, Failure> {
    let TokenCommand::Create { name, role } = command;
    let created = admins::create(name, *role);
    let Created { token, line } = created.map_err(|fault| Failure::new(Exit::Usage, fault))?;
    if as_json {
        say!("{}", json!({ "token": token, "line": line }));
    } else {
        say!("{token}");
        say!("{line}");
    }
    Ok(Exit::Ok)
}
