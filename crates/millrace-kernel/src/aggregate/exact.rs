//! Exact sums of terms `± m · 2^e`. Such a sum is a number, not a history: it does not depend on the
//! order or grouping of its terms, and neither do its stored form and its rounding.
//!
//! Terms of near exponents, the rule in practice, are summed in one integer times a power of two
//! (a few nanoseconds); a sum that outgrows it goes on in [`Limbs`]. The crate `xsum` is as fast, but
//! takes 600 bytes a sum and can be neither merged nor stored.

use millrace_types::DecodeError;
use millrace_types::codec::Reader;

use super::limbs::Limbs;
use super::magnitude::{Magnitude, Stored};
use super::mantissa::{Int128, Int256, Mantissa, trimmed};

/// The exact sum of doubles or of integers.
pub(super) type ExactSum = Exact<Int128>;
/// The exact sum of their squares.
pub(super) type ExactSquares = Exact<Int256>;

/// An exact sum. The form depends on what was added; the number, and so equality and encoding, does
/// not.
#[derive(Debug, Clone)]
pub(super) enum Exact<M> {
    Near { mantissa: M, exponent: i32 },
    Wide(Box<Limbs>),
}

impl<M: Mantissa> Exact<M> {
    pub(super) const ZERO: Self = Self::Near { mantissa: M::ZERO, exponent: 0 };

    /// Adds `± magnitude · 2^exponent`, a term of the sizes that [`Mantissa::plus`] takes.
    #[inline]
    pub(super) fn add_term(&mut self, negative: bool, magnitude: u128, exponent: i32) {
        if let Self::Near { mantissa, exponent: own } = self
            && exponent >= *own
            && let Some(sum) = mantissa.plus(negative, magnitude, (exponent - *own) as u32)
        {
            *mantissa = sum;
            return;
        }
        self.add(M::new(negative, magnitude), exponent);
    }

    /// Adds `term · 2^exponent`.
    #[inline]
    fn add(&mut self, term: M, exponent: i32) {
        match self {
            Self::Near { mantissa, exponent: own } => {
                match near_sum((*mantissa, *own), (term, exponent)) {
                    Some(sum) => (*mantissa, *own) = sum,
                    None => self.add_far(term, exponent),
                }
            }
            Self::Wide(limbs) => add_to_limbs(limbs, term, exponent),
        }
    }

    /// Adds another sum.
    #[inline]
    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Near { mantissa, exponent }) => self.add(*mantissa, *exponent),
            (Self::Wide(limbs), Self::Wide(more)) => limbs.merge(more),
            (Self::Near { mantissa, exponent }, Self::Wide(more)) => {
                let mut limbs = more.clone();
                add_to_limbs(&mut limbs, *mantissa, *exponent);
                *self = Self::Wide(limbs);
            }
        }
    }

    /// Hands the number to `read`.
    pub(super) fn read<R>(&self, read: impl FnOnce(Magnitude<'_>) -> R) -> R {
        match self {
            Self::Near { mantissa, exponent } => {
                let (negative, words) = mantissa.to_words();
                read(Magnitude { negative, words: &words, exponent: *exponent })
            }
            Self::Wide(limbs) => {
                let (negative, words, exponent) = limbs.to_words();
                read(Magnitude { negative, words: &words, exponent })
            }
        }
    }

    /// The nearest double, ties to even; infinite when it is beyond the greatest.
    pub(super) fn to_double(&self) -> f64 {
        self.read(|number| number.to_double())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.read(|number| number.encode(out));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = Stored::read(reader, M::EXPONENT_MIN, M::TOP)?;
        Ok(match M::from_bytes(number.negative, number.bytes) {
            Some(mantissa) => Self::Near { mantissa, exponent: number.exponent },
            None => {
                let mut limbs = Box::new(Limbs::new());
                limbs.add(number.negative, &number.words(), number.exponent);
                Self::Wide(limbs)
            }
        })
    }

    /// The bytes it holds beyond its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Near { .. } => 0,
            Self::Wide(limbs) => size_of::<Limbs>() + limbs.heap_bytes(),
        }
    }

    /// Adds a term that does not fit as it stands: without the zeros at the end it may, else the
    /// sum becomes wide.
    #[cold]
    fn add_far(&mut self, term: M, exponent: i32) {
        if let Self::Near { mantissa, exponent: own } = self {
            let (reduced, reduced_term) = (reduced(*mantissa, *own), reduced(term, exponent));
            if let Some(sum) = near_sum(reduced, reduced_term) {
                (*mantissa, *own) = sum;
                return;
            }
            let mut limbs = Box::new(Limbs::new());
            add_to_limbs(&mut limbs, *mantissa, *own);
            add_to_limbs(&mut limbs, term, exponent);
            *self = Self::Wide(limbs);
        }
    }
}

impl<M: Mantissa> PartialEq for Exact<M> {
    fn eq(&self, other: &Self) -> bool {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        self.encode(&mut own);
        other.encode(&mut others);
        own == others
    }
}

/// A finite double as sign, integer and exponent of two.
#[inline]
pub(super) fn parts(value: f64) -> (bool, u64, i32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let field = (bits >> 52) as i32 & 0x7ff;
    debug_assert!(field < 0x7ff, "no fact holds NaN or an infinity");
    match field {
        0 => (value.is_sign_negative(), fraction, -1074),
        _ => (value.is_sign_negative(), fraction | 1 << 52, field - 1075),
    }
}

/// The sum at the smaller of the two exponents, if it fits.
#[inline]
fn near_sum<M: Mantissa>(a: (M, i32), b: (M, i32)) -> Option<(M, i32)> {
    if b.0.is_zero() {
        return Some(a);
    }
    if a.0.is_zero() {
        return Some(b);
    }
    if b.1 >= a.1 {
        Some((a.0.checked_add(b.0.shifted_up((b.1 - a.1) as u32)?)?, a.1))
    } else {
        Some((a.0.shifted_up((a.1 - b.1) as u32)?.checked_add(b.0)?, b.1))
    }
}

/// The same number with an odd mantissa.
fn reduced<M: Mantissa>(mantissa: M, exponent: i32) -> (M, i32) {
    if mantissa.is_zero() {
        return (mantissa, exponent);
    }
    let zeros = mantissa.trailing_zeros();
    (mantissa.shifted_down(zeros), exponent + zeros as i32)
}

fn add_to_limbs<M: Mantissa>(limbs: &mut Limbs, term: M, exponent: i32) {
    let (negative, words) = term.to_words();
    limbs.add(negative, trimmed(&words), exponent);
}
