//! Who is calling: the buyer's identity, as far as it can be believed.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::request::{Head, USER_ID};
use crate::identity::tokens::Tokens;
use crate::sale::UserId;

/// How buyers are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `X-User-Id`, believed from trusted proxies only: the shop's own front authenticates.
    #[default]
    Header,
    /// The subject of a bearer token, from anyone. `X-User-Id` is not looked at.
    Jwt,
    /// `X-User-Id` or the body's `user_id`, from anyone. For load tests.
    Insecure,
}

/// Decides whom to believe.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The mode.
    pub auth: Auth,
    /// Peers whose headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How tokens are verified, where they are what buyers are known by.
    pub tokens: Option<Arc<Tokens>>,
}

impl Identity {
    /// The user that the headers name, if they may.
    pub(super) fn of_headers(&self, peer: IpAddr, head: &Head) -> Result<Option<UserId>, Problem> {
        let believed = match self.auth {
            Auth::Jwt => return self.of_token(head),
            Auth::Insecure => true,
            Auth::Header => {
                let peer = peer.to_canonical();
                self.trusted_proxies.iter().any(|network| network.contains(&peer))
            }
        };
        if !believed {
            return Ok(None);
        }
        head.single(&USER_ID)?.map(|text| parse_user("X-User-Id", text)).transpose()
    }

    /// Whose token the request carries; nobody's where it carries none. Whatever is wrong with one, the answer
    /// is the same.
    fn of_token(&self, head: &Head) -> Result<Option<UserId>, Problem> {
        let Some(token) = head.bearer()? else { return Ok(None) };
        let Some(tokens) = &self.tokens else { return Ok(None) };
        match tokens.user_of(token) {
            Ok(user) => Ok(Some(user)),
            Err(disbelief) => {
                tracing::debug!(%disbelief, "a token is not believed");
                Err(Problem::InvalidToken)
            }
        }
    }

    /// The user that the headers name, or a refusal.
    pub(super) fn require(&self, peer: IpAddr, head: &Head) -> Result<UserId, Problem> {
        self.of_headers(peer, head)?.ok_or(Problem::IdentityRequired)
    }

    /// Whether identity and idempotency key may also come in the body.
    pub(super) fn reads_body(&self) -> bool {
        self.auth == Auth::Insecure
    }
}

/// A user id, or what is wrong with it.
pub(super) fn parse_user(field: &str, text: &str) -> Result<UserId, Problem> {
    UserId::parse(text).map_err(|invalid| Problem::malformed(format!("{field} {invalid}")))
}
