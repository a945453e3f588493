//! The integers behind [`Exact`](super::exact::Exact): two's complement numbers of 128 and 256 bits
//! that say whether a shift or a sum still fits instead of wrapping.

use std::fmt::Debug;

/// A signed integer of fixed width.
pub(super) trait Mantissa: Copy + Debug {
    /// Zero.
    const ZERO: Self;
    /// The least exponent of two that a term summed in this width has.
    const EXPONENT_MIN: i32;
    /// No sum of this width has a bit at or above `2^TOP`: 64 bits above the greatest term, since no
    /// more than `2^64` rows are summed.
    const TOP: i32;

    /// `magnitude`, which is less than `2^127`, with a sign.
    fn new(negative: bool, magnitude: u128) -> Self;
    /// The integer whose magnitude has these bytes, least first; `None` when it does not fit.
    fn from_bytes(negative: bool, bytes: &[u8]) -> Option<Self>;
    /// The sign, and the words of the magnitude, least first.
    fn to_words(self) -> (bool, [u64; 4]);
    /// True for zero.
    fn is_zero(self) -> bool;
    /// `self · 2^bits`, or `None` when it does not fit.
    fn shifted_up(self, bits: u32) -> Option<Self>;
    /// `self / 2^bits` where that leaves no remainder; `bits` is at most [`Self::trailing_zeros`].
    fn shifted_down(self, bits: u32) -> Self;
    /// How often two divides this integer, which is not zero.
    fn trailing_zeros(self) -> u32;
    /// The sum, or `None` when it does not fit.
    fn checked_add(self, other: Self) -> Option<Self>;
    /// `self ± magnitude · 2^shift` for the sizes and shifts of ordinary terms, else `None`: what a
    /// shift and a sum give too, in fewer steps.
    fn plus(self, negative: bool, magnitude: u128, shift: u32) -> Option<Self>;
}

/// An `i128` that is aligned to 8 bytes, so that what holds one stays small. Sums of int64 and of
/// doubles: a term of a double is an integer of 53 bits times `2^-1074` to `2^971`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int128([u64; 2]);

impl Int128 {
    #[inline]
    pub(super) const fn from_i128(value: i128) -> Self {
        Self([value as u64, (value >> 64) as u64])
    }

    #[inline]
    pub(super) const fn get(self) -> i128 {
        ((self.0[1] as i64 as i128) << 64) | self.0[0] as i128
    }
}

impl Mantissa for Int128 {
    const ZERO: Self = Self([0; 2]);
    const EXPONENT_MIN: i32 = -1074;
    const TOP: i32 = 1024 + 64;

    #[inline]
    fn new(negative: bool, magnitude: u128) -> Self {
        let value = magnitude as i128;
        Self::from_i128(if negative { -value } else { value })
    }

    fn from_bytes(negative: bool, bytes: &[u8]) -> Option<Self> {
        let mut all = [0; 16];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let magnitude = u128::from_le_bytes(all);
        (magnitude >> 127 == 0).then(|| Self::new(negative, magnitude))
    }

    fn to_words(self) -> (bool, [u64; 4]) {
        let value = self.get();
        let magnitude = value.unsigned_abs();
        (value < 0, [magnitude as u64, (magnitude >> 64) as u64, 0, 0])
    }

    #[inline]
    fn is_zero(self) -> bool {
        self.0 == [0; 2]
    }

    #[inline]
    fn shifted_up(self, bits: u32) -> Option<Self> {
        let value = self.get();
        let sign_bits = (value ^ (value >> 127)).leading_zeros();
        (bits < sign_bits).then(|| Self::from_i128(value << bits))
    }

    fn shifted_down(self, bits: u32) -> Self {
        Self::from_i128(self.get() >> bits)
    }

    fn trailing_zeros(self) -> u32 {
        self.get().trailing_zeros()
    }

    #[inline]
    fn checked_add(self, other: Self) -> Option<Self> {
        self.get().checked_add(other.get()).map(Self::from_i128)
    }

