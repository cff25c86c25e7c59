//! Who wants what: visitor number n as bytes, and as the store will call them.

use std::io::Write;

use crate::ops::{ItemSpec, SaleSpec};
use crate::oracle::UserOf;
use crate::rig::Render;
use crate::scenario::Scenario;

/// The sale of a scenario.
pub(super) const SALE: &str = "scenario";

/// Shared by its clones.
#[derive(Clone, Debug)]
pub struct Workload {
    host: String,
    keys: bool,
    same: u64,
    people: Option<u64>,
    items: u64,
    /// Visitors for one item.
    block: u64,
}

impl Workload {
    /// For so many visitors.
    #[must_use]
    pub fn new(scenario: &Scenario, host: &str, visitors: u64) -> Self {
        let items = scenario.sale.items.max(1);
        Self {
            host: host.to_owned(),
            keys: scenario.clients.keys,
            same: scenario.clients.same.max(1),
            people: scenario.clients.people,
            items,
            block: visitors.div_ceil(items).max(1),
        }
    }

    /// The items, with so many units each.
    #[must_use]
    pub fn items(&self, stock: u64) -> Vec<ItemSpec> {
        let item = |n: u64| SaleSpec::single(SALE, &format!("sku-{}", n + 1), stock, None).items;
        (0..self.items).flat_map(item).collect()
    }

    fn person(&self, n: u64) -> u64 {
        let person = n / self.same;
        self.people.map_or(person, |people| person % people.max(1))
    }
}

impl UserOf for Workload {
    fn user_of(&self, n: u64) -> String {
        format!("u{}", self.person(n))
    }
}

impl Render for Workload {
    fn render(&self, n: u64, out: &mut Vec<u8>) {
        let person = self.person(n);
        // The whole block of one person wants the same item: their first visit's.
        let item = (n / self.same * self.same / self.block).min(self.items - 1) + 1;
        let digits = item.checked_ilog10().map_or(1, |log| log as usize + 1);
        let length = r#"{"item_id":"sku-","quantity":1}"#.len() + digits;
        // Writing to a vector cannot fail.
        drop(write!(
            out,
            "POST /v1/sales/{SALE}/reservations HTTP/1.1\r\nhost: {}\r\nx-user-id: u{person}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n",
            self.host
        ));
        if self.keys {
            drop(write!(out, "idempotency-key: u{person}-{item}\r\n"));
        }
        drop(write!(out, "\r\n{{\"item_id\":\"sku-{item}\",\"quantity\":1}}"));
    }
}

#[cfg(test)]
mod tests {
    use super::Workload;
    use crate::oracle::UserOf;
    use crate::rig::Render;

    fn workload(same: u64, people: Option<u64>, items: u64) -> Workload {
        let host = "h".to_owned();
        Workload { host, keys: true, same, people, items, block: 40_u64.div_ceil(items) }
    }

    fn text(workload: &Workload, n: u64) -> String {
        let mut out = Vec::new();
        workload.render(n, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Proves that visitors in a row are one person with one key, that people come again, and that each
    /// block wants an item of its own, with a length that is right.
    #[test]
    fn visitors() {
        let pairs = workload(2, Some(10), 20);
        assert_eq!(pairs.user_of(3), "u1");
        assert_eq!(pairs.user_of(21), "u0");
        assert_eq!(text(&pairs, 2), text(&pairs, 3));
        let last = text(&pairs, 39);
        assert!(last.contains("idempotency-key: u9-20\r\n"), "{last}");
        let (head, body) = last.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"item_id":"sku-20","quantity":1}"#);
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert_eq!(workload(1, None, 1).user_of(7), "u7");
    }
}
