//! The way between a gateway and its servers: what is late, lost or held up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// The longest way, in microseconds.
    pub slow_us: u64,
    /// The share of requests that never arrive.
    pub lost: f32,
    /// The share of answers that never do.
    pub answers_lost: f32,
    /// The share of requests that are very late, but arrive.
    pub late: f32,
}

/// One gateway's.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    weather: Weather,
    paused_until: Instant,
}

/// One request's way.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    pub there: Duration,
    pub back: Duration,
    pub lost: bool,
    pub answer_lost: bool,
}

impl Network {
    pub fn new(seed: u64, weather: Weather) -> Self {
        let rng = Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(Inner { rng, weather, paused_until: Instant::now() })))
    }

    /// From here on it is so.
    pub fn is(&self, weather: Weather) {
        self.0.lock().unwrap().weather = weather;
    }

    /// The gateway stands still: nothing leaves it, and nothing is heard.
    pub fn pause(&self, pause: Duration) {
        self.0.lock().unwrap().paused_until = Instant::now() + pause;
    }

    /// Waits until the gateway goes on.
    pub async fn hold(&self) {
        loop {
            let until = self.0.lock().unwrap().paused_until;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// A way, once the gateway goes on.
    pub async fn trip(&self) -> Trip {
        self.hold().await;
        let mut inner = self.0.lock().unwrap();
        let Weather { slow_us, lost, answers_lost, late } = inner.weather;
        let rng = &mut inner.rng;
        let way = |rng: &mut Rng| Duration::from_micros(rng.u64(50..=slow_us.max(100)));
        let (mut there, back) = (way(rng), way(rng));
        if rng.f32() < late {
            there += Duration::from_millis(rng.u64(300..2_500));
        }
        Trip { there, back, lost: rng.f32() < lost, answer_lost: rng.f32() < answers_lost }
    }
}
