//! Reads what the scripts write, field by field.

use rmpv::ValueRef;
use rmpv::decode::read_value_ref;

use super::{Reading, Unreadable};
use crate::clock::Millis;
use crate::sale::{
    ItemId, Line, PaymentRef, Reservation, ReservationId, SaleId, Status, UserId, Window,
};

/// The fields of one array, from the first to the last.
pub struct Fields<'b>(std::vec::IntoIter<ValueRef<'b>>);

impl<'b> Fields<'b> {
    pub fn next(bytes: &mut &'b [u8]) -> Reading<Self> {
        Self::of(read_value_ref(bytes).map_err(|_| Unreadable("MessagePack"))?)
    }

    pub fn of(value: ValueRef<'b>) -> Reading<Self> {
        let ValueRef::Array(fields) = value else { return Err(Unreadable("an array")) };
        Ok(Self(fields.into_iter()))
    }

    /// How many are not read yet.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    pub fn value(&mut self) -> Reading<ValueRef<'b>> {
        self.0.next().ok_or(Unreadable("a field"))
    }

    pub fn fields(&mut self) -> Reading<Self> {
        Self::of(self.value()?)
    }

    pub fn text(&mut self) -> Reading<&'b str> {
        let ValueRef::String(text) = self.value()? else { return Err(Unreadable("a string")) };
        text.into_str().ok_or(Unreadable("UTF-8"))
    }

    pub fn int(&mut self) -> Reading<i64> {
        let ValueRef::Integer(number) = self.value()? else { return Err(Unreadable("a number")) };
        number.as_i64().ok_or(Unreadable("a number in range"))
    }

    pub fn uint(&mut self) -> Reading<u64> {
        u64::try_from(self.int()?).map_err(|_| Unreadable("a number of at least 0"))
    }

    pub fn small(&mut self) -> Reading<u32> {
        u32::try_from(self.int()?).map_err(|_| Unreadable("a number in range"))
    }

    pub fn millis(&mut self) -> Reading<Millis> {
        self.uint().map(Millis)
    }

    pub fn instant(&mut self) -> Reading<Option<Millis>> {
        Ok(u64::try_from(self.int()?).ok().map(Millis))
    }

    pub fn flag(&mut self) -> Reading<bool> {
        let ValueRef::Boolean(flag) = self.value()? else {
            return Err(Unreadable("true or false"));
        };
        Ok(flag)
    }

    pub fn id(&mut self) -> Reading<ReservationId> {
        let ValueRef::String(text) = self.value()? else { return Err(Unreadable("an id")) };
        let bytes = text.as_bytes().try_into().map_err(|_| Unreadable("an id of 16 bytes"))?;
        Ok(ReservationId::from_bytes(bytes))
    }

    /// Ids in a row.
    pub fn ids(&mut self) -> Reading<Vec<ReservationId>> {
        let ValueRef::String(text) = self.value()? else { return Err(Unreadable("ids")) };
        let (ids, rest) = text.as_bytes().as_chunks();
        if !rest.is_empty() {
            return Err(Unreadable("ids of 16 bytes"));
        }
        Ok(ids.iter().map(|id| ReservationId::from_bytes(*id)).collect())
    }

    pub fn sale(&mut self) -> Reading<SaleId> {
        SaleId::parse(self.text()?).map_err(|_| Unreadable("a sale"))
    }

    pub fn item(&mut self) -> Reading<ItemId> {
        ItemId::parse(self.text()?).map_err(|_| Unreadable("an item"))
    }

    pub fn user(&mut self) -> Reading<UserId> {
        UserId::parse(self.text()?).map_err(|_| Unreadable("a user"))
    }

    pub fn payment(&mut self) -> Reading<PaymentRef> {
        PaymentRef::parse(self.text()?).map_err(|_| Unreadable("a payment"))
    }

    pub fn window(&mut self) -> Reading<Window> {
        let (opens_at, closes_at) = (self.instant()?, self.instant()?);
        Ok(Window { opens_at, closes_at, paused: self.flag()? })
    }

    pub fn lines(&mut self) -> Reading<Box<[Line]>> {
        let mut fields = self.fields()?;
        let mut lines = Vec::with_capacity(fields.left() / 3);
        while fields.left() > 0 {
            let (item, quantity) = (fields.item()?, fields.small()?);
            lines.push(Line { item, quantity, unit_price: fields.uint()? });
        }
        Ok(lines.into())
    }

    pub fn record(&mut self, id: ReservationId) -> Reading<Reservation> {
        let mut fields = self.fields()?;
        let (sale, user) = (fields.sale()?, fields.user()?);
        fields.rest_of_record(id, sale, user)
    }

    pub fn rest_of_record(
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
        let mut late_payments = Vec::with_capacity(late.left());
        while late.left() > 0 {
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
}

/// Of which sale a record is.
///
/// # Errors
/// [`Unreadable`].
pub fn sale_of_record(mut bytes: &[u8]) -> Reading<SaleId> {
    Fields::next(&mut bytes)?.sale()
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
