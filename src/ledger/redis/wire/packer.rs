//! Writes what the scripts read.

use rmp::encode::{write_array_len, write_bool, write_sint, write_str, write_str_len};

use crate::clock::Millis;
use crate::engine::{Authority, Command};
use crate::sale::{PaymentRef, Reservation, SaleDefinition, Status, UserId};

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

    /// A command that is no plain reservation.
    pub fn command(&mut self, command: &Command) {
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
