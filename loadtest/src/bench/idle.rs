//! What connections cost that do nothing.

use std::net::SocketAddr;
use std::time::Duration;

use floodgate_loadtest::client::{Client, Method};

use super::contender::Contender;
use super::rates::AMPLE;
use super::report::{Bound, Figure, Report};
use super::{BenchOptions, cpu};
use crate::cli::Failure;

/// Connections that do nothing.
const IDLE: usize = 10_000;
/// For how long they have done nothing then.
const SILENCE: Duration = Duration::from_secs(5);

pub async fn measure(options: &BenchOptions) -> Result<Report, Failure> {
    let contender = Contender::Floodgate { redis: None, postgres: false };
    let (mut before, mut at_once, mut after) = (vec![], vec![], vec![]);
    for _ in 0..options.rounds {
        let running = contender.start(options, AMPLE).await?;
        before.push(mib(running.id())?);
        let open = connect(running.addr()).await?;
        at_once.push(mib(running.id())?);
        tokio::time::sleep(SILENCE).await;
        after.push(mib(running.id())?);
        drop(open);
    }
    let each: Vec<f64> =
        after.iter().zip(&before).map(|(a, b)| (a - b) * 1024.0 / IDLE as f64).collect();
    Ok(Report {
        suite: "idle".to_owned(),
        how: format!(
            "{IDLE} kept-alive connections after one request each, silent for {} s; {} rounds",
            SILENCE.as_secs(),
            options.rounds
        ),
        figures: vec![
            Figure::new("RSS without connections, MiB", before.into_iter()),
            Figure::new("RSS right after the last request, MiB", at_once.into_iter()),
            Figure::new("RSS with them, MiB", after.into_iter()).within(Bound::AtMost(150.0)),
            Figure::new("KiB a connection", each.into_iter()),
        ],
        ..Report::default()
    })
}

/// Each has asked once, so that everything is there that a connection keeps.
async fn connect(addr: SocketAddr) -> Result<Vec<Client>, Failure> {
    let mut open = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let mut client = Client::new(addr);
        let reply = client.request(Method::GET, "/v1/time", &[], bytes::Bytes::new()).await;
        let reply = reply.map_err(|bad| Failure::Failed(format!("connection {n}: {bad}")))?;
        if reply.status != 200 {
            return Err(Failure::Failed(format!("connection {n}: {}", reply.status)));
        }
        open.push(client);
    }
    Ok(open)
}

fn mib(id: u32) -> Result<f64, Failure> {
    Ok(cpu::rss(id)? as f64 / f64::from(1 << 20))
}
