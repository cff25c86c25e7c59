//! The public paths and what they take.

use matchit::Match;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Sales,
    Sale { sale: &'p str },
    Reservations { sale: &'p str },
    Reservation { id: &'p str },
    Orders,
    Order { id: &'p str },
    Cart,
    CartItem { item: &'p str },
    CartMerge,
    Time,
    Health,
}

/// A route without its parameters.
#[derive(Clone, Copy, Debug)]
enum Name {
    Sales,
    Sale,
    Reservations,
    Reservation,
    Orders,
    Order,
    Cart,
    CartItem,
    CartMerge,
    Time,
    Health,
}

/// Patterns, which are also the `route` label of metrics: a path itself would be a label per user.
pub(in crate::http) const PATTERNS: [&str; 11] = [
    "/v1/sales",
    "/v1/sales/{sale}",
    "/v1/sales/{sale}/reservations",
    "/v1/reservations/{id}",
    "/v1/orders",
    "/v1/orders/{id}",
    "/v1/cart",
    "/v1/cart/items/{item}",
    "/v1/cart/merge",
    "/v1/time",
    "/healthz",
];
const NAMES: [Name; 11] = [
    Name::Sales,
    Name::Sale,
    Name::Reservations,
    Name::Reservation,
    Name::Orders,
    Name::Order,
    Name::Cart,
    Name::CartItem,
    Name::CartMerge,
    Name::Time,
    Name::Health,
];

/// Finds routes by path.
#[derive(Debug)]
pub(super) struct Router(matchit::Router<Name>);

impl Router {
    pub(super) fn new() -> Self {
        let mut router = matchit::Router::new();
        for (pattern, name) in PATTERNS.into_iter().zip(NAMES) {
            // Safe: the patterns are the constants above, and a test routes each of them.
            #[expect(clippy::expect_used, reason = "see above")]
            router.insert(pattern, name).expect("the patterns do not conflict");
        }
        Self(router)
    }

    /// Parameters are taken as they stand: none of our ids has a character that needs an escape.
    pub(super) fn route<'p>(&self, path: &'p str) -> Option<Route<'p>> {
        let Match { value, params } = self.0.at(path).ok()?;
        let parameter = |name: &str| params.get(name).unwrap_or_default();
        Some(match value {
            Name::Sales => Route::Sales,
            Name::Sale => Route::Sale { sale: parameter("sale") },
            Name::Reservations => Route::Reservations { sale: parameter("sale") },
            Name::Reservation => Route::Reservation { id: parameter("id") },
            Name::Orders => Route::Orders,
            Name::Order => Route::Order { id: parameter("id") },
            Name::Cart => Route::Cart,
            Name::CartItem => Route::CartItem { item: parameter("item") },
            Name::CartMerge => Route::CartMerge,
            Name::Time => Route::Time,
            Name::Health => Route::Health,
        })
    }
}

impl Route<'_> {
    /// Its place in [`PATTERNS`].
    pub(super) fn index(&self) -> usize {
        match self {
            Route::Sales => 0,
            Route::Sale { .. } => 1,
            Route::Reservations { .. } => 2,
            Route::Reservation { .. } => 3,
            Route::Orders => 4,
            Route::Order { .. } => 5,
            Route::Cart => 6,
            Route::CartItem { .. } => 7,
            Route::CartMerge => 8,
            Route::Time => 9,
            Route::Health => 10,
        }
    }

    /// The methods that it takes, for `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Route::Sales
            | Route::Sale { .. }
            | Route::Orders
            | Route::Order { .. }
            | Route::Time
            | Route::Health => "GET, HEAD",
            Route::Cart => "GET, HEAD, DELETE",
            Route::Reservations { .. } | Route::CartMerge => "POST",
            Route::Reservation { .. } => "GET, HEAD, DELETE",
            Route::CartItem { .. } => "PUT, POST, DELETE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pattern leads to the route of its own place, and nothing else leads anywhere.
    #[test]
    fn patterns_and_routes_agree() {
        let router = Router::new();
        for (index, pattern) in PATTERNS.iter().enumerate() {
            let path = pattern.replace(['{', '}'], "");
            assert_eq!(router.route(&path).map(|route| route.index()), Some(index), "{path}");
        }
        let sale = Route::Reservations { sale: "s" };
        assert_eq!(router.route("/v1/sales/s/reservations"), Some(sale));
        for path in ["/", "/v1/sales/", "/v1/sales//reservations", "/v1/cart/items/", "/v2/sales"] {
            assert_eq!(router.route(path), None, "{path}");
        }
    }
}
