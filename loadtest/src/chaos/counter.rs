//! Where a round's sale is opened.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::ChaosError;
use super::fleet::REVIVES_WITHIN;
use crate::ops::{ItemSpec, OpsAccess, OpsClient, SaleSpec};

/// What is sold.
pub const ITEMS: [&str; 2] = ["one", "two"];

/// A sale of so many units of each item.
pub fn sale(id: &str, stock: u64, hold_seconds: u64) -> SaleSpec {
    let item = |id: &str| ItemSpec {
        id: id.to_owned(),
        title: id.to_owned(),
        price: 1_999,
        currency: "EUR".to_owned(),
        stock,
        per_user_limit: None,
    };
    SaleSpec {
        id: id.to_owned(),
        title: id.to_owned(),
        opens_at: None,
        closes_at: None,
        hold_seconds,
        per_user_limit: Some(4),
        items: ITEMS.map(item).into(),
    }
}

/// Makes and opens it.
///
/// # Errors
/// It does not work within [`REVIVES_WITHIN`].
pub async fn open(access: &OpsAccess, sale: &SaleSpec) -> Result<(), ChaosError> {
    let mut ops = OpsClient::new(access);
    let began = Instant::now();
    loop {
        let opened = match ops.create_sale(sale).await {
            Ok(()) => ops.transition(&sale.id, "open").await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > REVIVES_WITHIN => {
                return Err(ChaosError::Liveness(error.to_string()));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
