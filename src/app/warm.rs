//! Reading carts into memory when a sale opens: everybody who waited for it looks at theirs then.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use crate::carts::CartCache;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::limits;
use crate::sale::{SaleId, SaleState};
use crate::store::Store;

/// Warms the cache for each sale once, when it is open or about to be. Never ends.
pub(super) async fn keep_warm(
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    carts: Arc<CartCache>,
) {
    let mut every = tokio::time::interval(Duration::from_millis(limits::CART_WARM_MS));
    let mut warmed: HashSet<SaleId> = HashSet::new();
    loop {
        every.tick().await;
        let soon = clock.now().after(Duration::from_millis(2 * limits::CART_WARM_MS));
        for (id, card) in catalog.sales().iter() {
            if warmed.contains(id) || !opens_by(card.window().state(soon)) {
                continue;
            }
            let items = card.definition().items.iter().map(|item| item.id.clone()).collect();
            let warming = carts.warming();
            match store.carts_with(items, limits::CARTS_WARMED).await {
                Ok(found) => {
                    warmed.insert(id.clone());
                    debug!(sale = %id, carts = found.len(), "carts read ahead");
                    for (user, cart) in found {
                        carts.keep_warm(&warming, user, cart);
                    }
                }
                // Tried again with the next look; until then carts are read when they are asked for.
                Err(error) => warn!(sale = %id, %error, "carts were not read ahead"),
            }
        }
    }
}

fn opens_by(state: SaleState) -> bool {
    match state {
        SaleState::Open | SaleState::Paused => true,
        SaleState::Scheduled | SaleState::Closed => false,
    }
}
