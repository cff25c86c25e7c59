//! Where a URL leads, for messages: hosts and ports. Never who logs in, nor with what.

use redis::IntoConnectionInfo;

use crate::ledger::redis::server::ServerError;

/// The forms of `REDIS_URL`.
pub const REDIS_FORMS: &str = "redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, \
     redis://HOST:PORT,redis://HOST:PORT (cluster) or redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY";

/// What is wrong with the Redis that a URL names, with its place.
pub fn redis_fault(url: &str, error: &ServerError) -> String {
    match error {
        ServerError::Url(_) => error.to_string(),
        ServerError::Unreachable(error) => format!("Redis at {}: {error}", redis(url)),
        ServerError::Unfit(what) => format!("Redis at {}: {what}", redis(url)),
    }
}

/// Hosts and ports of a Redis URL.
fn redis(url: &str) -> String {
    if let Some(sentinels) = url.strip_prefix("redis+sentinel://") {
        let hosts = sentinels.split('/').next().unwrap_or_default().split(',');
        let hosts: Vec<&str> = hosts.filter_map(|host| host.rsplit('@').next()).collect();
        return hosts.join(",");
    }
    let place = |url: &str| match url.trim().into_connection_info() {
        Ok(info) => info.addr().to_string(),
        Err(_) => "?".to_owned(),
    };
    url.split(',').map(place).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts and ports are told, passwords are not.
    #[test]
    fn places() {
        for (url, place) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("redis://ann:canary@db.example:6380/3", "db.example:6380"),
            ("rediss://:canary@db.example", "db.example:6379"),
            ("unix:///run/redis.sock?pass=canary", "/run/redis.sock"),
            ("redis://:canary@a:1, redis://:canary@b:2", "a:1,b:2"),
            ("redis+sentinel://:canary@a:1,b:2/primary", "a:1,b:2"),
            ("redis://:can/ary@a:1", "?"),
        ] {
            assert_eq!(redis(url), place, "{url}");
        }
    }
}
