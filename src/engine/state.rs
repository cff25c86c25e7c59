//! A lane's state, and how events change it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::event::{Event, Return};
use super::shards::Shards;
use crate::clock::Millis;
use crate::sale::{
    Counters, IdempotencyKey, ItemCounters, ItemId, Reservation, ReservationId, SaleDefinition,
    SaleId, SaleReport, Status, UserId, Window,
};

/// How far a lane is: `epoch-seq`. Every event has its own `seq`, one after the other, without gaps;
/// a higher epoch is a later life of the lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which life of the lane.
    pub epoch: u64,
    /// The last event's number.
    pub seq: u64,
}

/// An event that cannot have happened in this state: the journal it came from is not this lane's, or
/// is damaged. Going on could oversell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} cannot follow: {reason}")]
pub struct Impossible {
    /// The event's number.
    pub seq: u64,
    /// What contradicts what.
    pub reason: &'static str,
}

/// Everything a lane knows. Grows by one record per reservation; bounded by the stock and by what is
/// cancelled or expires.
#[derive(Debug, Default)]
pub struct State {
    position: Position,
    /// The ledger's clock: never steps back.
    now: Millis,
    sales: BTreeMap<SaleId, SaleRecord>,
    reservations: Shards<ReservationId, Reservation, 256>,
    /// Holds in order of their end, a queue per hold time: with one hold time, held first is due
    /// first. Entries of reservations that ended otherwise are skipped when they come up.
    holds: BTreeMap<u32, VecDeque<(Millis, ReservationId)>>,
}

/// A sale in its lane.
#[derive(Debug)]
pub struct SaleRecord {
    definition: Arc<SaleDefinition>,
    window: Window,
    created_at: Millis,
    /// In the order of the definition.
    items: Vec<Counters>,
    index: HashMap<ItemId, usize>,
    /// In few parts: there may be ten thousand sales.
    users: Shards<UserId, Taken, 32>,
    /// Restocks by their key: item and units. One entry per change that an operator made.
    restocks: HashMap<IdempotencyKey, (usize, i64)>,
}

/// Units that one user holds or has bought, by item. Most users have one item: no heap for those.
#[derive(Debug, Default)]
struct Taken {
    first: (usize, u32),
    others: Vec<(usize, u32)>,
}

impl Taken {
    fn entries(&self) -> impl Iterator<Item = &(usize, u32)> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn of_item(&self, item: usize) -> u32 {
        self.entries().filter(|(at, _)| *at == item).map(|(_, units)| units).sum()
    }

    fn total(&self) -> u32 {
        // Without a limit, the units of many items together can pass the bound of the type.
        self.entries().fold(0, |sum: u32, (_, units)| sum.saturating_add(*units))
    }

    /// Adds units, or takes some off; `None` where that would pass a bound.
    fn change(&mut self, item: usize, delta: i64) -> Option<()> {
        // An item's own entry before an empty one: it must never have two.
        let own = self.entries().position(|(at, units)| *at == item && *units > 0);
        let known = own.or_else(|| self.entries().position(|(_, units)| *units == 0));
        let entry = match known {
            Some(0) => &mut self.first,
            Some(other) => self.others.get_mut(other - 1)?,
            None => {
                self.others.push((item, 0));
                self.others.last_mut()?
            }
        };
        let units = i64::from(entry.1).checked_add(delta)?;
        *entry = (item, u32::try_from(units).ok()?);
        Some(())
    }
}

impl SaleRecord {
    /// As it was created.
    pub fn definition(&self) -> &Arc<SaleDefinition> {
        &self.definition
    }

    /// As it is now.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// When it was created.
    pub fn created_at(&self) -> Millis {
        self.created_at
    }

    /// Users who hold or have bought units, each with the units of items by their place.
    pub fn users(&self) -> impl Iterator<Item = (&UserId, impl Iterator<Item = (usize, u32)>)> {
        self.users
            .iter()
            .map(|(user, taken)| (user, taken.entries().copied().filter(|(_, units)| *units > 0)))
    }

