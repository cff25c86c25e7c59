//! Requests as bytes: rendered into a buffer that is used again and again.

use std::io::Write;

/// A reservation of one unit by user number `n`.
#[derive(Clone, Debug)]
pub struct ReserveRequest {
    host: String,
    sale: String,
    body: String,
    prefix: String,
    with_key: bool,
}

impl ReserveRequest {
    /// Users are called by `prefix` and their number; `with_key` adds an `Idempotency-Key`.
    #[must_use]
    pub fn new(host: &str, sale: &str, item: &str, prefix: &str, with_key: bool) -> Self {
        let body = serde_json::json!({ "item_id": item, "quantity": 1 }).to_string();
        let (host, sale) = (host.to_owned(), sale.to_owned());
        Self { host, sale, body, prefix: prefix.to_owned(), with_key }
    }
}

impl super::Render for ReserveRequest {
    fn render(&self, n: u64, out: &mut Vec<u8>) {
        let Self { host, sale, body, prefix, with_key } = self;
        // Writing to a vector cannot fail.
        drop(write!(
            out,
            "POST /v1/sales/{sale}/reservations HTTP/1.1\r\nhost: {host}\r\nx-user-id: \
             {prefix}{n}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ));
        if *with_key {
            drop(write!(out, "idempotency-key: {prefix}{n}-1\r\n"));
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.as_bytes());
    }
}

/// A plain GET, the same for every number.
#[derive(Clone, Debug)]
pub struct GetRequest(String);

impl GetRequest {
    /// A GET of that path.
    #[must_use]
    pub fn new(host: &str, path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
    }
}

impl super::Render for GetRequest {
    fn render(&self, _n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{GetRequest, ReserveRequest};
    use crate::rig::Render;

    fn text(render: &impl Render, n: u64) -> String {
        let mut out = Vec::new();
        render.render(n, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Proves the exact bytes, with and without a key.
    #[test]
    fn renders_requests() {
        let with_key = ReserveRequest::new("h", "s", "i", "u", true);
        assert_eq!(
            text(&with_key, 7),
            "POST /v1/sales/s/reservations HTTP/1.1\r\nhost: h\r\nx-user-id: u7\r\n\
             content-type: application/json\r\ncontent-length: 28\r\nidempotency-key: u7-1\r\n\r\n\
             {\"item_id\":\"i\",\"quantity\":1}"
        );
        assert!(!text(&ReserveRequest::new("h", "s", "i", "u", false), 7).contains("idempotency"));
        assert_eq!(text(&GetRequest::new("h", "/p"), 1), "GET /p HTTP/1.1\r\nhost: h\r\n\r\n");
    }
}
