//! What gateways tell each other through the database they share: `NOTIFY`, in the transaction that
//! makes it true.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use super::connect::{OpenError, Target};
use crate::carts::CartKey;
use crate::limits;
use crate::pause;
use crate::sale::LaneId;
use crate::store::{Holder, StoreError};

const CHANNEL: &str = "floodgate";
/// Carts in one notification: its text has to stay below 8,000 bytes.
const CARTS: usize = 400;

/// Something that another gateway did to the books; or this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something of a lane has been digested, by this writer.
    Digested(LaneId, Holder),
    /// These carts have changed.
    Carts(Vec<CartKey>),
    /// From now on everything is heard.
    Heard,
    /// Until [`News::Heard`] nothing is.
    Unheard,
}

impl News {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        match words.next()? {
            "lane" => {
                let lane = LaneId(words.next()?.parse().ok()?);
                let holder = Holder(u64::from_str_radix(words.next()?, 16).ok()?);
                Some(Self::Digested(lane, holder))
            }
            "carts" => {
                let key = |word| u64::from_str_radix(word, 16).ok().map(CartKey);
                words.map(key).collect::<Option<_>>().map(Self::Carts)
            }
            _ => None,
        }
    }
}

/// Tells of a change, once the transaction commits.
pub(super) async fn tell(
    transaction: &Transaction<'_>,
    lane: Option<(LaneId, Holder)>,
    carts: &[CartKey],
) -> Result<(), StoreError> {
    let mut texts: Vec<String> = carts
        .chunks(CARTS)
        .map(|keys| {
            let mut text = "carts".to_owned();
            for CartKey(key) in keys {
                text.push_str(&format!(" {key:x}"));
            }
            text
        })
        .collect();
    texts.extend(lane.map(|(lane, holder)| format!("lane {lane} {holder}")));
    let tell = transaction
        .prepare_cached("SELECT pg_notify($1, text) FROM unnest($2::text[]) AS text")
        .await?;
    transaction.execute(&tell, &[&CHANNEL, &texts]).await?;
    Ok(())
}

/// Hears until it is dropped.
#[derive(Debug)]
pub struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hears on a connection of its own, which is made anew whenever it fails.
pub(super) fn listen(target: Target, hear: impl Fn(News) + Send + Sync + 'static) -> Listener {
    let hear = Arc::new(hear);
    Listener(tokio::spawn(async move {
        let mut failures = 0;
        loop {
            if let Err(error) = hear_on(&target, hear.as_ref(), &mut failures).await {
                warn!(%error, "news of other gateways cannot be heard");
            }
            hear(News::Unheard);
            tokio::time::sleep(pause::before_retry(limits::WRITER_BACKOFF_MS, failures)).await;
            failures = failures.saturating_add(1);
        }
    }))
}

async fn hear_on(
    target: &Target,
    hear: &(impl Fn(News) + Send + Sync),
    failures: &mut u32,
) -> Result<(), OpenError> {
    let (told, mut telling) = mpsc::channel(limits::STORE_QUEUE);
    let (client, task) = target.connect_and_hear(told).await?;
    client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
    hear(News::Heard);
    *failures = 0;
    let every = Duration::from_millis(limits::STORE_CONNECT_MS);
    loop {
        match tokio::time::timeout(every, telling.recv()).await {
            Ok(Some(text)) => {
                if let Some(news) = News::parse(&text) {
                    hear(news);
                }
            }
            Ok(None) => break,
            // A connection on which nothing is told may be dead: ask whether it is.
            Err(_) => match tokio::time::timeout(every, client.batch_execute("")).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            },
        }
    }
    task.abort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told can be heard, and nonsense is nothing.
    #[test]
    fn words() {
        let told = format!("lane 2 {}", Holder(41));
        assert_eq!(News::parse(&told), Some(News::Digested(LaneId(2), Holder(41))));
        assert_eq!(News::parse("carts ff 1"), Some(News::Carts(vec![CartKey(255), CartKey(1)])));
        for text in ["", "lane", "lane 1", "lane 70000 1", "lane 1 x", "carts x", "else 1"] {
            assert_eq!(News::parse(text), None, "{text}");
        }
    }
}
