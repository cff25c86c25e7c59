//! What gateway and scripts say to each other: MessagePack arrays, by position, as the headers of
//! `lua/*.lua` document them.

use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use rmp::encode::{write_array_len, write_bool, write_sint, write_str, write_str_len};
use rmpv::ValueRef;
use rmpv::decode::read_value_ref;

use crate::clock::Millis;
use crate::engine::{Authority, Command, Event, Position, Return};
use crate::sale::{
    Counters, IdempotencyKey, ItemCounters, ItemId, Line, Move, Outcome, PaymentRef, Refusal,
    Reservation, ReservationId, SaleDefinition, SaleId, SaleReport, SaleState, Status, UserId,
    Window,
};

/// The script said what this version does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the script's answer cannot be read: {0} expected")]
pub struct Unreadable(&'static str);

type Reading<T> = Result<T, Unreadable>;

/// What a call came to, before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Done,
    /// The lane was never made, or is forgotten.
    Empty,
    /// It is being recovered.
    Fenced,
    /// Its epoch is another than the caller's.
    Stale,
    /// It has forgotten what the caller has seen.
    Behind,
    /// Its state is of a version that the script does not know.
    Format,
}

/// The beginning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether anything was done.
    pub verdict: Verdict,
    /// Where the lane is since.
    pub position: Position,
    /// The lane's clock.
    pub now: Millis,
    /// More holds are due than one call returns.
    pub more: bool,
    /// More sales have changed than one call reports.
    pub full: bool,
    /// Reservations that passed because there was no room to limit their users.
    pub unlimited: u64,
    /// Its first time, where this very call was made before.
    pub made_before: Option<MadeBefore>,
}

/// The first time of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBefore {
    /// When it was.
    pub at: Millis,
    /// Which of its commands were replays then, from 0 on.
    pub replays: Vec<usize>,
}

/// A sale as its lane has it, without its definition, which never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub sale: SaleId,
    /// When it was created.
    pub created_at: Millis,
    /// As it is now.
    pub window: Window,
    /// In the order of the definition.
    pub counters: Vec<Counters>,
    /// The lane's seq when it last changed; 0 where that was not said.
    pub touched: u64,
}

/// The commands of a call, as `lua/batch.lua` takes them.
#[derive(Debug, Default)]
pub struct Arguments {
    /// A letter for each command.
    pub letters: Vec<u8>,
    /// What plain reservations are of, packed.
    pub wishes: Vec<u8>,
    /// What belongs to each letter, in their order, in a row; and where each ends.
    values: (Vec<u8>, Vec<usize>),
}

/// Plain reservations of one call are of so many different wishes at most: their numbers are letters.
const WISHES_MAX: usize = 128;
const FIRST_WISH: u8 = 128;

/// What a reservation of one line is of, whoever asks.
type Wish<'c> = (&'c SaleId, &'c ItemId, u32);

impl Arguments {
    /// Packs commands for a call.
    pub fn of<'c>(commands: impl Iterator<Item = &'c Command>) -> Self {
        let mut arguments = Self::default();
        let mut wishes = Vec::new();
        for command in commands {
            arguments.push(command, &mut wishes);
        }
        let mut packed = Packer::default();
        packed.array(wishes.len());
        for (sale, item, quantity) in wishes {
            packed.array(3);
            packed.text(sale.as_str());
            packed.text(item.as_str());
            packed.uint(quantity.into());
        }
        arguments.wishes = packed.0;
        arguments
    }

    /// What belongs to the letters.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        let (bytes, ends) = &self.values;
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(start, end)| bytes.get(*start..*end).unwrap_or_default())
    }

    fn push<'c>(&mut self, command: &'c Command, wishes: &mut Vec<Wish<'c>>) {
        if let Command::Reserve(reserve) = command
            && let [line] = reserve.lines.as_ref()
            && let Some(letter) = letter((&reserve.sale, &line.item, line.quantity), wishes)
        {
            self.letters.push(letter);
            self.value(reserve.id.as_bytes());
            self.value(reserve.user.as_str().as_bytes());
            return;
        }
        let mut packed = Packer::default();
        packed.command(command);
        self.letters.push(b'c');
        self.value(&packed.0);
    }

    fn value(&mut self, value: &[u8]) {
        let (bytes, ends) = &mut self.values;
        bytes.extend_from_slice(value);
        ends.push(bytes.len());
    }
}

