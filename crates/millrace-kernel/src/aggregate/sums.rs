//! `sum`, `mean`, `variance` and `stddev`: exact sums with the number of rows behind them.

use millrace_types::codec::{Reader, put_varint};
use millrace_types::{DecodeError, FeatureValue, Status, ValueRef};
use num_bigint::{BigInt, BigUint, Sign};

use super::exact::{Exact, ExactSquares, ExactSum, parts};
use super::magnitude::{Magnitude, round};
use super::mantissa::{Int128, Mantissa};

/// More rows than anybody folds, few enough that adding up decoded counts overflows nothing.
const ROWS_MAX: u64 = 1 << 53;

/// Rows and their sum as an integer: `2^64` rows of 64 bits cannot overflow 128.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct IntSum {
    rows: u64,
    sum: Int128,
}

impl IntSum {
    pub(super) const EMPTY: Self = Self { rows: 0, sum: Int128::ZERO };

    #[inline]
    pub(super) fn fold(&mut self, value: i64) {
        self.rows = self.rows.saturating_add(1);
        self.sum = Int128::from_i128(self.sum.get().wrapping_add(i128::from(value)));
    }

    /// Takes away what [`IntSum::fold`] added.
    #[inline]
    pub(super) fn unfold(&mut self, value: i64) {
        self.rows = self.rows.saturating_sub(1);
        self.sum = Int128::from_i128(self.sum.get().wrapping_sub(i128::from(value)));
    }

    #[inline]
    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.sum = Int128::from_i128(self.sum.get().wrapping_add(other.sum.get()));
    }

    /// The sum, if it is an int64.
    pub(super) fn sum(&self) -> (FeatureValue, Status) {
        owned(int_sum(self.rows, self.sum.get()))
    }

    /// The sum rounded once to double, divided by the count.
    pub(super) fn mean(&self) -> (FeatureValue, Status) {
        owned(int_mean(self.rows, self.sum.get()))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.rows);
        put_wide(out, self.sum.get());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { rows: read_rows(reader)?, sum: Int128::from_i128(read_wide(reader)?) })
    }
}

/// Rows and their sum as doubles.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DoubleSum {
    rows: u64,
    sum: ExactSum,
}

impl DoubleSum {
    pub(super) const EMPTY: Self = Self { rows: 0, sum: Exact::ZERO };

    #[inline]
    pub(super) fn fold(&mut self, value: f64) {
        let (negative, integer, exponent) = parts(value);
        self.rows = self.rows.saturating_add(1);
        self.sum.add_term(negative, u128::from(integer), exponent);
    }

    /// Takes away what [`DoubleSum::fold`] added.
    #[inline]
    pub(super) fn unfold(&mut self, value: f64) {
        let (negative, integer, exponent) = parts(value);
        self.rows = self.rows.saturating_sub(1);
        self.sum.add_term(!negative, u128::from(integer), exponent);
    }

    #[inline]
    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.sum.merge(&other.sum);
    }

    /// The sum rounded once.
    pub(super) fn sum(&self) -> (FeatureValue, Status) {
        if self.rows == 0 {
            return (FeatureValue::NULL, Status::Null);
        }
        finite(self.sum.to_double())
    }

    /// The sum rounded once, divided by the count.
    pub(super) fn mean(&self) -> (FeatureValue, Status) {
        quotient(self.sum.to_double(), self.rows)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.rows);
        if self.rows != 0 {
            self.sum.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rows = read_rows(reader)?;
        let sum = if rows == 0 { Exact::ZERO } else { Exact::decode(reader)? };
        Ok(Self { rows, sum })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.sum.heap_bytes()
    }
}

/// Rows, their sum and the sum of their squares, of integers or of doubles.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    rows: u64,
    sum: ExactSum,
    squares: ExactSquares,
}

impl Moments {
    pub(super) const EMPTY: Self = Self { rows: 0, sum: Exact::ZERO, squares: Exact::ZERO };

    /// Folds an int64 or a double; false when `value` is neither.
    #[inline]
    pub(super) fn fold(&mut self, value: ValueRef<'_>) -> bool {
        let Some((negative, integer, exponent)) = number(value) else { return false };
        self.rows = self.rows.saturating_add(1);
        self.sum.add_term(negative, integer, exponent);
        // 64 bits squared: below 2^127, since |int64| ≤ 2^63.
        self.squares.add_term(false, integer * integer, 2 * exponent);
        true
    }

