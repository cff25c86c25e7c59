//! Names of a lane's keys. All of one lane share its hash tag, so that they live on one node of a
//! cluster and one script may touch them together.

use crate::sale::LaneId;

/// The keys of one lane.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Format, epoch, seq, clock, history of the server, number of lanes, fence, where each life began.
    pub meta: String,
    /// A sale's definition, as JSON, by its id.
    pub definitions: String,
    /// What the scripts need of a sale, by its id.
    pub sales: String,
    /// An item's counters, by `sale/place`.
    pub stock: String,
    /// A user's units, by `sale/user`.
    pub accounts: String,
    /// A reservation's record, by its id.
    pub records: String,
    /// When holds run out: ids by instant.
    pub due: String,
    /// What was restocked, by `sale/key`.
    pub restocks: String,
    /// The seq at which a sale last changed: sales by seq.
    pub touched: String,
    /// The outbox: a stream with ids `epoch-seq`.
    pub outbox: String,
    /// How often users ask, in this turn: by user, when their bucket is full again.
    pub rate: String,
    /// The same, in the turn before.
    pub rate_before: String,
}

impl Keys {
    /// The keys of a lane.
    pub fn of(lane: LaneId) -> Self {
        let key = |name: &str| format!("{{fg:{lane}}}:{name}");
        Self {
            meta: key("meta"),
            definitions: key("definitions"),
            sales: key("sales"),
            stock: key("stock"),
            accounts: key("accounts"),
            records: key("records"),
            due: key("due"),
            restocks: key("restocks"),
            touched: key("touched"),
            outbox: key("outbox"),
            rate: key("rate"),
            rate_before: key("rate_before"),
        }
    }

    /// As the batch script takes them.
    pub fn all(&self) -> [&str; 12] {
        [
            &self.meta,
            &self.definitions,
            &self.sales,
            &self.stock,
            &self.accounts,
            &self.records,
            &self.due,
            &self.restocks,
            &self.touched,
            &self.outbox,
            &self.rate,
            &self.rate_before,
        ]
    }
}
