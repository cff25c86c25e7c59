//! The encoding of events: what the outbox and the journal carry.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::commands::any_steps;
use super::run::Run;
use super::world::{any_world, item_id, payment, reservation_id, restock_key, sale_id, user};
use crate::clock::Millis;
use crate::engine::{Actor, Event, Return};
use crate::sale::{Line, Move, Reservation, SaleDefinition, Status, Window};

fn again(event: &Event) -> Event {
    let bytes = postcard::to_stdvec(event).unwrap();
    let (event, rest) = postcard::take_from_bytes(&bytes).unwrap();
    assert!(rest.is_empty(), "nothing is left over");
    event
}

proptest! {
    /// Every event, with fields as odd as their types allow, is what it was after its encoding.
    #[test]
    fn any_event_survives(event in any_event()) {
        prop_assert_eq!(again(&event), event);
    }

    /// So is every event that the engine tells.
    #[test]
    fn told_events_survive(world in any_world(), steps in any_steps(40)) {
        let mut run = Run::new(world, 2);
        run.steps(&steps);
        for event in run.journal.iter().flat_map(|(_, events)| events) {
            prop_assert_eq!(&again(event), event);
        }
    }

    /// An encoding that was cut short is no event: nothing is made up for what is missing.
    #[test]
    fn what_is_cut_is_refused(event in any_event(), cut in any::<prop::sample::Index>()) {
        let bytes = postcard::to_stdvec(&event).unwrap();
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(postcard::from_bytes::<Event>(cut).is_err());
    }
}

/// The bytes are those of yesterday: a journal outlives the program that wrote it. A change here
/// needs a new format number of the record, and a reader for the old one.
#[test]
fn the_bytes_are_pinned() {
    let sums: Vec<_> = samples()
        .iter()
        .map(|event| {
            let bytes = postcard::to_stdvec(event).unwrap();
            assert_eq!(usize::from(bytes[0]), place(event), "variants keep their places");
            (bytes.len(), crc32fast::hash(&bytes))
        })
        .collect();
    assert_eq!(sums, PINNED);
}

const PINNED: [(usize, u32); 9] = [
    (82, 672_035_763),
    (26, 3_078_840_272),
    (43, 3_834_144_859),
    (74, 776_260_911),
    (35, 1_576_331_730),
    (55, 707_612_764),
    (44, 1_019_952_622),
    (54, 692_022_482),
    (48, 3_400_164_349),
];

/// Which variant stands where. A new one goes to the end, here, in `samples` and in `any_event`.
fn place(event: &Event) -> usize {
    match event {
        Event::SaleCreated { .. } => 0,
        Event::SaleMoved { .. } => 1,
        Event::Restocked { .. } => 2,
        Event::Held(_) => 3,
        Event::Confirmed { .. } => 4,
        Event::Cancelled { .. } => 5,
        Event::Expired(_) => 6,
        Event::Rebooked { .. } => 7,
        Event::RefundNeeded { .. } => 8,
    }
}

/// One event of each variant, in their order, with no field at its default.
fn samples() -> [Event; 9] {
    let (id, sale, item) = (reservation_id(1), sale_id(1), item_id(1));
    let (user, payment, actor) = (user(1), payment(1), Actor::from("operator"));
    let mut definition = super::world::plain(1, &[7, 300]);
    definition.closes_at = Some(Millis(2_000_000));
    definition.per_user_limit = Some(4);
    definition.items[1].per_user_limit = Some(2);
    let before = Window { opens_at: Some(Millis(5)), closes_at: None, paused: true };
    let after = Window { opens_at: None, closes_at: Some(Millis(6)), paused: false };
    let lines: Box<[Line]> =
        Box::new([Line { item: item.clone(), quantity: 3, unit_price: 49_900 }]);
    let returned =
        Return { id, sale: sale.clone(), user: user.clone(), lines: lines.clone(), version: 2 };
    let held = Reservation {
        id,
        sale: sale.clone(),
        user: user.clone(),
        lines,
        currency: "EUR".into(),
        status: Status::Confirmed,
        version: 9,
        held_at: Millis(1),
        expires_at: Millis(300),
        payment: Some(payment.clone()),
        late_payments: vec![payment.clone()],
    };
    [
        Event::SaleCreated { definition, actor: actor.clone() },
        Event::SaleMoved {
            sale: sale.clone(),
            step: Move::Close,
            before,
            after,
            actor: actor.clone(),
        },
        Event::Restocked {
            sale: sale.clone(),
            item,
            delta: -3,
            key: restock_key(7),
            before: 10,
            reason: "broken".into(),
            actor: actor.clone(),
        },
        Event::Held(held),
        Event::Confirmed { id, user: user.clone(), version: 2, payment: payment.clone() },
        Event::Cancelled { returned: returned.clone(), restock: true, actor: Some(actor) },
        Event::Expired(returned.clone()),
        Event::Rebooked { taken: returned, payment: payment.clone() },
        Event::RefundNeeded { id, sale, user, payment, amount: 149_700, currency: "EUR".into() },
    ]
}

fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(Box::from)
}

fn any_return() -> impl Strategy<Value = Return> {
    let line = (0_usize..9, any::<u32>(), any::<u64>()).prop_map(|(item, quantity, unit_price)| {
        Line { item: item_id(item), quantity, unit_price }
    });
    (any::<usize>(), vec(line, 0..4), any::<u32>()).prop_map(|(n, lines, version)| Return {
        id: reservation_id(n),
        sale: sale_id(n),
        user: user(n),
        lines: lines.into(),
        version,
    })
}

fn any_reservation() -> impl Strategy<Value = Reservation> {
    let statuses = vec![Status::Held, Status::Confirmed, Status::Cancelled, Status::Expired];
    let times = any::<(u64, u64)>();
    let payments = (option::of(0_usize..9), vec(0_usize..9, 0..4));
    (any_return(), text(), prop::sample::select(statuses), times, payments).prop_map(
        |(units, currency, status, (held_at, expires_at), (paid, late))| Reservation {
            id: units.id,
            sale: units.sale,
            user: units.user,
            lines: units.lines,
            currency,
            status,
            version: units.version,
            held_at: Millis(held_at),
            expires_at: Millis(expires_at),
            payment: paid.map(payment),
            late_payments: late.into_iter().map(payment).collect(),
        },
    )
}

fn any_definition() -> impl Strategy<Value = SaleDefinition> {
    (any_world(), text(), any::<u32>(), any::<u64>()).prop_map(|(mut sales, title, hold, price)| {
        let mut sale = sales.remove(0);
        (sale.title, sale.hold_seconds, sale.items[0].price) = (title, hold, price);
        sale
    })
}

fn any_window() -> impl Strategy<Value = Window> {
    any::<(Option<u64>, Option<u64>, bool)>().prop_map(|(opens_at, closes_at, paused)| Window {
        opens_at: opens_at.map(Millis),
        closes_at: closes_at.map(Millis),
        paused,
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let step = prop::sample::select(vec![Move::Open, Move::Pause, Move::Resume, Move::Close]);
    let windows = (any_window(), any_window());
    let numbers = any::<(i64, u64, usize)>();
    let paid = any::<(usize, u32)>();
    prop_oneof![
        (any_definition(), text())
            .prop_map(|(definition, actor)| Event::SaleCreated { definition, actor }),
        (any::<usize>(), step, windows, text()).prop_map(|(n, step, (before, after), actor)| {
            Event::SaleMoved { sale: sale_id(n), step, before, after, actor }
        }),
        (numbers, text(), text()).prop_map(|((delta, before, n), reason, actor)| {
            let (sale, item, key) = (sale_id(n), item_id(n), restock_key(n));
            Event::Restocked { sale, item, delta, key, before, reason, actor }
        }),
        any_reservation().prop_map(Event::Held),
        paid.prop_map(|(n, version)| Event::Confirmed {
            id: reservation_id(n),
            user: user(n),
            version,
            payment: payment(n),
        }),
        (any_return(), any::<bool>(), option::of(text())).prop_map(|(returned, restock, actor)| {
            Event::Cancelled { returned, restock, actor }
        }),
        any_return().prop_map(Event::Expired),
        (any_return(), any::<usize>())
            .prop_map(|(taken, n)| Event::Rebooked { taken, payment: payment(n) }),
        (any::<usize>(), any::<u64>(), text()).prop_map(|(n, amount, currency)| {
            Event::RefundNeeded {
                id: reservation_id(n),
                sale: sale_id(n),
                user: user(n),
                payment: payment(n),
                amount,
                currency,
            }
        }),
    ]
}
