//! What a buyer asks for, and how it is written down in a request.

use std::sync::Arc;

use serde::Serialize;

use super::persona::Persona;
use super::plan::{CrowdPlan, Identity};
use super::wave::Wave;
use crate::client::{HeaderName, header};
use crate::history::Line;

pub(super) const USER: HeaderName = HeaderName::from_static("x-user-id");
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A reservation that somebody wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub user: Arc<str>,
    pub key: Arc<str>,
    pub lines: Arc<[Line]>,
}

/// All that can be wished for, made once: buyers share it.
#[derive(Debug)]
pub(super) struct Shelf {
    singles: Vec<Arc<[Line]>>,
    /// Each item together with the next one.
    pairs: Vec<Arc<[Line]>>,
}

impl Shelf {
    pub(super) fn new(plan: &CrowdPlan) -> Self {
        let line = |at: usize, quantity| {
            let item_id = plan.items[at % plan.items.len()].as_str().into();
            Line { item_id, quantity }
        };
        let numbers = 0..plan.items.len();
        Self {
            singles: numbers.clone().map(|at| [line(at, plan.quantity)].into()).collect(),
            pairs: numbers
                .map(|at| [line(at, plan.quantity), line(at + 1, plan.quantity)].into())
                .collect(),
        }
    }

    /// What buyer `n` wants in a wave that has the items of these numbers.
    pub(super) fn wish(&self, plan: &CrowdPlan, n: u64, wave: &Wave, persona: &Persona) -> Wish {
        let from = if persona.basket { &self.pairs } else { &self.singles };
        let item = wave.items.get(persona.item).copied().unwrap_or(persona.item);
        let user: Arc<str> = format!("{}{n}", plan.user_prefix).into();
        let key = format!("{user}-{:x}-{}", plan.seed, wave.number).into();
        Wish { user, key, lines: from[item % from.len()].clone() }
    }
}

impl Wish {
    /// The same user and key with another body.
    pub(super) fn misused(&self, plan: &CrowdPlan) -> Self {
        let mut lines = self.lines.to_vec();
        if let [only] = &mut lines[..] {
            match plan.items.iter().find(|item| item.as_str() != &*only.item_id) {
                Some(other) => only.item_id = other.as_str().into(),
                None => only.quantity = only.quantity.saturating_add(1),
            }
        } else {
            lines.truncate(1);
        }
        Self { user: self.user.clone(), key: self.key.clone(), lines: lines.into() }
    }

    /// The JSON body.
    pub(super) fn body(&self, identity: Identity) -> Vec<u8> {
        let in_body = identity == Identity::Body;
        let single = match &self.lines[..] {
            [only] => Some(only),
            _ => None,
        };
        let body = Body {
            item_id: single.map(|line| &*line.item_id),
            quantity: single.map(|line| line.quantity),
            lines: if single.is_some() { None } else { Some(&self.lines) },
            user_id: in_body.then_some(&*self.user),
            idempotency_key: in_body.then_some(&*self.key),
        };
        // Safe: a struct of texts and numbers always serialises.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// The headers.
    pub(super) fn headers(&self, identity: Identity) -> Vec<(HeaderName, &str)> {
        let json = (header::CONTENT_TYPE, "application/json");
        match identity {
            Identity::Header => vec![json, (USER, &self.user), (KEY, &self.key)],
            Identity::Body => vec![json],
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<&'a [Line]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::{CrowdPlan, Identity, Persona, Shelf, Wave, Wish};

    fn wish(items: &[&str], basket: bool) -> (CrowdPlan, Wish) {
        let plan = CrowdPlan::new(([127, 0, 0, 1], 1).into(), "s", items, 10);
        let persona = Persona { item: 0, basket, ..Persona::draw(&plan, 3, 0, 1) };
        let wave = Wave::new(0, vec![3], vec![0]);
        let wish = Shelf::new(&plan).wish(&plan, 3, &wave, &persona);
        (plan, wish)
    }

    fn body(wish: &Wish, identity: Identity) -> String {
        String::from_utf8(wish.body(identity)).unwrap()
    }

    /// Proves the forms of the body that the contract knows.
    #[test]
    fn bodies_are_of_the_contract() {
        let (_, single) = wish(&["a"], false);
        assert_eq!(body(&single, Identity::Header), r#"{"item_id":"a","quantity":1}"#);
        assert_eq!(
            body(&single, Identity::Body),
            r#"{"item_id":"a","quantity":1,"user_id":"u3","idempotency_key":"u3-1-0"}"#
        );
        let (_, basket) = wish(&["a", "b"], true);
        assert_eq!(
            body(&basket, Identity::Header),
            r#"{"lines":[{"item_id":"a","quantity":1},{"item_id":"b","quantity":1}]}"#
        );
    }

    /// Proves that a misused key always comes with another body.
    #[test]
    fn misuse_changes_the_body() {
        for (items, basket) in [(&["a"][..], false), (&["a", "b"], false), (&["a", "b"], true)] {
            let (plan, wish) = wish(items, basket);
            let misused = wish.misused(&plan);
            assert_eq!(misused.key, wish.key);
            assert_ne!(misused.body(Identity::Header), wish.body(Identity::Header));
        }
    }
}
