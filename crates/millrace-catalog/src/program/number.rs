//! Arithmetic and comparison of numbers: `None` is U.

use std::cmp::Ordering;

use millrace_types::value::canonical_double;

/// 2^63: the least double above every int64. Exact.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

/// The operators on two numbers of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// int64 only.
    Remainder,
}

impl Arithmetic {
    /// On int64: overflow and division by zero are U; `/` and `%` truncate.
    #[inline]
    pub(super) fn int(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b),
            // `i64::MIN % -1` is an overflow too, as in every implementation of CEL: the quotient
            // that the remainder belongs to does not fit.
            Self::Remainder => a.checked_rem(b),
        }
    }

    /// On doubles: what is not finite is U, −0.0 becomes 0.0.
    #[inline]
    pub(super) fn double(self, a: f64, b: f64) -> Option<f64> {
        canonical_double(match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Remainder => return None,
        })
    }
}

/// Compares as exact reals: converting the integer would round it beyond 2^53. `b` is finite.
#[inline]
pub(super) fn compare_exact(a: i64, b: f64) -> Ordering {
    if b >= TWO_63 {
        return Ordering::Less;
    }
    if b < -TWO_63 {
        return Ordering::Greater;
    }
    // Exact: the whole part of a double in this range is an int64.
    let whole = b as i64;
    let rest = b - b.trunc();
    a.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&rest).unwrap_or(Ordering::Equal))
}

/// The double that equals `a`, if there is one.
pub(super) fn exact_double(a: i64) -> Option<f64> {
    let b = a as f64;
    (compare_exact(a, b) == Ordering::Equal).then_some(b)
}

/// The int64 that equals `b`, if there is one. `b` is finite.
pub(super) fn exact_int(b: f64) -> Option<i64> {
    let a = b as i64;
    (compare_exact(a, b) == Ordering::Equal).then_some(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_doubles_compare_as_reals() {
        let two_53 = 9_007_199_254_740_992_i64;
        for (a, b, order) in [
            (1, 1.0, Ordering::Equal),
            (1, 1.5, Ordering::Less),
            (-1, -1.5, Ordering::Greater),
            (0, -0.5, Ordering::Greater),
            (two_53 + 1, two_53 as f64, Ordering::Greater),
            (i64::MAX, TWO_63, Ordering::Less),
            (i64::MIN, -TWO_63, Ordering::Equal),
            (i64::MIN, -1e300, Ordering::Greater),
            (0, f64::from_bits(1), Ordering::Less),
        ] {
            assert_eq!(compare_exact(a, b), order, "{a} {b}");
        }
        assert_eq!(exact_double(two_53 + 1), None);
        assert_eq!(exact_int(TWO_63), None);
        assert_eq!(exact_int(-TWO_63), Some(i64::MIN));
    }
}
