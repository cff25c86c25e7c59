//! Floods of HTTP/2, frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::drain;
use crate::patience::PATIENCE;
use crate::tls::{BOTH, Certificate};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// `GET https://h/` in HPACK, from the static table but for the authority.
pub const GET: &[u8] = &[0x82, 0x87, 0x84, 0x41, 0x01, b'h'];
/// The same as POST.
pub const POST: &[u8] = &[0x83, 0x87, 0x84, 0x41, 0x01, b'h'];
/// Frames that are sent at once.
const BURST: u32 = 100;

/// What a client floods with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Requests that are given up at once (CVE-2023-44487).
    Resets,
    /// A head that never ends.
    Continuations,
    Pings,
    Settings,
    /// A body of nothing.
    EmptyData,
    /// Heads that unpack to much more than they are.
    Unpacked,
}

/// How it went for one who floods, and comes again each time when he is thrown out.
pub struct Ended {
    pub connections: u64,
    pub frames: u64,
    /// The longest that a connection was let flood.
    pub longest: Duration,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

impl Flood {
    pub const ALL: [Flood; 6] = [
        Flood::Resets,
        Flood::Continuations,
        Flood::Pings,
        Flood::Settings,
        Flood::EmptyData,
        Flood::Unpacked,
    ];

    /// The frames of the burst of this number.
    fn burst(self, number: u32) -> Vec<u8> {
        let streams = (number * BURST..(number + 1) * BURST).map(|index| 2 * index + 1);
        match self {
            Flood::Resets => streams
                .flat_map(|stream| {
                    let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
                    [ask, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
                })
                .collect(),
            Flood::Continuations => {
                // A literal without indexing: a name of one byte, a value of none.
                let fields = [0x00, 0x01, b'a', 0x00].repeat(256);
                let begin = if number == 0 { frame(HEADERS, 0, 1, GET) } else { Vec::new() };
                [begin, frame(CONTINUATION, 0, 1, &fields).repeat(BURST as usize)].concat()
            }
            Flood::Pings => frame(PING, 0, 0, &[0; 8]).repeat(BURST as usize),
            Flood::Settings => frame(SETTINGS, 0, 0, &[]).repeat(BURST as usize),
            Flood::EmptyData => {
                let begin =
                    if number == 0 { frame(HEADERS, END_HEADERS, 1, POST) } else { Vec::new() };
                [begin, frame(DATA, 0, 1, &[]).repeat(BURST as usize)].concat()
            }
            Flood::Unpacked => streams
                .flat_map(|stream| {
                    // A long value is put into the table once, and then named again and again.
                    let value =
                        [&[0x40, 0x01, b'a', 0x7f, 0xa1, 0x1e][..], &[b'v'; 4_000]].concat();
                    let bomb = [GET, &value, &[0xbe; 2_000]].concat();
                    frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb)
                })
                .collect(),
        }
    }

    /// Floods, connection after connection, until `stop`; then waits until the last one is ended by
    /// the server.
    pub async fn run(
        self,
        certificate: Certificate,
        address: SocketAddr,
        stop: Arc<AtomicBool>,
    ) -> Ended {
        let mut ended = Ended { connections: 0, frames: 0, longest: Duration::ZERO };
        while !stop.load(Ordering::Relaxed) {
            let connected = certificate.connect(address, &["h2"], &BOTH).await;
            let Ok(stream) = connected else { continue };
            let (mut from, mut to) = tokio::io::split(stream);
            let began = Instant::now();
            // Answers are taken: the flood must not end by a full window.
            let taking = tokio::spawn(async move { drain(&mut from).await });
            let flooding = async {
                to.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
                for number in 0.. {
                    to.write_all(&self.burst(number)).await?;
                    to.flush().await?;
                    ended.frames += u64::from(BURST);
                }
                std::io::Result::Ok(())
            };
            timeout(PATIENCE, flooding).await.expect("the server ends the connection").ok();
            timeout(PATIENCE, taking).await.expect("and says so").unwrap();
            ended.connections += 1;
            ended.longest = ended.longest.max(began.elapsed());
        }
        ended
    }
}
