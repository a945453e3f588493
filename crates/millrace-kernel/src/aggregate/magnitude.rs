//! An exact number as a sign, a magnitude and a power of two: rounding to a double, and the stored
//! form.

use millrace_types::DecodeError;
use millrace_types::codec::{Reader, put_signed, put_varint};

use super::mantissa::trimmed;

/// `± words · 2^exponent`, the words least first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Magnitude<'a> {
    pub(super) negative: bool,
    pub(super) words: &'a [u64],
    pub(super) exponent: i32,
}

impl Magnitude<'_> {
    /// The nearest double, ties to the even one; zero is +0.0, beyond the greatest double infinity.
    pub(super) fn to_double(self) -> f64 {
        let words = trimmed(self.words);
        let (below, top) = words.split_at(words.len().saturating_sub(2));
        let word = |i: usize| u128::from(top.get(i).copied().unwrap_or(0));
        let exponent = self.exponent + 64 * below.len() as i32;
        let sticky = below.iter().any(|&word| word != 0);
        let rounded = round((word(1) << 64) | word(0), exponent, sticky);
        if self.negative { -rounded } else { rounded }
    }

    /// Appends the number: varint `2·length + sign`, then, unless it is zero, the exponent (zigzag)
    /// and the bytes of the magnitude, least first. The magnitude is odd, so equal numbers have
    /// equal bytes.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let words = trimmed(self.words);
        let Some(first) = words.iter().position(|&word| word != 0) else {
            put_varint(out, 0);
            return;
        };
        let shift = words[first].trailing_zeros();
        let words = &words[first..];
        let top = words[words.len() - 1];
        let bits = 64 * words.len() - top.leading_zeros() as usize - shift as usize;
        let mut left = bits.div_ceil(8);
        put_varint(out, ((left as u64) << 1) | u64::from(self.negative));
        put_signed(out, i64::from(self.exponent + 64 * first as i32 + shift as i32));
        for (i, &word) in words.iter().enumerate() {
            let next = words.get(i + 1).copied().unwrap_or(0);
            let pair = (u128::from(next) << 64) | u128::from(word);
            let taken = left.min(8);
            out.extend_from_slice(&((pair >> shift) as u64).to_le_bytes()[..taken]);
            left -= taken;
        }
    }
}

/// A stored number: `± bytes · 2^exponent`, the bytes least first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) negative: bool,
    pub(super) bytes: &'a [u8],
    pub(super) exponent: i32,
}

impl<'a> Stored<'a> {
    /// Reads a number as [`Magnitude::encode`] wrote it, all of whose bits lie in
    /// `2^exponent_min .. 2^top`.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        exponent_min: i32,
        top: i32,
    ) -> Result<Self, DecodeError> {
        let head = reader.varint("length of a sum")?;
        if head == 0 {
            return Ok(Self { negative: false, bytes: &[], exponent: 0 });
        }
        let length = head >> 1;
        let exponent = reader.signed("exponent of a sum")?;
        let bits = i64::try_from(length).unwrap_or(i64::MAX).saturating_mul(8);
        // The top byte need not be full, so the number may end seven bits below this.
        if exponent < i64::from(exponent_min)
            || exponent.saturating_add(bits).saturating_sub(7) > i64::from(top)
        {
            return Err(DecodeError::Invalid { what: "exponent of a sum", found: exponent as u64 });
        }
        let bytes = reader.take(length as usize, "sum")?;
        let is_minimal = bytes.first().is_some_and(|byte| byte & 1 == 1)
            && bytes.last().is_some_and(|&byte| byte != 0);
        if !is_minimal {
            return Err(DecodeError::Invalid { what: "length of a sum", found: head });
        }
        Ok(Self { negative: head & 1 == 1, bytes, exponent: exponent as i32 })
    }

    pub(super) fn words(self) -> Vec<u64> {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        self.bytes.chunks(8).map(word).collect()
    }
}

/// `(magnitude + ε) · 2^exponent` as the nearest double, ties to even, where `0 < ε < 1` when `more`
/// is set and ε is zero otherwise. With `more`, the magnitude has at least 55 bits.
pub(super) fn round(magnitude: u128, exponent: i32, more: bool) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    let bits = 128 - magnitude.leading_zeros() as i32;
    debug_assert!(!more || bits >= 55, "the bits that decide are all at hand");
    let highest = exponent + bits - 1;
    if highest > 1023 {
        return f64::INFINITY;
    }
    // The exponent of the last bit that a double of this size keeps.
    let last = (highest - 52).max(-1074);
    let shift = last - exponent;
    let kept = if shift <= 0 {
        // At most 53 bits from `last` on: exact.
        (magnitude << -shift) as u64
    } else if shift > bits {
        0
    } else {
        // `shift` is at most 128 here, which a shift by 128 would not survive: halve first.
        let halves = magnitude >> (shift - 1);
        let half = halves & 1 == 1;
        let kept = (halves >> 1) as u64;
        let rest = more || magnitude.trailing_zeros() < (shift - 1) as u32;
        kept + u64::from(half && (rest || kept & 1 == 1))
    };
    // The leading one of `kept` carries into the exponent, as does rounding up to a power of two.
    f64::from_bits((((last + 1074) as u64) << 52) + kept)
}