    /// What was restocked, by key: the item's place, and units.
    pub fn restocks(&self) -> impl Iterator<Item = (&IdempotencyKey, (usize, i64))> {
        self.restocks.iter().map(|(key, change)| (key, *change))
    }

    /// An item's place in the definition.
    pub fn item_index(&self, item: &ItemId) -> Option<usize> {
        self.index.get(item).copied()
    }

    /// Counters in the order of the definition.
    pub fn counters(&self) -> &[Counters] {
        &self.items
    }

    /// What was restocked under a key: the item's place, and units.
    pub fn restocked(&self, key: &IdempotencyKey) -> Option<(usize, i64)> {
        self.restocks.get(key).copied()
    }

    /// Units of an item that a user holds or has bought.
    pub fn taken_of_item(&self, user: &UserId, item: usize) -> u32 {
        self.users.get(user).map_or(0, |taken| taken.of_item(item))
    }

    /// Units of all items that a user holds or has bought.
    pub fn taken(&self, user: &UserId) -> u32 {
        self.users.get(user).map_or(0, Taken::total)
    }

    /// The sale as the outside sees it.
    pub fn report(&self) -> SaleReport {
        let named = self.definition.items.iter().zip(&self.items);
        SaleReport {
            definition: Arc::clone(&self.definition),
            window: self.window,
            created_at: self.created_at,
            items: named
                .map(|(item, counters)| ItemCounters { item: item.id.clone(), counters: *counters })
                .collect(),
        }
    }

    /// Moves a reservation's units from one status to another, in the counters and in the user's
    /// account.
    fn shift(
        &mut self,
        user: &UserId,
        lines: &[Placed],
        from: Option<Status>,
        to: Status,
        restock: bool,
    ) -> Result<(), &'static str> {
        let mut moved = Vec::with_capacity(lines.len());
        for (item, units) in lines {
            let counters = self.items.get(*item).ok_or("no such item")?;
            let counters = counters.moved(from, to, u64::from(*units)).ok_or("no such units")?;
            let counters = if restock {
                counters
            } else {
                counters.restocked(-i64::from(*units)).ok_or("no such stock")?
            };
            // Going on with counters that do not add up could oversell.
            assert!(counters.conserved(), "conservation of {:?} at {to:?}", self.definition.id);
            moved.push((*item, counters));
        }
        let had = from.is_some_and(Status::has_units);
        let delta = |units: u32| i64::from(units) * (i64::from(to.has_units()) - i64::from(had));
        for (item, units) in lines {
            if delta(*units) != 0 {
                let taken = self.users.part_mut(user).entry(user.clone()).or_default();
                taken.change(*item, delta(*units)).ok_or("no such units of the user")?;
            }
        }
        if self.users.get(user).is_some_and(|taken| taken.total() == 0) {
            self.users.part_mut(user).remove(user);
        }
        for (item, counters) in moved {
            self.items[item] = counters;
        }
        Ok(())
    }
}

/// An item's place in its sale, and units of it.
type Placed = (usize, u32);

impl State {
    /// An untouched lane in its `epoch`th life.
    pub fn new(epoch: u64) -> Self {
        Self { position: Position { epoch, seq: 0 }, ..Self::default() }
    }

    /// How far the lane is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The ledger's clock.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Moves the ledger's clock on. It never steps back, whatever the machine's clock does.
    pub fn advance(&mut self, now: Millis) -> Millis {
        self.now = self.now.max(now);
        self.now
    }

    /// A sale by its id.
    pub fn sale(&self, id: &SaleId) -> Option<&SaleRecord> {
        self.sales.get(id)
    }

    /// All sales, in order of their ids.
    pub fn sales(&self) -> impl Iterator<Item = (&SaleId, &SaleRecord)> {
        self.sales.iter()
    }

    /// How many sales the lane knows.
    pub fn sales_len(&self) -> usize {
        self.sales.len()
    }

    /// A reservation by its id.
    pub fn reservation(&self, id: &ReservationId) -> Option<&Reservation> {
        self.reservations.get(id)
    }

