//! The keys of admission: how much of what, for whom.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use serde::{Deserialize, Serialize};

use crate::limits;

/// Keys of admission. All of them can be changed while running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionSettings {
    /// Reservations and cart writes of one user.
    pub per_user: RateSetting,
    /// With Redis: gateways keep this rate of a user's reservations together, lane by lane, and not each for
    /// itself.
    pub per_user_shared: bool,
    /// Those from one address: an IPv4 address, or an IPv6 network of 64 bits.
    pub per_ip: RateSetting,
    /// Reservations in one sale.
    pub per_sale: RateSetting,
    /// Reservations and cart writes of everybody together.
    pub global: RateSetting,
    /// What only reads is limited apart, and more loosely.
    pub reads: ReadSettings,
    /// What happens to a write beyond its rate.
    pub mode: Mode,
    /// With `smooth`: the longest that a request is made to wait, in milliseconds.
    pub smooth_max_ms: u64,
    /// A new reservation that would wait longer for its lane is refused at once; in milliseconds.
    pub backlog_ms: u64,
    /// Which headers tell clients of their limits.
    pub headers: HeaderStyle,
}

/// Keys of the token buckets for what only reads. Cancelling counts here as well: it gives units back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadSettings {
    /// Of one user.
    pub per_user: RateSetting,
    /// From one address.
    pub per_ip: RateSetting,
}

/// A token bucket: it holds `burst` tokens and gets `rate` new ones a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSetting {
    /// Tokens a second; may be less than one. 0: no limit.
    pub rate: f64,
    /// Tokens that can be saved up. 0: as many as come in a second, at least one.
    pub burst: u32,
}

/// What happens to a request for which there is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is refused.
    #[default]
    Refuse,
    /// It waits for its token, in order, if that takes no longer than `smooth_max_ms`; else it is
    /// refused.
    Smooth,
}

/// How clients are told of their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderStyle {
    /// `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-11 has them.
    #[default]
    Draft11,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    X,
    /// Both families.
    Both,
    /// Neither; `Retry-After` stays.
    Off,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self {
            per_user: RateSetting { rate: 5.0, burst: 10 },
            per_user_shared: false,
            per_ip: RateSetting { rate: 100.0, burst: 200 },
            per_sale: RateSetting::OFF,
            global: RateSetting::OFF,
            reads: ReadSettings {
                per_user: RateSetting { rate: 50.0, burst: 100 },
                per_ip: RateSetting { rate: 1_000.0, burst: 2_000 },
            },
            mode: Mode::Refuse,
            smooth_max_ms: 500,
            backlog_ms: limits::BACKLOG_MS,
            headers: HeaderStyle::Draft11,
        }
    }
}

impl AdmissionSettings {
    /// No limit at all.
    pub fn unlimited() -> Self {
        let off = RateSetting::OFF;
        let reads = ReadSettings { per_user: off, per_ip: off };
        Self { per_user: off, per_ip: off, per_sale: off, global: off, reads, ..Self::default() }
    }

    /// How long a request may be made to wait for its token.
    pub fn patience(&self) -> Duration {
        match self.mode {
            Mode::Refuse => Duration::ZERO,
            Mode::Smooth => Duration::from_millis(self.smooth_max_ms),
        }
    }

    /// How often a user may reserve through all gateways together, if that is limited.
    pub(super) fn shared_quota(&self) -> Option<Quota> {
        self.per_user.quota().filter(|_| self.per_user_shared)
    }

    /// What is wrong with the keys; empty where nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, setting) in [
            ("per_user", self.per_user),
            ("per_ip", self.per_ip),
            ("per_sale", self.per_sale),
            ("global", self.global),
            ("reads.per_user", self.reads.per_user),
            ("reads.per_ip", self.reads.per_ip),
        ] {
            faults.extend(setting.fault().map(|fault| format!("admission.{key}{fault}")));
        }
        if self.smooth_max_ms > limits::SMOOTH_MS_MAX {
            faults.push(format!("admission.smooth_max_ms must be 0 to {}", limits::SMOOTH_MS_MAX));
        }
        if !(1..=limits::BACKLOG_MS_MAX).contains(&self.backlog_ms) {
            faults.push(format!("admission.backlog_ms must be 1 to {}", limits::BACKLOG_MS_MAX));
        }
        faults
    }
}

impl RateSetting {
    /// No limit.
    pub const OFF: Self = Self { rate: 0.0, burst: 0 };

    fn fault(&self) -> Option<String> {
        let (least, most) = limits::ADMISSION_RATES;
        if self.rate == 0.0 {
            return None;
        }
        if !(least..=most).contains(&self.rate) {
            return Some(format!(".rate must be 0 (no limit), or {least} to {most} a second"));
        }
        if self.burst > limits::ADMISSION_BURST_MAX {
            return Some(format!(".burst must be 0 to {}", limits::ADMISSION_BURST_MAX));
        }
        let longest = limits::ADMISSION_WINDOW_SECONDS_MAX;
        if f64::from(self.burst) / self.rate > longest as f64 {
            return Some(format!(": at this rate the burst takes more than {longest} s to refill"));
        }
        None
    }

    /// The quota; `None` where there is no limit.
    pub(super) fn quota(&self) -> Option<Quota> {
        let (least, most) = limits::ADMISSION_RATES;
        if !(least..=most).contains(&self.rate) {
            return None;
        }
        // Safe: within the bounds that were looked at above, so neither conversion is cut.
        let second = self.rate.ceil() as u32;
        let burst = NonZeroU32::new(if self.burst == 0 { second } else { self.burst })?;
        Some(Quota::with_period(Duration::from_secs_f64(1.0 / self.rate))?.allow_burst(burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that rates below one a second, whole ones and none at all become what they say.
    #[test]
    fn quotas() {
        let quota = |rate, burst| RateSetting { rate, burst }.quota();
        assert_eq!(quota(0.0, 10), None);
        let slow = quota(0.5, 3).unwrap();
        assert_eq!(slow.replenish_interval(), Duration::from_secs(2));
        assert_eq!(slow.burst_size().get(), 3);
        assert_eq!(quota(2.5, 0).unwrap().burst_size().get(), 3, "what comes in a second");
        assert_eq!(quota(0.5, 0).unwrap().burst_size().get(), 1);
        assert_eq!(AdmissionSettings::default().faults(), Vec::<String>::new());
        assert_eq!(AdmissionSettings::unlimited().faults(), Vec::<String>::new());
    }

    /// Proves that a rate that is no rate is a fault that names its key.
    #[test]
    fn faults_name_their_keys() {
        let bad = |rate, burst| RateSetting { rate, burst };
        let settings = AdmissionSettings {
            per_user: bad(-1.0, 1),
            per_ip: bad(f64::NAN, 1),
            per_sale: bad(f64::INFINITY, 1),
            global: bad(1.0, u32::MAX),
            reads: ReadSettings { per_user: bad(0.001, 1_000), per_ip: bad(1e-9, 1) },
            smooth_max_ms: u64::MAX,
            backlog_ms: 0,
            ..AdmissionSettings::default()
        };
        let faults = settings.faults();
        assert_eq!(faults.len(), 8, "{faults:?}");
        for (fault, key) in faults.iter().zip([
            "per_user.rate",
            "per_ip.rate",
            "per_sale.rate",
            "global.burst",
            "reads.per_user:",
            "reads.per_ip.rate",
            "smooth_max_ms",
            "backlog_ms",
        ]) {
            assert!(fault.starts_with(&format!("admission.{key}")), "{key}: {fault}");
        }
    }
}
