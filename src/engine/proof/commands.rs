//! Random commands that meet each other, at instants where something changes.

use proptest::prelude::*;

use super::world::{PAYMENTS, SALES, USERS};
use crate::sale::Move;

mod speaker;

pub use speaker::Speaker;

/// A command to be, and the time that passes before it.
#[derive(Clone, Debug)]
pub struct Step {
    pub wait: Wait,
    pub op: Op,
}

#[derive(Clone, Copy, Debug)]
pub enum Wait {
    None,
    /// So many milliseconds.
    For(u64),
    /// To one of the next instants at which a hold or a window ends, or one beside it.
    Edge {
        nth: usize,
        offset: i64,
    },
    /// The clock is this far behind, for this command only.
    Behind(u64),
}

/// Numbers name what is in the model when the command is made, modulo how much there is.
#[derive(Clone, Debug)]
pub enum Op {
    Reserve {
        sale: usize,
        user: usize,
        lines: Vec<(usize, u32)>,
    },
    /// An earlier reserve, word for word or with one word changed.
    Again {
        nth: usize,
        twist: Twist,
    },
    Confirm {
        nth: usize,
        payment: usize,
    },
    Cancel {
        nth: usize,
        by: By,
    },
    Find {
        nth: usize,
        by: By,
    },
    Create {
        sale: usize,
        altered: bool,
    },
    Move {
        sale: usize,
        step: Move,
    },
    Restock {
        sale: usize,
        item: usize,
        delta: i64,
        key: usize,
    },
    Inspect {
        sale: usize,
    },
    Sweep,
}

#[derive(Clone, Copy, Debug)]
pub enum Twist {
    None,
    User,
    Sale,
    Quantity,
    Order,
    Fewer,
}

#[derive(Clone, Copy, Debug)]
pub enum By {
    Owner,
    User(usize),
    Operator { restock: bool },
}

fn wait() -> impl Strategy<Value = Wait> {
    prop_oneof![
        12 => Just(Wait::None),
        1 => (1_u64..1_500).prop_map(Wait::For),
        4 => (0_usize..3, -1_i64..=1).prop_map(|(nth, offset)| Wait::Edge { nth, offset }),
        1 => (1_u64..10_000).prop_map(Wait::Behind),
    ]
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![
        4 => Just(By::Owner),
        1 => (0..USERS).prop_map(By::User),
        3 => any::<bool>().prop_map(|restock| By::Operator { restock }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    // One sale more than is ever created, one item more than any sale has.
    let sale = || prop_oneof![12 => Just(0_usize), 5 => Just(1), 1 => 2..=SALES];
    let item = || prop_oneof![9 => 0..2_usize, 2 => 2..=3_usize];
    let delta = prop_oneof![
        9 => -6_i64..=6,
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 1_000_000_000, 999_999_990]),
    ];
    let step = prop_oneof![
        12 => prop::sample::select(vec![Move::Open, Move::Pause, Move::Resume]),
        1 => Just(Move::Close),
    ];
    let nth = || 0_usize..1_000;
    prop_oneof![
        16 => (sale(), 0..USERS, lines())
            .prop_map(|(sale, user, lines)| Op::Reserve { sale, user, lines }),
        3 => (nth(), twist()).prop_map(|(nth, twist)| Op::Again { nth, twist }),
        6 => (nth(), 0..PAYMENTS).prop_map(|(nth, payment)| Op::Confirm { nth, payment }),
        5 => (nth(), by()).prop_map(|(nth, by)| Op::Cancel { nth, by }),
        1 => (nth(), by()).prop_map(|(nth, by)| Op::Find { nth, by }),
        1 => (0..SALES, prop::bool::weighted(0.2))
            .prop_map(|(sale, altered)| Op::Create { sale, altered }),
        3 => (sale(), step).prop_map(|(sale, step)| Op::Move { sale, step }),
        3 => (sale(), item(), delta, 0..20_usize)
            .prop_map(|(sale, item, delta, key)| Op::Restock { sale, item, delta, key }),
        1 => sale().prop_map(|sale| Op::Inspect { sale }),
        3 => Just(Op::Sweep),
    ]
}

fn lines() -> impl Strategy<Value = Vec<(usize, u32)>> {
    let item = prop_oneof![24 => 0..2_usize, 1 => 2..=3_usize];
    let quantity = prop_oneof![
        20 => Just(1_u32),
        8 => Just(2),
        2 => 0_u32..=6,
        1 => prop::sample::select(vec![1_000_000, 1_000_001, u32::MAX]),
    ];
    prop_oneof![
        12 => prop::collection::vec((item.clone(), quantity.clone()), 1),
        8 => prop::collection::vec((item.clone(), quantity.clone()), 2),
        1 => prop::collection::vec((item, quantity), 0..=4),
    ]
}

fn twist() -> impl Strategy<Value = Twist> {
    use Twist::{Fewer, None, Order, Quantity, Sale, User};
    prop_oneof![
        3 => Just(None),
        2 => prop::sample::select(vec![User, Sale, Quantity, Order, Fewer]),
    ]
}

/// Up to `most` steps.
pub fn any_steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((wait(), op()).prop_map(|(wait, op)| Step { wait, op }), 1..=most)
}
