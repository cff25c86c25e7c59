//! RFC 3339 times in UTC with milliseconds, as the contract writes them, to milliseconds since the
//! epoch. Written here, since the oracle shares no code with the product.

/// Milliseconds since the Unix epoch of `YYYY-MM-DDThh:mm:ss[.fff]Z`; `None` for anything else.
///
/// Digits after the third are refused: the contract promises milliseconds.
#[must_use]
pub fn parse_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes.last() != Some(&b'Z') {
        return None;
    }
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|&(at, mark)| bytes[at] != mark) {
        return None;
    }
    let (year, month, day) = (number(bytes, 0, 4)?, number(bytes, 5, 2)?, number(bytes, 8, 2)?);
    let (hour, minute) = (number(bytes, 11, 2)?, number(bytes, 14, 2)?);
    let second = number(bytes, 17, 2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let millis = fraction_ms(&bytes[19..bytes.len() - 1])?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000 + millis)
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<i64> {
    let digits = bytes.get(at..at + len)?;
    digits
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn fraction_ms(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [] => Some(0),
        [b'.', digits @ ..] if (1..=3).contains(&digits.len()) => {
            let scale = [100, 10, 1][digits.len() - 1];
            Some(number(digits, 0, digits.len())? * scale)
        }
        _ => None,
    }
}

/// Days since the epoch of a date of the Gregorian calendar (Hinnant's algorithm: years begin in
/// March, so that the leap day is the last of its year).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse_ms;

    /// Proves known instants, among them a leap day and the last moment of a year.
    #[test]
    fn reads_instants() {
        assert_eq!(parse_ms("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(parse_ms("2000-02-29T12:34:56.789Z"), Some(951_827_696_789));
        assert_eq!(parse_ms("2025-12-31T23:59:59.999Z"), Some(1_767_225_599_999));
        assert_eq!(parse_ms("2025-12-31T23:59:59Z"), Some(1_767_225_599_000));
        assert_eq!(parse_ms("2025-12-31T23:59:59.5Z"), Some(1_767_225_599_500));
    }

    /// Proves that anything that is not such a time is refused.
    #[test]
    fn refuses_others() {
        for text in [
            "",
            "2025-12-31",
            "2025-12-31T23:59:59.999+00:00",
            "2025-13-01T00:00:00.000Z",
            "2025-12-31 23:59:59.999Z",
            "2025-12-31T23:59:59.9999Z",
            "2025-12-31T24:00:00.000Z",
            "2025-12-31T23:59:5x.000Z",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
