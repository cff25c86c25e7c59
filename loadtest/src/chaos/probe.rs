//! Whether everything works again: somebody new asks each gateway for each item.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::ChaosError;
use super::fleet::REVIVES_WITHIN;
use super::gateway::Gateway;
use crate::buyers::{self, Control, CrowdPlan, Habits, Patience};
use crate::history::History;
use crate::ops::OpsClient;

/// How long nobody asks after a no.
const PAUSE: Duration = Duration::from_millis(50);

/// What the probes saw: a part of the sale's history.
#[derive(Debug, Default)]
pub struct Probed {
    pub history: History,
    pub anomalies: Vec<String>,
}

/// Every gateway sells a unit of every item, or there is none. `crowd` says what they are and how one asks.
///
/// # Errors
/// A gateway does not within [`REVIVES_WITHIN`], which is [`ChaosError::Liveness`].
pub async fn each_sells(gateways: &[Gateway], crowd: &CrowdPlan) -> Result<Probed, ChaosError> {
    let began = Instant::now();
    let mut probed = Probed::default();
    for (number, gateway) in gateways.iter().enumerate() {
        for item in &crowd.items {
            let mut asked = 0;
            while !sells(gateway, item, &format!("{number}-{asked}"), crowd, &mut probed).await? {
                if began.elapsed() > REVIVES_WITHIN {
                    let what =
                        format!("gateway {number} sells nothing of {item}, and there is some");
                    return Err(ChaosError::Liveness(what));
                }
                asked += 1;
                sleep(PAUSE).await;
            }
        }
    }
    Ok(probed)
}

/// Whether it sells a unit to somebody new, or has none.
async fn sells(
    gateway: &Gateway,
    item: &str,
    name: &str,
    crowd: &CrowdPlan,
    probed: &mut Probed,
) -> Result<bool, ChaosError> {
    let plan = CrowdPlan {
        target: gateway.public,
        ops: None,
        items: vec![item.to_owned()],
        users: 1,
        connections: 1,
        user_prefix: format!("probe-{}{item}-{name}-", crowd.user_prefix),
        habits: Habits::PLAIN,
        patience: Patience { tries_max: 1, waves_max: 0, ..crowd.patience },
        ..crowd.clone()
    };
    let report = buyers::run(&plan, Control::default()).await?;
    let ended = |how: &str| report.outcomes.contains_key(how);
    let (granted, refused) = (ended("reserved"), ended("sold-out"));
    probed.history.append(report.history);
    probed.anomalies.extend(report.anomalies);
    // The crowd is still there, and may have taken the last one.
    Ok(granted || refused && is_gone(gateway, item, &crowd.sale).await)
}

/// Whether the ledger has no unit of it.
async fn is_gone(gateway: &Gateway, item: &str, sale: &str) -> bool {
    let view = OpsClient::new(&gateway.access()).sale(sale).await;
    view.is_ok_and(|view| view.items.iter().any(|known| known.id == item && known.available <= 0))
}
