//! Instants: `google.protobuf.Timestamp` in nanoseconds, ours in whole microseconds.

use millrace_types::{KnownAt, Micros};
use prost_types::Timestamp;

use super::error::{ConvertError, Rule};

const MICROS_PER_SECOND: i64 = 1_000_000;
const NANOS_PER_MICRO: i32 = 1_000;

/// An instant as the wire writes it.
#[inline]
#[must_use]
pub fn to_timestamp(instant: Micros) -> Timestamp {
    let micros = instant.0.rem_euclid(MICROS_PER_SECOND) as i32; // below a million
    Timestamp { seconds: instant.0.div_euclid(MICROS_PER_SECOND), nanos: micros * NANOS_PER_MICRO }
}

/// The log's clock as the wire writes it.
#[inline]
#[must_use]
pub fn known_at_timestamp(known_at: KnownAt) -> Timestamp {
    to_timestamp(Micros(known_at.0))
}

/// Reads an instant. Digits finer than a microsecond are cut off, towards the past.
///
/// # Errors
/// [`Rule::Nanos`] for nanos below 0 or of a second and more, [`Rule::InstantRange`] when 64-bit
/// microseconds do not hold it.
#[inline]
pub fn from_timestamp(timestamp: &Timestamp) -> Result<Micros, ConvertError> {
    if !(0..1_000_000_000).contains(&timestamp.nanos) {
        return Err(ConvertError::new(Rule::Nanos(timestamp.nanos)));
    }
    // The fraction counts upwards also before the epoch, so cutting it off goes towards the past.
    let fraction = i128::from(timestamp.nanos / NANOS_PER_MICRO);
    let micros = i128::from(timestamp.seconds) * i128::from(MICROS_PER_SECOND) + fraction;
    i64::try_from(micros).map(Micros).map_err(|_| ConvertError::new(Rule::InstantRange))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finer_digits_are_cut_off_towards_the_past() {
        let read = |seconds, nanos| from_timestamp(&Timestamp { seconds, nanos }).unwrap();
        assert_eq!(read(0, 1_999), Micros(1));
        assert_eq!(read(-1, 999_999_999), Micros(-1));
        assert_eq!(read(-1, 1), Micros(-1_000_000));
    }

    #[test]
    fn what_is_no_instant_names_its_rule() {
        let rule = |seconds, nanos| {
            from_timestamp(&Timestamp { seconds, nanos }).unwrap_err().rule().clone()
        };
        assert_eq!(rule(0, -1), Rule::Nanos(-1));
        assert_eq!(rule(0, 1_000_000_000), Rule::Nanos(1_000_000_000));
        assert_eq!(rule(i64::MAX, 0), Rule::InstantRange);
        assert_eq!(rule(i64::MIN, 0), Rule::InstantRange);
    }

    proptest! {
        #[test]
        fn every_instant_comes_back(micros: i64) {
            prop_assert_eq!(from_timestamp(&to_timestamp(Micros(micros))), Ok(Micros(micros)));
        }
    }

    #[test]
    fn the_ends_of_the_range_come_back() {
        for instant in [Micros::MIN, Micros::MAX] {
            assert_eq!(from_timestamp(&to_timestamp(instant)), Ok(instant));
        }
    }
}
