//! Durations as the catalog writes them: a whole number and a unit.

use crate::limits::DURATION_US_MAX;

/// The units, from the smallest, with their microseconds.
const UNITS: [(&str, i64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// What is wrong with a duration's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurationError {
    /// A number alone.
    NoUnit,
    /// Not a whole number followed by a unit.
    Malformed,
    /// Above [`DURATION_US_MAX`].
    TooLong,
}

/// Reads e.g. `24h`, in microseconds.
pub(crate) fn parse(text: &str) -> Result<i64, DurationError> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    if digits.is_empty() {
        return Err(DurationError::Malformed);
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(DurationError::Malformed);
    };
    let count: i64 = digits.parse().map_err(|_| DurationError::TooLong)?;
    let us = count.checked_mul(*factor).ok_or(DurationError::TooLong)?;
    if us > DURATION_US_MAX { Err(DurationError::TooLong) } else { Ok(us) }
}

/// Writes a duration with the greatest unit that leaves a whole number.
pub(crate) fn print(us: i64) -> String {
    let (unit, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| us != 0 && us % factor == 0)
        .copied()
        .unwrap_or(("s", 1_000_000));
    format!("{}{unit}", us / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, us, back) in [
            ("0s", 0, "0s"),
            ("7us", 7, "7us"),
            ("1500ms", 1_500_000, "1500ms"),
            ("90s", 90_000_000, "90s"),
            ("60m", 3_600_000_000, "1h"),
            ("24h", 86_400_000_000, "1d"),
            ("30d", 2_592_000_000_000, "30d"),
        ] {
            assert_eq!(parse(text), Ok(us), "{text}");
            assert_eq!(print(us), back);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "h", "-1h", "1.5h", "1 h", "1h30m", "1w", "1H"] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text}");
        }
        assert_eq!(parse("60"), Err(DurationError::NoUnit));
        assert_eq!(parse("36526d"), Err(DurationError::TooLong));
        assert_eq!(parse("99999999999999999999s"), Err(DurationError::TooLong));
    }
}