/// The letter of a wish, which gets one if it has none yet.
fn letter<'c>(wish: Wish<'c>, wishes: &mut Vec<Wish<'c>>) -> Option<u8> {
    let number = wishes.iter().position(|known| *known == wish).unwrap_or(wishes.len());
    if number == WISHES_MAX {
        return None;
    }
    if number == wishes.len() {
        wishes.push(wish);
    }
    u8::try_from(number).ok().map(|number| FIRST_WISH + number)
}

/// Writes MessagePack. Writing to memory does not fail.
#[derive(Default)]
pub struct Packer(pub Vec<u8>);

impl Packer {
    /// The head of an array of so many fields, which follow.
    pub fn array(&mut self, len: usize) {
        let _ = write_array_len(&mut self.0, u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        let _ = write_str(&mut self.0, text);
    }

    /// Bytes as the scripts take them: as a string, for theirs have no encoding.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let _ = write_str_len(&mut self.0, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// A whole number.
    pub fn int(&mut self, number: i64) {
        let _ = write_sint(&mut self.0, number);
    }

    /// Numbers of the scripts are exact up to 2^53; all of ours are far below.
    pub fn uint(&mut self, number: u64) {
        self.int(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// True or false.
    pub fn flag(&mut self, flag: bool) {
        let _ = write_bool(&mut self.0, flag);
    }

    /// An instant, or that there is none.
    pub fn instant(&mut self, at: Option<Millis>) {
        self.int(at.map_or(-1, |at| i64::try_from(at.0).unwrap_or(i64::MAX)));
    }

    /// A limit, or that there is none.
    pub fn limit(&mut self, limit: Option<u32>) {
        self.int(limit.map_or(-1, i64::from));
    }

    /// A record as the scripts keep it.
    pub fn record(&mut self, known: &Reservation) {
        self.array(10);
        self.text(known.sale.as_str());
        self.text(known.user.as_str());
        self.array(known.lines.len() * 3);
        for line in &known.lines {
            self.text(line.item.as_str());
            self.uint(line.quantity.into());
            self.uint(line.unit_price);
        }
        self.text(&known.currency);
        self.text(match known.status {
            Status::Held => "h",
            Status::Confirmed => "c",
            Status::Cancelled => "x",
            Status::Expired => "e",
        });
        self.uint(known.version.into());
        self.uint(known.held_at.0);
        self.uint(known.expires_at.0);
        self.text(known.payment.as_ref().map_or("", PaymentRef::as_str));
        self.array(known.late_payments.len());
        for payment in &known.late_payments {
            self.text(payment.as_str());
        }
    }

    /// Items as the scripts keep them: id, price, limit, and again.
    pub fn items(&mut self, definition: &SaleDefinition) {
        self.array(definition.items.len() * 3);
        for item in &definition.items {
            self.text(item.id.as_str());
            self.uint(item.price);
            self.limit(item.per_user_limit);
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Reserve(reserve) => {
                self.array(5);
                self.text("R");
                self.bytes(reserve.id.as_bytes());
                self.text(reserve.sale.as_str());
                self.text(reserve.user.as_str());
                self.array(reserve.lines.len() * 2);
                for line in &reserve.lines {
                    self.text(line.item.as_str());
                    self.uint(line.quantity.into());
                }
            }
            Command::Confirm { id, payment } => {
                self.array(3);
                self.text("C");
                self.bytes(id.as_bytes());
                self.text(payment.as_str());
            }
            Command::Cancel { id, by } => {
                self.array(5);
                self.text("X");
                self.bytes(id.as_bytes());
                let (owner, restock, actor) = match by {
                    Authority::Owner(user) => (user.as_str(), true, ""),
                    Authority::Operator { actor, restock } => ("", *restock, actor.as_ref()),
                };
                self.text(owner);
                self.flag(restock);
                self.text(actor);
            }
            Command::Find { id, owner } => {
                self.array(3);
                self.text("F");
                self.bytes(id.as_bytes());
                self.text(owner.as_ref().map_or("", UserId::as_str));
            }
            Command::CreateSale { definition, actor } => {
                self.array(11);
                self.text("N");
                self.text(definition.id.as_str());
                self.text(&definition.to_json().to_string());
                self.instant(definition.opens_at);
                self.instant(definition.closes_at);
                self.uint(definition.hold_seconds.into());
                self.limit(definition.per_user_limit);
                self.text(definition.currency());
                self.items(definition);
                self.array(definition.items.len());
                for item in &definition.items {
                    self.uint(item.stock);
                }
                self.text(actor);
            }
            Command::MoveSale { sale, step, actor } => {
                self.array(4);
                self.text("M");
                self.text(sale.as_str());
                self.text(step.as_str());
                self.text(actor);
            }
            Command::Restock { sale, item, delta, key, reason, actor } => {
                self.array(7);
                self.text("S");
                self.text(sale.as_str());
                self.text(item.as_str());
                self.int(*delta);
                self.text(key.as_str());
                self.text(reason);
                self.text(actor);
            }
            Command::Inspect { sale } => {
                self.array(2);
                self.text("I");
                self.text(sale.as_str());
            }
            Command::Sweep => {
                self.array(1);
                self.text("E");
            }
        }
    }
}

/// Reads the beginning of an answer.
///
/// # Errors
/// [`Unreadable`].
pub fn head(mut bytes: &[u8]) -> Reading<Head> {
    let mut fields = Fields::next(&mut bytes)?;
    let verdict = match fields.text()? {
        "ok" => Verdict::Done,
        "empty" => Verdict::Empty,
        "fenced" => Verdict::Fenced,
        "stale" => Verdict::Stale,
        "behind" => Verdict::Behind,
        "format" => Verdict::Format,
        _ => return Err(Unreadable("a status")),
    };
    let position = Position { epoch: fields.uint()?, seq: fields.uint()? };
    let now = fields.millis()?;
    let (more, full, unlimited) = (fields.flag()?, fields.flag()?, fields.uint()?);
    let (at, replays) = (fields.millis()?, fields.text()?);
    let place = |text: &str| text.parse::<usize>().ok()?.checked_sub(1);
    let replays: Option<Vec<_>> = replays.split_whitespace().map(place).collect();
    let replays = replays.ok_or(Unreadable("the replays of a call"))?;
    let made_before = (at.0 > 0).then_some(MadeBefore { at, replays });
    Ok(Head { verdict, position, now, more, full, unlimited, made_before })
}

/// How often a user may reserve, as `lua/rate.lua` takes it. No more often than the quota says: what is left of a
/// microsecond counts as one.
pub fn rate(quota: &Quota) -> String {
    let period = quota.replenish_interval().as_nanos().div_ceil(1_000);
    format!("{period} {}", quota.burst_size())
}

/// Reads the outcomes of `commands`, in their order, with the shapes of those that were plain. Where the user asked too often there is none, but how
/// long until there is a token.
///
/// # Errors
/// [`Unreadable`].
pub fn outcomes<'c>(
    mut bytes: &[u8],
    mut shapes: &[u8],
    commands: impl Iterator<Item = &'c Command>,
) -> Reading<Vec<Result<Outcome, Duration>>> {
    let mut known = Vec::new();
    while !shapes.is_empty() {
        known.push(Shape::of(Fields::next(&mut shapes)?));
    }
    let read = |command: &Command| {
        let value = read_value_ref(&mut bytes).map_err(|_| Unreadable("MessagePack"))?;
        let (ValueRef::Integer(number), Command::Reserve(reserve)) = (&value, command) else {
            return Fields::of(value)?.outcome(command);
        };
        let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
        let shape = number.and_then(|number| known.get_mut(number.checked_sub(1)?));
        let shape = shape.ok_or(Unreadable("a shape"))?;
        let reservation = shape.reservation(reserve.id, reserve.user.clone())?;
        Ok(Ok(Outcome::Reserved { reservation, replayed: false }))
    };
    commands.map(read).collect()
}

/// Reads reports to the end.
///
/// # Errors
/// [`Unreadable`].
pub fn reports(mut bytes: &[u8]) -> Reading<Vec<Report>> {
    let mut reports = Vec::new();
    while !bytes.is_empty() {
        reports.push(Fields::next(&mut bytes)?.report()?);
    }
    Ok(reports)
}

/// Reads the events of one entry of the outbox, to the end.
///
/// # Errors
/// [`Unreadable`].
pub fn events(mut bytes: &[u8]) -> Reading<Vec<Event>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        Fields::next(&mut bytes)?.events(&mut events)?;
    }
    Ok(events)
}