    /// Takes away what [`Moments::fold`] added; false when `value` is neither.
    #[inline]
    pub(super) fn unfold(&mut self, value: ValueRef<'_>) -> bool {
        let Some((negative, integer, exponent)) = number(value) else { return false };
        self.rows = self.rows.saturating_sub(1);
        self.sum.add_term(!negative, integer, exponent);
        self.squares.add_term(true, integer * integer, 2 * exponent);
        true
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// The sample variance, rounded once.
    pub(super) fn variance(&self) -> (FeatureValue, Status) {
        if self.rows < 2 {
            return (FeatureValue::NULL, Status::Null);
        }
        finite(self.rounded_variance())
    }

    /// The square root of the double that is the variance.
    pub(super) fn stddev(&self) -> (FeatureValue, Status) {
        if self.rows < 2 {
            return (FeatureValue::NULL, Status::Null);
        }
        finite(self.rounded_variance().sqrt())
    }

    /// `(n·Σx² − (Σx)²) / (n·(n − 1))`, which is the definition without an inner fraction, as the
    /// nearest double, ties to even.
    fn rounded_variance(&self) -> f64 {
        let rows = BigInt::from(self.rows);
        let (sum, sum_exponent) = self.sum.read(to_big);
        let (squares, squares_exponent) = self.squares.read(to_big);
        let mut exponent = squares_exponent.min(2 * sum_exponent);
        let left = (&rows * squares) << (squares_exponent - exponent) as u32;
        let right = (&sum * &sum) << (2 * sum_exponent - exponent) as u32;
        // Never negative (Cauchy and Schwarz), whatever damaged bytes may claim.
        let mut dividend = (left - right).to_biguint().unwrap_or_default();
        let divisor = BigUint::from(u128::from(self.rows) * u128::from(self.rows - 1));
        // Enough bits that the quotient has more than 64: what the division leaves over then only
        // says whether the quotient is exact.
        let lacking = (divisor.bits() + 65).saturating_sub(dividend.bits());
        dividend <<= lacking;
        exponent -= lacking as i32;
        let quotient = &dividend / &divisor;
        let over = &quotient * &divisor != dividend;
        let drop = quotient.bits().saturating_sub(128);
        let more = over || quotient.trailing_zeros().is_some_and(|zeros| zeros < drop);
        let top = u128::try_from(quotient >> drop).expect("128 bits are left");
        round(top, exponent + drop as i32, more)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.rows);
        if self.rows != 0 {
            self.sum.encode(out);
            self.squares.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rows = read_rows(reader)?;
        if rows == 0 {
            return Ok(Self::EMPTY);
        }
        Ok(Self { rows, sum: Exact::decode(reader)?, squares: Exact::decode(reader)? })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.sum.heap_bytes() + self.squares.heap_bytes()
    }
}

/// A number as sign, magnitude and exponent; `None` for what is none.
#[inline]
fn number(value: ValueRef<'_>) -> Option<(bool, u128, i32)> {
    let (negative, integer, exponent) = match value {
        ValueRef::Int64(v) => (v < 0, v.unsigned_abs(), 0),
        ValueRef::Double(v) => parts(v),
        ValueRef::Null
        | ValueRef::Bool(_)
        | ValueRef::String(_)
        | ValueRef::Bytes(_)
        | ValueRef::Timestamp(_) => return None,
    };
    Some((negative, u128::from(integer), exponent))
}

/// Reads a number of rows.
pub(super) fn read_rows(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let rows = reader.varint("rows of a partial")?;
    if rows > ROWS_MAX {
        return Err(DecodeError::Invalid { what: "rows of a partial", found: rows });
    }
    Ok(rows)
}

/// Appends an integer zigzag-coded as LEB128, as `put_signed` does, of up to 128 bits.
fn put_wide(out: &mut Vec<u8>, value: i128) {
    let mut left = ((value << 1) ^ (value >> 127)) as u128;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Reads what [`put_wide`] wrote. No sum of [`ROWS_MAX`] rows reaches 126 bits.
fn read_wide(reader: &mut Reader<'_>) -> Result<i128, DecodeError> {
    let mut raw = 0u128;
    for shift in (0..126).step_by(7) {
        let byte = reader.u8("integer sum")?;
        raw |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((raw >> 1) as i128 ^ -((raw & 1) as i128));
        }
    }
    Err(DecodeError::Invalid { what: "integer sum", found: raw as u64 })
}

fn to_big(number: Magnitude<'_>) -> (BigInt, i32) {
    let digits = number.words.iter().flat_map(|&word| [word as u32, (word >> 32) as u32]).collect();
    let sign = if number.negative { Sign::Minus } else { Sign::Plus };
    (BigInt::from_biguint(sign, BigUint::new(digits)), number.exponent)
}

/// The sum of so many rows, if it is an int64.
#[inline]
pub(crate) fn int_sum(rows: u64, sum: i128) -> (ValueRef<'static>, Status) {
    if rows == 0 {
        return (ValueRef::Null, Status::Null);
    }
    match i64::try_from(sum) {
        Ok(sum) => (ValueRef::Int64(sum), Status::Present),
        Err(_) => (ValueRef::Null, Status::Overflow),
    }
}

/// The sum of so many rows rounded once to double, divided by the count.
#[inline]
pub(crate) fn int_mean(rows: u64, sum: i128) -> (ValueRef<'static>, Status) {
    // This conversion rounds to nearest, ties to even, and 128 bits are far from overflow.
    quotient_of(sum as f64, rows)
}

fn finite_double(value: f64) -> (ValueRef<'static>, Status) {
    if value.is_finite() {
        (ValueRef::Double(value), Status::Present)
    } else {
        (ValueRef::Null, Status::Overflow)
    }
}

fn quotient_of(sum: f64, rows: u64) -> (ValueRef<'static>, Status) {
    if rows == 0 {
        return (ValueRef::Null, Status::Null);
    }
    finite_double(sum / rows as f64)
}

fn finite(value: f64) -> (FeatureValue, Status) {
    owned(finite_double(value))
}

fn quotient(sum: f64, rows: u64) -> (FeatureValue, Status) {
    owned(quotient_of(sum, rows))
}

pub(super) fn owned((value, status): (ValueRef<'_>, Status)) -> (FeatureValue, Status) {
    (FeatureValue::Scalar(value.to_value()), status)
}
