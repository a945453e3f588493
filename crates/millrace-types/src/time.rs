//! Instants of event time: whole microseconds since the Unix epoch, UTC.

use std::fmt;

use thiserror::Error;

/// An instant: microseconds since 1970-01-01T00:00:00Z. Negative before it. Holds event time (`at`),
/// window bounds and watermarks; the log's own clock is [`KnownAt`](crate::KnownAt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i64);

/// A text that is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InstantError {
    /// Not RFC 3339, or without an offset.
    #[error("{0:?} is not an RFC 3339 instant with an offset or Z, such as 2026-03-01T12:00:00Z")]
    NotRfc3339(String),
    /// Outside what 64-bit microseconds or the calendar (years −9999 to 9999) hold.
    #[error("{0:?} is outside the range of instants")]
    OutOfRange(String),
}

impl Micros {
    /// The earliest instant; as a horizon it means "everything is at hand".
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant.
    pub const MAX: Self = Self(i64::MAX);

    /// Rounds down to a multiple of `hop_us` since the epoch, also before it.
    /// `hop_us` must be positive; saturates at the earliest instant.
    #[inline]
    #[must_use]
    pub fn floor(self, hop_us: i64) -> Self {
        debug_assert!(hop_us > 0, "a hop is positive");
        Self(self.0.saturating_sub(self.0.rem_euclid(hop_us)))
    }

    /// `self − span_us`, saturating.
    #[inline]
    #[must_use]
    pub fn minus(self, span_us: i64) -> Self {
        Self(self.0.saturating_sub(span_us))
    }

    /// `self + span_us`, saturating.
    #[inline]
    #[must_use]
    pub fn plus(self, span_us: i64) -> Self {
        Self(self.0.saturating_add(span_us))
    }

    /// Parses RFC 3339 with an offset or `Z`; digits finer than a microsecond are cut off (towards
    /// the past, also before the epoch).
    ///
    /// # Errors
    /// [`InstantError::NotRfc3339`] when it is not such a text, [`InstantError::OutOfRange`] when
    /// the calendar does not reach it.
    pub fn parse_rfc3339(text: &str) -> Result<Self, InstantError> {
        let looks = text.len() >= 20
            && text.as_bytes()[4] == b'-'
            && matches!(text.as_bytes()[10], b'T' | b't' | b' ')
            && !text.ends_with(']');
        if !looks {
            return Err(InstantError::NotRfc3339(text.to_owned()));
        }
        let instant: jiff::Timestamp =
            text.parse().map_err(|_| InstantError::NotRfc3339(text.to_owned()))?;
        let micros = instant.as_nanosecond().div_euclid(1_000);
        i64::try_from(micros).map(Self).map_err(|_| InstantError::OutOfRange(text.to_owned()))
    }

    /// As RFC 3339 in UTC with as many digits as needed, up to microseconds. Instants outside the
    /// calendar's years −9999 to 9999 are written as the bare number of microseconds.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => instant.to_string(),
            Err(_) => self.0.to_string(),
        }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_reads_and_writes() {
        let check = |text: &str, us: i64, back: &str| {
            let parsed = Micros::parse_rfc3339(text).unwrap();
            assert_eq!(parsed, Micros(us), "{text}");
            assert_eq!(parsed.to_rfc3339(), back);
        };
        check("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
        check("1970-01-01T01:00:00.5+01:00", 500_000, "1970-01-01T00:00:00.5Z");
        check("1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z");
        check("1969-12-31T23:59:59.9999999Z", -1, "1969-12-31T23:59:59.999999Z");
        check("2026-03-01T12:00:00.1234567Z", 1_772_366_400_123_456, "2026-03-01T12:00:00.123456Z");
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in
            ["", "2026-03-01", "2026-03-01T12:00:00", "now", "2026-03-01T12:00:00[UTC]", "123"]
        {
            assert!(Micros::parse_rfc3339(text).is_err(), "{text}");
        }
    }

    #[test]
    fn floor_rounds_down_on_both_sides_of_the_epoch() {
        assert_eq!(Micros(7).floor(5), Micros(5));
        assert_eq!(Micros(-1).floor(5), Micros(-5));
        assert_eq!(Micros(-5).floor(5), Micros(-5));
        assert_eq!(Micros::MIN.floor(1_000_000), Micros::MIN);
    }
}
