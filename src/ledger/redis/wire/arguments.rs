//! What a call asks for.

use governor::Quota;

use super::packer::Packer;
use crate::engine::Command;
use crate::sale::{ItemId, SaleId};

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

/// How often a user may reserve, as `lua/rate.lua` takes it. No more often than the quota says: what is left of a
/// microsecond counts as one.
pub fn rate(quota: &Quota) -> String {
    let period = quota.replenish_interval().as_nanos().div_ceil(1_000);
    format!("{period} {}", quota.burst_size())
}