    /// All reservations, in no order.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.iter().map(|(_, reservation)| reservation)
    }

    /// When the next hold runs out. May be early, where that reservation has ended otherwise.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.holds.values().filter_map(VecDeque::front).map(|(at, _)| *at).min()
    }

    /// Holds that are due at the lane's clock, oldest first per hold time, at most `max`; and whether
    /// there are more. Forgets entries of reservations that ended otherwise.
    pub(super) fn due(&mut self, max: usize) -> (Vec<Return>, bool) {
        let mut due = Vec::new();
        let (now, reservations) = (self.now, &self.reservations);
        for queue in self.holds.values_mut() {
            // `evolve` takes the entry of an expired hold off; here it is only looked past.
            let mut seen = 0;
            while let Some((at, id)) = queue.get(seen) {
                if *at > now {
                    break;
                }
                let held = reservations.get(id).filter(|reservation| {
                    reservation.status == Status::Held && reservation.expires_at == *at
                });
                match held {
                    Some(_) if due.len() == max => return (due, true),
                    Some(reservation) => {
                        due.push(Return::of(reservation));
                        seen += 1;
                    }
                    None if seen == 0 => {
                        queue.pop_front();
                    }
                    None => seen += 1,
                }
            }
        }
        (due, false)
    }

    /// Applies one event and counts it.
    ///
    /// # Errors
    /// [`Impossible`] where the event contradicts the state; the state is then not to be used.
    pub fn evolve(&mut self, event: &Event) -> Result<(), Impossible> {
        let seq = self.position.seq.saturating_add(1);
        self.change(event).map_err(|reason| Impossible { seq, reason })?;
        self.position.seq = seq;
        Ok(())
    }

    fn change(&mut self, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::SaleCreated { definition, .. } => self.create(definition),
            Event::SaleMoved { sale, before, after, .. } => {
                let sale = self.sales.get_mut(sale).ok_or("no such sale")?;
                if sale.window != *before {
                    return Err("the window was another before");
                }
                sale.window = *after;
                Ok(())
            }
            Event::Restocked { sale, item, delta, key, before, .. } => {
                let sale = self.sales.get_mut(sale).ok_or("no such sale")?;
                let index = sale.item_index(item).ok_or("no such item")?;
                if sale.items[index].stock != *before {
                    return Err("the stock was another before");
                }
                if sale.restocks.contains_key(key) {
                    return Err("it was restocked under that key");
                }
                sale.items[index] = sale.items[index].restocked(*delta).ok_or("no such stock")?;
                sale.restocks.insert(key.clone(), (index, *delta));
                assert!(sale.items[index].conserved(), "conservation of {item} at restock");
                Ok(())
            }
            Event::Held(reservation) => self.hold(reservation),
            Event::Confirmed { id, version, payment, .. } => {
                self.must_be(id, Status::Held)?;
                let reservation = self.transit(id, *version, Status::Confirmed, true)?;
                reservation.payment = Some(payment.clone());
                Ok(())
            }
            Event::Cancelled { returned, restock, .. } => {
                self.transit(&returned.id, returned.version, Status::Cancelled, *restock).map(drop)
            }
            Event::Expired(returned) => {
                self.transit(&returned.id, returned.version, Status::Expired, true)?;
                self.forget_expired_hold(returned);
                Ok(())
            }
            Event::Rebooked { taken, payment } => {
                self.must_be(&taken.id, Status::Expired)?;
                let reservation =
                    self.transit(&taken.id, taken.version, Status::Confirmed, true)?;
                reservation.payment = Some(payment.clone());
                Ok(())
            }
            Event::RefundNeeded { id, payment, .. } => {
                let reservation =
                    self.reservations.part_mut(id).get_mut(id).ok_or("no such reservation")?;
                let counted = reservation.payment.as_ref() == Some(payment);
                let held = reservation.status == Status::Held;
                if held || counted || reservation.late_payments.contains(payment) {
                    return Err("nothing to refund");
                }
                reservation.late_payments.push(payment.clone());
                Ok(())
            }
        }
    }

    fn create(&mut self, definition: &SaleDefinition) -> Result<(), &'static str> {
        if self.sales.contains_key(&definition.id) {
            return Err("the sale exists");
        }
        let items = &definition.items;
        let record = SaleRecord {
            window: Window {
                opens_at: definition.opens_at,
                closes_at: definition.closes_at,
                paused: false,
            },
            created_at: self.now,
            items: items.iter().map(|item| Counters::new(item.stock)).collect(),
            index: items.iter().enumerate().map(|(i, item)| (item.id.clone(), i)).collect(),
            users: Shards::default(),
            restocks: HashMap::new(),
            definition: Arc::new(definition.clone()),
        };
        self.sales.insert(definition.id.clone(), record);
        Ok(())
    }

    fn hold(&mut self, reservation: &Reservation) -> Result<(), &'static str> {
        if self.reservations.get(&reservation.id).is_some() {
            return Err("the reservation exists");
        }
        if reservation.status != Status::Held || reservation.version != 1 {
            return Err("not a new reservation");
        }
        let sale = self.sales.get_mut(&reservation.sale).ok_or("no such sale")?;
        let lines = placed(sale, &reservation.lines)?;
        sale.shift(&reservation.user, &lines, None, Status::Held, true)?;
        // Ids of sales and items are shared, not kept once a reservation.
        let mut reservation = reservation.clone();
        reservation.sale = sale.definition.id.clone();
        for (line, (item, _)) in reservation.lines.iter_mut().zip(&lines) {
            line.item = sale.definition.items[*item].id.clone();
        }
        let queue = self.holds.entry(sale.definition.hold_seconds).or_default();
        queue.push_back((reservation.expires_at, reservation.id));
        self.reservations.part_mut(&reservation.id).insert(reservation.id, reservation);
        Ok(())
    }

    fn must_be(&self, id: &ReservationId, status: Status) -> Result<(), &'static str> {
        let known = self.reservations.get(id).ok_or("no such reservation")?;
        if known.status == status { Ok(()) } else { Err("no such transition") }
    }

    /// Moves a reservation to its next status and version, and its units with it.
    fn transit(
        &mut self,
        id: &ReservationId,
        version: u32,
        to: Status,
        restock: bool,
    ) -> Result<&mut Reservation, &'static str> {
        let reservation =
            self.reservations.part_mut(id).get_mut(id).ok_or("no such reservation")?;
        if version != reservation.version.saturating_add(1) {
            return Err("not the next version");
        }
        let allowed = match (reservation.status, to) {
            (Status::Held, Status::Confirmed | Status::Cancelled | Status::Expired)
            | (Status::Confirmed, Status::Cancelled)
            | (Status::Expired, Status::Confirmed) => true,
            (Status::Held, Status::Held)
            | (Status::Confirmed, Status::Held | Status::Confirmed | Status::Expired)
            | (Status::Expired, Status::Held | Status::Cancelled | Status::Expired)
            | (Status::Cancelled, _) => false,
        };
        if !allowed {
            return Err("no such transition");
        }
        let sale = self.sales.get_mut(&reservation.sale).ok_or("no such sale")?;
        let lines = placed(sale, &reservation.lines)?;
        sale.shift(&reservation.user, &lines, Some(reservation.status), to, restock)?;
        reservation.status = to;
        reservation.version = version;
        Ok(reservation)
    }

    /// Expiries come in the order of the queue, so the entry is its first, or near it.
    fn forget_expired_hold(&mut self, returned: &Return) {
        let Some(sale) = self.sales.get(&returned.sale) else { return };
        if let Some(queue) = self.holds.get_mut(&sale.definition.hold_seconds)
            && queue.front().is_some_and(|(_, id)| *id == returned.id)
        {
            queue.pop_front();
        }
    }
}

/// A reservation's lines by place in its sale.
fn placed(sale: &SaleRecord, lines: &[crate::sale::Line]) -> Result<Vec<Placed>, &'static str> {
    let mut placed: Vec<Placed> = Vec::with_capacity(lines.len());
    for line in lines {
        let item = sale.item_index(&line.item).ok_or("no such item")?;
        if placed.iter().any(|(other, _)| *other == item) {
            return Err("an item stands in two lines");
        }
        placed.push((item, line.quantity));
    }
    Ok(placed)
}