/// What the events of one entry of the outbox granted.
///
/// # Errors
/// [`Unreadable`].
pub fn granted(mut bytes: &[u8]) -> Reading<Vec<(SaleId, ReservationId)>> {
    let mut granted = Vec::new();
    while !bytes.is_empty() {
        let mut event = Fields::next(&mut bytes)?;
        match event.text()? {
            "G" => {
                let sale = event.fields()?.sale()?;
                granted.extend(event.ids()?.into_iter().map(|id| (sale.clone(), id)));
            }
            "H" => {
                let id = event.id()?;
                granted.push((event.fields()?.sale()?, id));
            }
            _ => {}
        }
    }
    Ok(granted)
}

/// Of which sale a record is.
///
/// # Errors
/// [`Unreadable`].
pub fn sale_of_record(mut bytes: &[u8]) -> Reading<SaleId> {
    Fields::next(&mut bytes)?.sale()
}

/// What reservations of one wish have in common when they are made: a record without its user.
struct Shape<'b> {
    packed: Fields<'b>,
    first: Option<Reservation>,
}

impl<'b> Shape<'b> {
    fn of(packed: Fields<'b>) -> Self {
        Self { packed, first: None }
    }

    fn reservation(&mut self, id: ReservationId, user: UserId) -> Reading<Reservation> {
        if let Some(first) = &self.first {
            return Ok(Reservation { id, user, ..first.clone() });
        }
        let sale = self.packed.sale()?;
        let made = self.packed.rest_of_record(id, sale, user)?;
        self.first = Some(made.clone());
        Ok(made)
    }
}