    #[inline]
    fn plus(self, negative: bool, magnitude: u128, shift: u32) -> Option<Self> {
        // 64 bits are the most that a term has.
        debug_assert!(magnitude >> 64 == 0, "terms are doubles or int64");
        if shift > 62 {
            return None;
        }
        let sign = -i128::from(negative);
        let term = (((magnitude as u64 as i128) ^ sign) - sign) << shift;
        self.get().checked_add(term).map(Self::from_i128)
    }
}

/// A 256-bit integer. Sums of squares: the square of a double is an integer of 106 bits times
/// `2^-2148` to `2^1942`, and 128 bits overflow for 1.1 % of 16 prices already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int256 {
    high: i128,
    low: u128,
}

impl Int256 {
    #[inline]
    fn negated(self) -> Self {
        let (low, carry) = (!self.low).overflowing_add(1);
        Self { high: (!self.high).wrapping_add(i128::from(carry)), low }
    }
}

impl Mantissa for Int256 {
    const ZERO: Self = Self { high: 0, low: 0 };
    const EXPONENT_MIN: i32 = -2148;
    const TOP: i32 = 2048 + 64;

    #[inline]
    fn new(negative: bool, magnitude: u128) -> Self {
        let value = Self { high: 0, low: magnitude };
        if negative { value.negated() } else { value }
    }

    fn from_bytes(negative: bool, bytes: &[u8]) -> Option<Self> {
        let (low, high) = bytes.split_at(bytes.len().min(16));
        let half = |bytes: &[u8]| {
            let mut all = [0; 16];
            all.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u128::from_le_bytes(all))
        };
        let value = Self { high: half(high)? as i128, low: half(low)? };
        (value.high >= 0).then(|| if negative { value.negated() } else { value })
    }

    fn to_words(self) -> (bool, [u64; 4]) {
        let negative = self.high < 0;
        let magnitude = if negative { self.negated() } else { self };
        let (high, low) = (magnitude.high as u128, magnitude.low);
        (negative, [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64])
    }

    #[inline]
    fn is_zero(self) -> bool {
        self.high == 0 && self.low == 0
    }

    #[inline]
    fn shifted_up(self, bits: u32) -> Option<Self> {
        let sign = self.high >> 127;
        let sign_bits = match (self.high ^ sign).leading_zeros() {
            128 => 128 + (self.low ^ sign as u128).leading_zeros(),
            bits => bits,
        };
        if bits >= sign_bits {
            return None;
        }
        Some(match bits {
            0 => self,
            1..=127 => Self {
                high: (self.high << bits) | (self.low >> (128 - bits)) as i128,
                low: self.low << bits,
            },
            _ => Self { high: (self.low << (bits - 128)) as i128, low: 0 },
        })
    }

    fn shifted_down(self, bits: u32) -> Self {
        match bits {
            0 => self,
            1..=127 => Self {
                high: self.high >> bits,
                low: (self.low >> bits) | ((self.high as u128) << (128 - bits)),
            },
            _ => Self { high: self.high >> 127, low: (self.high >> (bits - 128)) as u128 },
        }
    }

    fn trailing_zeros(self) -> u32 {
        match self.low {
            0 => 128 + self.high.trailing_zeros(),
            low => low.trailing_zeros(),
        }
    }

    #[inline]
    fn checked_add(self, other: Self) -> Option<Self> {
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high.checked_add(other.high)?.checked_add(i128::from(carry))?;
        Some(Self { high, low })
    }

    #[inline]
    fn plus(self, negative: bool, magnitude: u128, shift: u32) -> Option<Self> {
        if negative || shift > 127 {
            return None;
        }
        // In two steps, since a shift by 128 is none.
        let term =
            Self { high: ((magnitude >> 1) >> (127 - shift)) as i128, low: magnitude << shift };
        self.checked_add(term)
    }
}

/// `words` without the zeros at the top.
pub(super) fn trimmed(words: &[u64]) -> &[u64] {
    let len = words.iter().rposition(|&word| word != 0).map_or(0, |top| top + 1);
    &words[..len]
}
