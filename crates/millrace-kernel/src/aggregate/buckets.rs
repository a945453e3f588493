//! `approx_percentile`: counts by bucket of the doubles' bits.
//!
//! **Buckets.** 0 is a bucket of its own. All other doubles share one exactly when sign, exponent
//! field (11 bits) and the top 6 bits of the mantissa are equal, that is the top 18 bits of their
//! IEEE 754 form. An int64 is converted to the nearest double (ties to even) first. Subnormal
//! numbers (exponent field 0) fall into 64 buckets of equal width by the same rule.
//!
//! **Rank.** With n rows, `r = ⌈p·n⌉`, where n is converted to double and the product is rounded
//! to double; the answer is the midpoint of the bucket that holds the r-th row in ascending order of
//! buckets (negative ones from the greatest magnitude down).
//!
//! **Midpoint.** The arithmetic mean of the bucket's lower and upper edge, the upper one being where
//! the next bucket begins. It is always a double, so nothing is rounded: the one whose top 18 bits
//! are the bucket's, whose next bit is 1 and whose other 45 bits are 0. This holds for the 64
//! buckets of subnormals (the least of them lies between 0 and `2^-1028`, its midpoint is
//! `2^-1029`), for negative buckets (the midpoint mirrored) and for the topmost bucket, whose upper
//! edge `2^1024` is no double: its midpoint is `2^1023 · (1 + 127/128)`. The midpoint of 0 is 0.

use millrace_types::DecodeError;
use millrace_types::codec::{Reader, put_signed, put_varint};

use super::sorted;
use super::sums::read_rows;

/// The low bits of a double that do not tell its bucket.
const LOW_BITS: u32 = 46;
/// One more than the greatest magnitude's number: exponent field 2046, mantissa bits 63.
const NUMBERS: i32 = (2047 << 6) + 1;

/// The rows of each bucket that has any, in ascending order of the bucket's number: 0 for 0, the
/// top 17 bits of the magnitude plus 1 for positive doubles, the negative of that for negative ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Buckets(Vec<(i32, u64)>);

impl Buckets {
    pub(super) const EMPTY: Self = Self(Vec::new());

    #[inline]
    pub(super) fn fold(&mut self, value: f64) {
        let number = number(value);
        match self.0.binary_search_by_key(&number, |&(number, _)| number) {
            Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(1),
            Err(place) => self.0.insert(place, (number, 1)),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        sorted::merge(&mut self.0, &other.0, &0, i32::cmp);
    }

    /// The midpoint of the bucket that holds rank `⌈p·n⌉`; `None` without rows.
    pub(super) fn percentile(&self, p: f64) -> Option<f64> {
        let rows = self.0.iter().fold(0u64, |sum, (_, rows)| sum.saturating_add(*rows));
        let rank = ((p * rows as f64).ceil() as u64).clamp(1, rows.max(1));
        let mut seen = 0u64;
        self.0
            .iter()
            .find(|(_, rows)| {
                seen = seen.saturating_add(*rows);
                seen >= rank
            })
            .map(|&(number, _)| midpoint(number))
    }

    /// Appends the number of buckets, then each as its distance from the one before (the first from
    /// 0, zigzag) and its rows.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        let mut before = None;
        for &(number, rows) in &self.0 {
            match before {
                None => put_signed(out, i64::from(number)),
                Some(before) => put_varint(out, u64::from(number.abs_diff(before))),
            }
            before = Some(number);
            put_varint(out, rows);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("buckets")?;
        // A bucket takes two bytes or more, so this reserves no more than eight times what is there.
        let mut buckets: Vec<(i32, u64)> = Vec::with_capacity(count.min(reader.rest().len() / 2));
        for _ in 0..count {
            let number = match buckets.last() {
                None => reader.signed("bucket")?,
                Some(&(before, _)) => match reader.u32("distance of a bucket")? {
                    0 => return Err(DecodeError::Invalid { what: "bucket", found: 0 }),
                    step => i64::from(before) + i64::from(step),
                },
            };
            let rows = read_rows(reader)?;
            let number = i32::try_from(number).ok().filter(|n| n.abs() < NUMBERS && rows > 0);
            let invalid = DecodeError::Invalid { what: "bucket", found: rows };
            buckets.push((number.ok_or(invalid)?, rows));
        }
        Ok(Self(buckets))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(i32, u64)>()
    }
}

#[inline]
fn number(value: f64) -> i32 {
    if value == 0.0 {
        return 0;
    }
    let magnitude = (value.abs().to_bits() >> LOW_BITS) as i32 + 1;
    if value < 0.0 { -magnitude } else { magnitude }
}

fn midpoint(number: i32) -> f64 {
    if number == 0 {
        return 0.0;
    }
    let top = u64::from(number.unsigned_abs()) - 1;
    let magnitude = f64::from_bits((top << LOW_BITS) | 1 << (LOW_BITS - 1));
    if number < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_holds_its_midpoint_and_no_number_is_left_over() {
        for bucket in 1 - NUMBERS..NUMBERS {
            let midpoint = midpoint(bucket);
            assert!(midpoint.is_finite());
            assert_eq!(number(midpoint), bucket);
        }
        assert_eq!(number(f64::MAX), NUMBERS - 1);
        assert_eq!(number(-f64::MAX), 1 - NUMBERS);
        assert_eq!(number(f64::from_bits(1)), 1);
    }

    #[test]
    fn midpoints_at_the_ends_are_as_documented() {
        assert_eq!(midpoint(1), 2f64.powi(-1029));
        assert_eq!(midpoint(NUMBERS - 1), 2f64.powi(1023) * (1.0 + 127.0 / 128.0));
        assert_eq!(midpoint(number(-1.0)), -(1.0 + 1.0 / 128.0));
        assert_eq!(midpoint(0).to_bits(), 0);
    }
}
