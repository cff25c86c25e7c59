//! The limits that there are.

/// A limit: one quota, and a bucket for everybody whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Writes of a user.
    PerUser,
    /// Writes from an address.
    PerIp,
    /// Reservations in a sale.
    PerSale,
    /// All writes.
    Global,
    /// Reads of a user.
    ReadsPerUser,
    /// Reads from an address.
    ReadsPerIp,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 6] = [
        Limit::PerUser,
        Limit::PerIp,
        Limit::PerSale,
        Limit::Global,
        Limit::ReadsPerUser,
        Limit::ReadsPerIp,
    ];
    /// What a write has to pass, in this order.
    pub(super) const WRITES: [Limit; 4] =
        [Limit::PerUser, Limit::PerIp, Limit::PerSale, Limit::Global];
    /// What a read has to pass.
    pub(super) const READS: [Limit; 2] = [Limit::ReadsPerUser, Limit::ReadsPerIp];

    /// Its place in [`Limit::ALL`].
    pub(super) fn index(self) -> usize {
        match self {
            Limit::PerUser => 0,
            Limit::PerIp => 1,
            Limit::PerSale => 2,
            Limit::Global => 3,
            Limit::ReadsPerUser => 4,
            Limit::ReadsPerIp => 5,
        }
    }

    /// The `gate` label of metrics: the key of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::PerUser => "per_user",
            Limit::PerIp => "per_ip",
            Limit::PerSale => "per_sale",
            Limit::Global => "global",
            Limit::ReadsPerUser => "reads_per_user",
            Limit::ReadsPerIp => "reads_per_ip",
        }
    }

    /// Whom it is for, as clients are told.
    pub fn scope(self) -> &'static str {
        match self {
            Limit::PerUser | Limit::ReadsPerUser => "user",
            Limit::PerIp | Limit::ReadsPerIp => "ip",
            Limit::PerSale => "sale",
            Limit::Global => "global",
        }
    }

    /// The policy's name in `RateLimit-Policy`.
    pub fn policy(self) -> &'static str {
        match self {
            Limit::PerUser | Limit::PerIp | Limit::PerSale | Limit::Global => self.scope(),
            Limit::ReadsPerUser => "user-reads",
            Limit::ReadsPerIp => "ip-reads",
        }
    }

    /// Seconds that those who are told to come back are spread over. A bucket of many has a crowd waiting
    /// for it, a user's only that user.
    pub(super) fn spread_seconds(self) -> u64 {
        match self {
            Limit::PerUser | Limit::ReadsPerUser => 1,
            Limit::PerIp | Limit::ReadsPerIp | Limit::PerSale | Limit::Global => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that each limit stands at its own place.
    #[test]
    fn places() {
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit.index(), index);
        }
    }
}
