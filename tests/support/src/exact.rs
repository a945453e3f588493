//! Exact real numbers, and the one rounding from them to a double.

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{Signed, ToPrimitive, Zero};

/// An exact real number: a fraction of integers of any size.
pub type Exact = Ratio<BigInt>;

/// A finite double as `mantissa · 2^exponent`, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaled {
    /// Signed, below 2^63 in magnitude.
    pub mantissa: i64,
    /// −1074 or more for a double, 0 for an integer.
    pub exponent: i32,
}

impl Scaled {
    /// The parts of a finite double.
    #[must_use]
    pub fn of_double(value: f64) -> Self {
        let bits = value.to_bits();
        let field = ((bits >> 52) & 0x7ff) as i32;
        let fraction = (bits & ((1 << 52) - 1)) as i64;
        // Subnormals (field 0) have no hidden bit and the exponent of field 1.
        let (magnitude, exponent) =
            if field == 0 { (fraction, -1074) } else { (fraction | (1 << 52), field - 1075) };
        Self { mantissa: if bits >> 63 == 1 { -magnitude } else { magnitude }, exponent }
    }

    /// An integer.
    #[must_use]
    pub fn of_int(value: i64) -> Self {
        Self { mantissa: value, exponent: 0 }
    }
}

/// `2^exponent`.
#[must_use]
pub fn power_of_two(exponent: i32) -> Exact {
    let power = BigInt::from(1) << exponent.unsigned_abs();
    if exponent >= 0 { Exact::from_integer(power) } else { Exact::new_raw(BigInt::from(1), power) }
}

/// The exact value of a finite double.
#[must_use]
pub fn of_double(value: f64) -> Exact {
    let Scaled { mantissa, exponent } = Scaled::of_double(value);
    Exact::from_integer(BigInt::from(mantissa)) * power_of_two(exponent)
}

/// The exact value of an integer.
#[must_use]
pub fn of_int(value: i64) -> Exact {
    Exact::from_integer(BigInt::from(value))
}

/// The exact sum of `x` and the exact sum of `x²` over all values. Works on integers of one common
/// scale, because adding fractions one by one would take a greatest common divisor each time.
#[must_use]
pub fn sums(values: &[Scaled]) -> (Exact, Exact) {
    let scale = values.iter().map(|v| v.exponent).min().unwrap_or(0);
    let (mut sum, mut squares) = (BigInt::from(0), BigInt::from(0));
    for value in values {
        let integer = BigInt::from(value.mantissa) << (value.exponent - scale).unsigned_abs();
        squares += &integer * &integer;
        sum += integer;
    }
    (
        Exact::from_integer(sum) * power_of_two(scale),
        Exact::from_integer(squares) * power_of_two(2 * scale),
    )
}

/// Rounds to the nearest double, ties to the even one; zero is +0.0. `None` when the result is not
/// finite.
#[must_use]
pub fn round_to_double(value: &Exact) -> Option<f64> {
    if value.is_zero() {
        return Some(0.0);
    }
    let (numerator, denominator) = (value.numer().abs(), value.denom());
    // The weight 2^exponent of the last mantissa bit. A first guess from the bit lengths leaves a
    // quotient in (2^52, 2^54); at −1074 doubles become subnormal and the quotient may be small.
    let lengths = i64::try_from(numerator.bits()).ok()? - i64::try_from(denominator.bits()).ok()?;
    let mut exponent = (lengths - 53).max(-1074);
    let quotient = |exponent: i64| {
        let (mut n, mut d) = (numerator.clone(), denominator.clone());
        if exponent >= 0 {
            d <<= exponent.unsigned_abs();
        } else {
            n <<= exponent.unsigned_abs();
        }
        let whole = &n / &d;
        let twice_rest: BigInt = (n - &whole * &d) * 2;
        (whole, twice_rest.cmp(&d))
    };
    let (mut whole, mut rest) = quotient(exponent);
    if whole.bits() > 53 {
        exponent += 1;
        (whole, rest) = quotient(exponent);
    }
    let mut mantissa = whole.to_u64()?;
    if rest.is_gt() || (rest.is_eq() && mantissa % 2 == 1) {
        mantissa += 1;
    }
    // Rounding up may reach 2^53: that is the same number with the next exponent.
    if mantissa == 1 << 53 {
        mantissa = 1 << 52;
        exponent += 1;
    }
    if exponent > 1023 - 52 {
        return None;
    }
    let bits = if mantissa < 1 << 52 {
        mantissa
    } else {
        ((exponent + 1075).unsigned_abs() << 52) | (mantissa - (1 << 52))
    };
    let magnitude = f64::from_bits(bits);
    Some(if value.is_negative() { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fraction(n: i64, d: i64) -> Exact {
        Exact::new(BigInt::from(n), BigInt::from(d))
    }

    #[test]
    fn rounds_ties_to_even_and_knows_the_edges() {
        let round = |e: &Exact| round_to_double(e);
        assert_eq!(round(&fraction(1, 10)), Some(0.1));
        assert_eq!(round(&fraction(-1, 3)), Some(-1.0 / 3.0));
        let big = of_int(1 << 53);
        assert_eq!(round(&(&big + of_int(1))), Some(9_007_199_254_740_992.0));
        assert_eq!(round(&(&big + of_int(3))), Some(9_007_199_254_740_996.0));
        // Just below 2^53 a tie carries into the next exponent.
        assert_eq!(round(&(&big - fraction(1, 2))), Some(9_007_199_254_740_992.0));
        // Half of the least subnormal is a tie that goes to zero; a little more does not.
        let least = power_of_two(-1074);
        assert_eq!(round(&(&least / of_int(2))).map(f64::to_bits), Some(0));
        assert_eq!(round(&(&least * fraction(51, 100))), Some(5e-324));
        // The greatest double, and where rounding starts to leave the finite ones.
        let max = of_double(f64::MAX);
        let tie = power_of_two(970);
        assert_eq!(round(&max), Some(f64::MAX));
        assert_eq!(round(&(&max + &tie - &least)), Some(f64::MAX));
        assert_eq!(round(&(&max + &tie)), None);
        assert_eq!(round(&-(&max + &tie)), None);
    }

    #[test]
    fn sums_cancel_exactly() {
        let values = [1e308, 1.0, -1e308, 5e-324].map(Scaled::of_double);
        let (sum, squares) = sums(&values);
        assert_eq!(sum, of_int(1) + power_of_two(-1074));
        let by_hand = values.iter().fold(of_int(0), |all, v| {
            let x = of_int(v.mantissa) * power_of_two(v.exponent);
            all + &x * &x
        });
        assert_eq!(squares, by_hand);
    }

    proptest! {
        #[test]
        fn every_double_rounds_to_itself(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                prop_assert_eq!(round_to_double(&of_double(value)), Some(value));
            }
        }

        #[test]
        fn quotients_of_doubles_round_as_the_processor_divides(a: u64, b: u64) {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            if a.is_finite() && b.is_finite() && b != 0.0 {
                let expected = a / b;
                let found = round_to_double(&(of_double(a) / of_double(b)));
                prop_assert_eq!(found, expected.is_finite().then_some(expected));
            }
        }

        #[test]
        fn sums_of_two_round_as_the_processor_adds(a: u64, b: u64) {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            if a.is_finite() && b.is_finite() {
                let expected = a + b;
                let (sum, _) = sums(&[Scaled::of_double(a), Scaled::of_double(b)]);
                prop_assert_eq!(round_to_double(&sum), expected.is_finite().then_some(expected));
            }
        }
    }
}
