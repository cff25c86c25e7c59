//! Is there anything left? The counters of the ops API say so exactly; without them there is only
//! what every buyer sees.

use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;

use super::backoff;
use super::crowd::Crowd;
use crate::client::{Client, Method};
use crate::limits::{LOOK_EVERY, RETURN_WINDOW};
use crate::ops::OpsClient;

/// What is left of a sale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The numbers of the items that are for sale.
    pub items: Vec<usize>,
    /// How many units, if that is known.
    pub units: Option<u64>,
    /// Units that are held or paid, if that is known.
    pub taken: Option<u64>,
}

/// Looks at the shelves.
#[derive(Debug)]
pub(super) struct Stock {
    client: Client,
    ops: Option<OpsClient>,
}

#[derive(Deserialize)]
struct PublicSale {
    items: Vec<PublicItem>,
}

#[derive(Deserialize)]
struct PublicItem {
    id: String,
    availability: String,
}

impl Stock {
    pub(super) fn new(crowd: &Crowd) -> Self {
        Self { client: crowd.client(), ops: crowd.plan.ops.as_ref().map(OpsClient::new) }
    }

    /// What is left, if anything. A unit that was just returned may stay unseen for a while, so
    /// "nothing" is believed at once only if the counters know of all `taken` units of the crowd,
    /// or if nothing `came_back`.
    pub(super) async fn left(
        &mut self,
        crowd: &Crowd,
        taken: u64,
        came_back: bool,
    ) -> Option<Left> {
        let began = Instant::now();
        loop {
            let left = self.look(crowd).await;
            if let Some(left) = &left
                && !left.items.is_empty()
            {
                return Some(left.clone());
            }
            let certain = left.is_some_and(|left| left.taken == Some(taken) || !came_back);
            if certain || began.elapsed() >= RETURN_WINDOW || crowd.stop.is_set() {
                return None;
            }
            backoff::sleep(&crowd.stop, LOOK_EVERY).await;
        }
    }

    /// One look; `None` if there was no answer.
    async fn look(&mut self, crowd: &Crowd) -> Option<Left> {
        match &mut self.ops {
            Some(ops) => Self::count(ops, crowd).await,
            None => Self::read(&mut self.client, crowd).await,
        }
    }

    async fn count(ops: &mut OpsClient, crowd: &Crowd) -> Option<Left> {
        let view = ops.sale(&crowd.plan.sale).await.ok()?;
        let mut left = Left { units: Some(0), taken: Some(0), ..Left::default() };
        for item in &view.items {
            let Some(number) = number(crowd, &item.id) else {
                continue;
            };
            let available = u64::try_from(item.available).unwrap_or(0);
            let taken = u64::try_from(item.held.saturating_add(item.confirmed)).unwrap_or(0);
            if available > 0 {
                left.items.push(number);
            }
            left.units = left.units.map(|units| units.saturating_add(available));
            left.taken = left.taken.map(|units| units.saturating_add(taken));
        }
        Some(left)
    }

    async fn read(client: &mut Client, crowd: &Crowd) -> Option<Left> {
        let path = format!("/v1/sales/{}", crowd.plan.sale);
        let reply = client.request(Method::GET, &path, &[], Bytes::new()).await.ok()?;
        let sale: PublicSale = serde_json::from_slice(&reply.body).ok()?;
        let for_sale = |item: &PublicItem| matches!(&*item.availability, "available" | "low");
        let numbers = sale.items.iter().filter(|item| for_sale(item));
        let items = numbers.filter_map(|item| number(crowd, &item.id)).collect();
        Some(Left { items, units: None, taken: None })
    }
}

fn number(crowd: &Crowd, item: &str) -> Option<usize> {
    crowd.plan.items.iter().position(|wanted| wanted == item)
}