/// Whether the reservation of a record is still held.
///
/// # Errors
/// [`Unreadable`].
#[cfg(test)]
pub fn is_held(mut bytes: &[u8]) -> Reading<bool> {
    let mut fields = Fields::next(&mut bytes)?;
    let status = fields.0.nth(4).ok_or(Unreadable("a status"))?;
    Ok(status == ValueRef::from("h"))
}

/// The fields of one array, from the first to the last.
struct Fields<'b>(std::vec::IntoIter<ValueRef<'b>>);

impl<'b> Fields<'b> {
    fn next(bytes: &mut &'b [u8]) -> Reading<Self> {
        Self::of(read_value_ref(bytes).map_err(|_| Unreadable("MessagePack"))?)
    }

    fn of(value: ValueRef<'b>) -> Reading<Self> {
        let ValueRef::Array(fields) = value else { return Err(Unreadable("an array")) };
        Ok(Self(fields.into_iter()))
    }

    fn value(&mut self) -> Reading<ValueRef<'b>> {
        self.0.next().ok_or(Unreadable("a field"))
    }

    fn fields(&mut self) -> Reading<Self> {
        Self::of(self.value()?)
    }

    fn text(&mut self) -> Reading<&'b str> {
        let ValueRef::String(text) = self.value()? else { return Err(Unreadable("a string")) };
        text.into_str().ok_or(Unreadable("UTF-8"))
    }

    fn int(&mut self) -> Reading<i64> {
        let ValueRef::Integer(number) = self.value()? else { return Err(Unreadable("a number")) };
        number.as_i64().ok_or(Unreadable("a number in range"))
    }

    fn uint(&mut self) -> Reading<u64> {
        u64::try_from(self.int()?).map_err(|_| Unreadable("a number of at least 0"))
    }

    fn small(&mut self) -> Reading<u32> {
        u32::try_from(self.int()?).map_err(|_| Unreadable("a number in range"))
    }

    fn millis(&mut self) -> Reading<Millis> {
        self.uint().map(Millis)
    }

    fn instant(&mut self) -> Reading<Option<Millis>> {
        Ok(u64::try_from(self.int()?).ok().map(Millis))
    }

    fn flag(&mut self) -> Reading<bool> {
        let ValueRef::Boolean(flag) = self.value()? else {
            return Err(Unreadable("true or false"));
        };
        Ok(flag)
    }

    fn id(&mut self) -> Reading<ReservationId> {
        let ValueRef::String(text) = self.value()? else { return Err(Unreadable("an id")) };
        let bytes = text.as_bytes().try_into().map_err(|_| Unreadable("an id of 16 bytes"))?;
        Ok(ReservationId::from_bytes(bytes))
    }

    /// Ids in a row.
    fn ids(&mut self) -> Reading<Vec<ReservationId>> {
        let ValueRef::String(text) = self.value()? else { return Err(Unreadable("ids")) };
        let (ids, rest) = text.as_bytes().as_chunks();
        if !rest.is_empty() {
            return Err(Unreadable("ids of 16 bytes"));
        }
        Ok(ids.iter().map(|id| ReservationId::from_bytes(*id)).collect())
    }

    fn sale(&mut self) -> Reading<SaleId> {
        SaleId::parse(self.text()?).map_err(|_| Unreadable("a sale"))
    }

    fn item(&mut self) -> Reading<ItemId> {
        ItemId::parse(self.text()?).map_err(|_| Unreadable("an item"))
    }

    fn user(&mut self) -> Reading<UserId> {
        UserId::parse(self.text()?).map_err(|_| Unreadable("a user"))
    }

    fn payment(&mut self) -> Reading<PaymentRef> {
        PaymentRef::parse(self.text()?).map_err(|_| Unreadable("a payment"))
    }

    fn window(&mut self) -> Reading<Window> {
        let (opens_at, closes_at) = (self.instant()?, self.instant()?);
        Ok(Window { opens_at, closes_at, paused: self.flag()? })
    }

    fn lines(&mut self) -> Reading<Box<[Line]>> {
        let mut fields = self.fields()?;
        let mut lines = Vec::with_capacity(fields.0.len() / 3);
        while fields.0.len() > 0 {
            let (item, quantity) = (fields.item()?, fields.small()?);
            lines.push(Line { item, quantity, unit_price: fields.uint()? });
        }
        Ok(lines.into())
    }

    fn record(&mut self, id: ReservationId) -> Reading<Reservation> {
        let mut fields = self.fields()?;
        let (sale, user) = (fields.sale()?, fields.user()?);
        fields.rest_of_record(id, sale, user)
    }

    fn rest_of_record(
        &mut self,
        id: ReservationId,
        sale: SaleId,
        user: UserId,
    ) -> Reading<Reservation> {
        let fields = self;
        let lines = fields.lines()?;
        let currency = Box::from(fields.text()?);
        let status = match fields.text()? {
            "h" => Status::Held,
            "c" => Status::Confirmed,
            "x" => Status::Cancelled,
            "e" => Status::Expired,
            _ => return Err(Unreadable("a status")),
        };
        let version = fields.small()?;
        let (held_at, expires_at) = (fields.millis()?, fields.millis()?);
        let payment = match fields.text()? {
            "" => None,
            text => Some(PaymentRef::parse(text).map_err(|_| Unreadable("a payment"))?),
        };
        let mut late = fields.fields()?;
        let mut late_payments = Vec::with_capacity(late.0.len());
        while late.0.len() > 0 {
            late_payments.push(late.payment()?);
        }
        Ok(Reservation {
            id,
            sale,
            user,
            lines,
            currency,
            status,
            version,
            held_at,
            expires_at,
            payment,
            late_payments,
        })
    }

    fn returned(&mut self) -> Reading<Return> {
        let mut fields = self.fields()?;
        let (id, sale, user) = (fields.id()?, fields.sale()?, fields.user()?);
        Ok(Return { id, sale, user, lines: fields.lines()?, version: fields.small()? })
    }

    fn report(mut self) -> Reading<Report> {
        let (sale, created_at, window) = (self.sale()?, self.millis()?, self.window()?);
        let mut numbers = self.fields()?;
        let mut counters = Vec::with_capacity(numbers.0.len() / 6);
        while numbers.0.len() > 0 {
            counters.push(Counters {
                stock: numbers.uint()?,
                available: numbers.uint()?,
                held: numbers.uint()?,
                confirmed: numbers.uint()?,
                cancelled_total: numbers.uint()?,
                expired_total: numbers.uint()?,
            });
        }
        let touched = if self.0.len() > 0 { self.uint()? } else { 0 };
        Ok(Report { sale, created_at, window, counters, touched })
    }

    fn outcome(mut self, command: &Command) -> Reading<Result<Outcome, Duration>> {
        // A record's id is not in the record: it is what was asked for.
        let id = match command {
            Command::Reserve(reserve) => Some(reserve.id),
            Command::Confirm { id, .. } | Command::Cancel { id, .. } | Command::Find { id, .. } => {
                Some(*id)
            }
            Command::CreateSale { .. }
            | Command::MoveSale { .. }
            | Command::Restock { .. }
            | Command::Inspect { .. }
            | Command::Sweep => None,
        };
        let kind = self.text()?;
        let mut reservation = || self.record(id.ok_or(Unreadable("no record"))?);
        Ok(Ok(match kind {
            "r" => Outcome::Reserved { reservation: reservation()?, replayed: self.flag()? },
            "c" => Outcome::Confirmed { reservation: reservation()?, rebooked: self.flag()? },
            "x" => Outcome::Cancelled(reservation()?),
            "f" => Outcome::Found(reservation()?),
            "s" => {
                let report = self.fields()?.report()?;
                let definition = definition(self.text()?)?;
                Outcome::Sale { report: report.with(&definition), created: self.flag()? }
            }
            "e" => {
                let expired = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
                Outcome::Swept { expired, more: self.flag()? }
            }
            "n" => match self.text()? {
                "rate-limited" => return Ok(Err(Duration::from_micros(self.uint()?))),
                code => Outcome::Refused(self.refusal(code)?),
            },
            _ => return Err(Unreadable("an outcome")),
        }))
    }

    fn refusal(&mut self, code: &str) -> Reading<Refusal> {
        Ok(match code {
            "idempotency-key-reused" => Refusal::KeyReused,
            "unknown-sale" => Refusal::UnknownSale,
            "sale-not-open" => Refusal::SaleNotOpen { opens_at: self.instant()? },
            "sale-paused" => Refusal::SalePaused,
            "sale-closed" => Refusal::SaleClosed,
            "unknown-item" => Refusal::UnknownItem(self.item()?),
            "invalid-quantity" => Refusal::InvalidQuantity { max: self.small()? },
            "limit-reached" => {
                let limit = self.small()?;
                let taken = u32::try_from(self.uint()?).unwrap_or(u32::MAX);
                Refusal::LimitReached { limit, taken }
            }
            "sold-out" => Refusal::SoldOut { held: self.flag()? },
            "unknown-reservation" => Refusal::UnknownReservation,
            "reservation-confirmed" => Refusal::ReservationConfirmed,
            "reservation-expired" => Refusal::ReservationExpired,
            "reservation-cancelled" => Refusal::ReservationCancelled,
            "sale-differs" => Refusal::SaleDiffers,
            "too-many-sales" => Refusal::TooManySales,
            "invalid-transition" => Refusal::MoveRefused {
                state: match self.text()? {
                    "scheduled" => SaleState::Scheduled,
                    "open" => SaleState::Open,
                    "paused" => SaleState::Paused,
                    "closed" => SaleState::Closed,
                    _ => return Err(Unreadable("a state")),
                },
            },
            "stock-taken" => Refusal::StockTaken { available: self.uint()? },
            _ => return Err(Unreadable("a refusal")),
        })
    }

    /// Reads one event; of a shape there are several in one.
    fn events(mut self, events: &mut Vec<Event>) -> Reading<()> {
        match self.text()? {
            "G" => {
                let (mut shape, ids) = (Shape::of(self.fields()?), self.ids()?);
                let mut users = self.fields()?;
                if users.0.len() != ids.len() {
                    return Err(Unreadable("a user for each id"));
                }
                for id in ids {
                    events.push(Event::Held(shape.reservation(id, users.user()?)?));
                }
            }
            kind => events.push(self.event(kind)?),
        }
        Ok(())
    }

    fn event(&mut self, kind: &str) -> Reading<Event> {
        Ok(match kind {
            "N" => {
                let definition = definition(self.text()?)?;
                let definition = Arc::unwrap_or_clone(definition);
                Event::SaleCreated { definition, actor: Box::from(self.text()?) }
            }
            "M" => {
                let sale = self.sale()?;
                let step = match self.text()? {
                    "open" => Move::Open,
                    "pause" => Move::Pause,
                    "resume" => Move::Resume,
                    "close" => Move::Close,
                    _ => return Err(Unreadable("a step")),
                };
                let (before, after) = (self.fields()?.window()?, self.fields()?.window()?);
                Event::SaleMoved { sale, step, before, after, actor: Box::from(self.text()?) }
            }
            "S" => Event::Restocked {
                sale: self.sale()?,
                item: self.item()?,
                delta: self.int()?,
                before: self.uint()?,
                key: IdempotencyKey::parse(self.text()?).map_err(|_| Unreadable("a key"))?,
                reason: Box::from(self.text()?),
                actor: Box::from(self.text()?),
            },
            "H" => {
                let id = self.id()?;
                Event::Held(self.record(id)?)
            }
            "C" => Event::Confirmed {
                id: self.id()?,
                user: self.user()?,
                version: self.small()?,
                payment: self.payment()?,
            },
            "X" => Event::Cancelled {
                returned: self.returned()?,
                restock: self.flag()?,
                actor: Some(self.text()?).filter(|actor| !actor.is_empty()).map(Box::from),
            },
            "E" => Event::Expired(self.returned()?),
            "B" => Event::Rebooked { taken: self.returned()?, payment: self.payment()? },
            "P" => {
                let (id, sale, user) = (self.id()?, self.sale()?, self.user()?);
                let (payment, lines) = (self.payment()?, self.lines()?);
                let amount = Line::total(&lines);
                let currency = Box::from(self.text()?);
                Event::RefundNeeded { id, sale, user, payment, amount, currency }
            }
            _ => return Err(Unreadable("an event")),
        })
    }
}

impl Report {
    fn with(self, definition: &Arc<SaleDefinition>) -> SaleReport {
        let items = definition.items.iter().zip(self.counters);
        SaleReport {
            definition: Arc::clone(definition),
            window: self.window,
            created_at: self.created_at,
            items: items
                .map(|(item, counters)| ItemCounters { item: item.id.clone(), counters })
                .collect(),
        }
    }
}

/// Reads a definition as the lane keeps it.
///
/// # Errors
/// [`Unreadable`].
pub fn definition(text: &str) -> Reading<Arc<SaleDefinition>> {
    let value = serde_json::from_str(text).map_err(|_| Unreadable("a definition"))?;
    SaleDefinition::from_json(&value).map(Arc::new).map_err(|_| Unreadable("a definition"))
}
