//! The paths of the ops listener and what they take.

use matchit::Match;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Live,
    Ready,
    Metrics,
    Version,
    OpenApi,
    Sales,
    Sale { sale: &'p str },
    ArchiveSale { sale: &'p str },
    MoveSale { sale: &'p str, step: &'p str },
    Restock { sale: &'p str, item: &'p str },
    Confirm { id: &'p str },
    Cancel { id: &'p str },
    AuditLog,
    DeadLetters,
    DeadLetter { id: &'p str },
    RetryDeadLetter { id: &'p str },
    Switches,
    Switch { name: &'p str },
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Live,
    Ready,
    Metrics,
    Version,
    OpenApi,
    Sales,
    Sale,
    ArchiveSale,
    MoveSale,
    Restock,
    Confirm,
    Cancel,
    AuditLog,
    DeadLetters,
    DeadLetter,
    RetryDeadLetter,
    Switches,
    Switch,
}

const PATHS: [(&str, Name); 19] = [
    ("/livez", Name::Live),
    ("/healthz", Name::Live),
    ("/readyz", Name::Ready),
    ("/metrics", Name::Metrics),
    ("/version", Name::Version),
    ("/openapi.json", Name::OpenApi),
    ("/admin/v1/sales", Name::Sales),
    ("/admin/v1/sales/{sale}", Name::Sale),
    ("/admin/v1/sales/{sale}/archive", Name::ArchiveSale),
    ("/admin/v1/sales/{sale}/{step}", Name::MoveSale),
    ("/admin/v1/sales/{sale}/items/{item}/restock", Name::Restock),
    ("/admin/v1/reservations/{id}/confirm", Name::Confirm),
    ("/admin/v1/reservations/{id}/cancel", Name::Cancel),
    ("/admin/v1/audit-log", Name::AuditLog),
    ("/admin/v1/dead-letters", Name::DeadLetters),
    ("/admin/v1/dead-letters/{id}", Name::DeadLetter),
    ("/admin/v1/dead-letters/{id}/retry", Name::RetryDeadLetter),
    ("/admin/v1/switches", Name::Switches),
    ("/admin/v1/switches/{name}", Name::Switch),
];

/// Finds routes by path.
#[derive(Debug)]
pub(super) struct Router(matchit::Router<Name>);

impl Router {
    pub(super) fn new() -> Self {
        let mut router = matchit::Router::new();
        for (pattern, name) in PATHS {
            // Safe: the patterns are the constants above, and a test routes each of them.
            #[expect(clippy::expect_used, reason = "see above")]
            router.insert(pattern, name).expect("the patterns do not conflict");
        }
        Self(router)
    }

    pub(super) fn route<'p>(&self, path: &'p str) -> Option<Route<'p>> {
        let Match { value, params } = self.0.at(path).ok()?;
        let parameter = |name: &str| params.get(name).unwrap_or_default();
        Some(match value {
            Name::Live => Route::Live,
            Name::Ready => Route::Ready,
            Name::Metrics => Route::Metrics,
            Name::Version => Route::Version,
            Name::OpenApi => Route::OpenApi,
            Name::Sales => Route::Sales,
            Name::Sale => Route::Sale { sale: parameter("sale") },
            Name::ArchiveSale => Route::ArchiveSale { sale: parameter("sale") },
            Name::MoveSale => Route::MoveSale { sale: parameter("sale"), step: parameter("step") },
            Name::Restock => Route::Restock { sale: parameter("sale"), item: parameter("item") },
            Name::Confirm => Route::Confirm { id: parameter("id") },
            Name::Cancel => Route::Cancel { id: parameter("id") },
            Name::AuditLog => Route::AuditLog,
            Name::DeadLetters => Route::DeadLetters,
            Name::DeadLetter => Route::DeadLetter { id: parameter("id") },
            Name::RetryDeadLetter => Route::RetryDeadLetter { id: parameter("id") },
            Name::Switches => Route::Switches,
            Name::Switch => Route::Switch { name: parameter("name") },
        })
    }
}

impl Route<'_> {
    /// The methods that it takes, for `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::Version
            | Route::OpenApi
            | Route::Sale { .. }
            | Route::AuditLog
            | Route::DeadLetters
            | Route::Switches => "GET, HEAD",
            Route::DeadLetter { .. } => "GET, HEAD, DELETE",
            Route::Sales => "GET, HEAD, POST",
            Route::Switch { .. } => "PUT",
            Route::RetryDeadLetter { .. }
            | Route::ArchiveSale { .. }
            | Route::MoveSale { .. }
            | Route::Restock { .. }
            | Route::Confirm { .. }
            | Route::Cancel { .. } => "POST",
        }
    }
}

impl Route<'_> {
    /// Whether it goes on while nothing else is changed: money that was taken, and the switches.
    pub(super) fn goes_on(&self) -> bool {
        match self {
            Route::Confirm { .. } | Route::Cancel { .. } | Route::Switch { .. } => true,
            Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::Version
            | Route::OpenApi
            | Route::Sales
            | Route::Sale { .. }
            | Route::ArchiveSale { .. }
            | Route::MoveSale { .. }
            | Route::Restock { .. }
            | Route::AuditLog
            | Route::DeadLetters
            | Route::DeadLetter { .. }
            | Route::RetryDeadLetter { .. }
            | Route::Switches => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ops::OPENAPI;
    use crate::http::public::PATTERNS;

    /// Every path routes, and every path of both listeners is described in the OpenAPI document.
    #[test]
    fn paths_route_and_are_described() {
        let router = Router::new();
        let described: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let described = described["paths"].as_object().unwrap();
        for (pattern, _) in PATHS {
            let path = pattern.replace(['{', '}'], "");
            assert!(router.route(&path).is_some(), "{path}");
        }
        let paths = PATHS.iter().map(|(pattern, _)| *pattern).chain(PATTERNS);
        for pattern in paths {
            assert!(described.contains_key(pattern), "{pattern} is not described");
        }
        let known = PATHS.len() + PATTERNS.len() - 1; // /healthz is on both
        assert_eq!(described.len(), known, "and nothing else is");
    }
}
