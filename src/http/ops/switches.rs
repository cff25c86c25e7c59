//! The degradation switches of this gateway.

use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Ops;
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::request::Head;
use crate::identity::admins::Admin;
use crate::limits;
use crate::switches::Switch;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    on: bool,
    reason: String,
}

impl Ops {
    pub(super) fn list_switches(&self) -> Answer {
        let switches = Switch::ALL.into_iter().map(|switch| self.switches.to_json(switch));
        answer::value(StatusCode::OK, &json!({ "switches": switches.collect::<Value>() }))
    }

    pub(super) async fn set_switch(
        &self,
        name: &str,
        head: &Head,
        body: &mut Incoming,
        admin: &Admin,
    ) -> Result<Answer, Problem> {
        let switch = Switch::parse(name).ok_or(Problem::NotFound)?;
        let body = body::read(head, body, limits::BODY_BYTES_MAX).await?;
        let Wanted { on, reason } = body::parse(&body)?;
        let most = limits::REASON_BYTES_MAX;
        if !(1..=most).contains(&reason.len()) {
            return Err(Problem::malformed(format!("reason must be 1 to {most} bytes long")));
        }
        self.switches.set(switch, on, &admin.name, &reason);
        Ok(answer::value(StatusCode::OK, &self.switches.to_json(switch)))
    }
}
