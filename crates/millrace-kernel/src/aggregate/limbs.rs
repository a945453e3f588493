//! The slow, unbounded form of an exact sum: 32-bit digits in 64-bit limbs, so that a billion terms
//! are added before a carry has to move. Only the limbs between the least and the greatest bit seen
//! are held.

/// The exponent of the lowest bit of limb 0: a multiple of 32 below every term, squares of
/// subnormal doubles (`2^-2148`) included.
const ORIGIN: i32 = -2176;

/// After this many additions to a limb the carries are moved. A limb then stays below `2^63`, also
/// when two sums of this many additions are merged.
const PENDING_MAX: u32 = 1 << 29;

const DIGIT: i64 = 1 << 32;

/// An integer times `2^ORIGIN`: the sum of `limbs[i] · 2^(32·(first + i))`.
#[derive(Debug, Clone)]
pub(super) struct Limbs {
    limbs: Vec<i64>,
    first: u32,
    /// No limb exceeds `(pending + 1) · 2^32` in magnitude.
    pending: u32,
}

impl Limbs {
    pub(super) fn new() -> Self {
        Self { limbs: Vec::new(), first: 0, pending: 0 }
    }

    /// Adds the integer with these words, least first, times `2^exponent`.
    pub(super) fn add(&mut self, negative: bool, words: &[u64], exponent: i32) {
        debug_assert!(exponent >= ORIGIN, "no term has a bit below the origin");
        let position = (exponent - ORIGIN) as u32;
        let (limb, shift) = (position / 32, position % 32);
        let start = self.reach(limb, words.len() as u32 * 2 + 1);
        for (i, &word) in words.iter().enumerate() {
            let digits = u128::from(word) << shift;
            let three = [digits as u32, (digits >> 32) as u32, (digits >> 64) as u32];
            for (limb, digit) in self.limbs[start + 2 * i..].iter_mut().zip(three) {
                *limb += if negative { -i64::from(digit) } else { i64::from(digit) };
            }
        }
        // A word reaches into the lowest limb of the next one: two digits at most in one limb.
        self.count(2);
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: &Self) {
        let start = self.reach(other.first, other.limbs.len() as u32);
        for (limb, &more) in self.limbs[start..].iter_mut().zip(&other.limbs) {
            *limb += more;
        }
        self.count(other.pending + 1);
    }

    /// The sign and the words of the magnitude, least first, and the exponent of its lowest bit.
    pub(super) fn to_words(&self) -> (bool, Vec<u64>, i32) {
        let mut negative = false;
        let mut digits = self.digits(1);
        if digits.last().is_some_and(|&top| top < 0) {
            negative = true;
            digits = self.digits(-1);
        }
        let words = digits
            .chunks(2)
            .map(|pair| (pair.get(1).copied().unwrap_or(0) as u64) << 32 | pair[0] as u64)
            .collect();
        (negative, words, ORIGIN + 32 * self.first as i32)
    }

    /// The bytes it holds beyond its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        self.limbs.capacity() * size_of::<i64>()
    }

    /// Makes room for `len` limbs from limb `limb` on and gives the index of the first of them.
    fn reach(&mut self, limb: u32, len: u32) -> usize {
        if self.limbs.is_empty() {
            self.first = limb;
        } else if limb < self.first {
            let more = (self.first - limb) as usize;
            self.limbs.splice(..0, std::iter::repeat_n(0, more));
            self.first = limb;
        }
        let start = (limb - self.first) as usize;
        let end = start + len as usize;
        if self.limbs.len() < end {
            self.limbs.resize(end, 0);
        }
        start
    }

    #[inline]
    fn count(&mut self, additions: u32) {
        self.pending += additions;
        if self.pending >= PENDING_MAX {
            self.carry();
        }
    }

    /// Moves the carries up. The top limb keeps the sign.
    #[cold]
    fn carry(&mut self) {
        let mut carry = 0;
        if let Some((top, below)) = self.limbs.split_last_mut() {
            for limb in below {
                let sum = *limb + carry;
                *limb = sum.rem_euclid(DIGIT);
                carry = sum.div_euclid(DIGIT);
            }
            let sum = *top + carry;
            *top = sum;
            if sum.abs() >= DIGIT {
                *top = sum.rem_euclid(DIGIT);
                self.limbs.push(sum.div_euclid(DIGIT));
            }
        }
        self.pending = 0;
    }

    /// The digits of `sign · self`, each in `0..2^32` but for the top one, which is negative when
    /// the number is.
    fn digits(&self, sign: i64) -> Vec<i64> {
        let mut carry = 0;
        let mut digits = Vec::with_capacity(self.limbs.len() + 2);
        for &limb in &self.limbs {
            let sum = sign * limb + carry;
            digits.push(sum.rem_euclid(DIGIT));
            carry = sum.div_euclid(DIGIT);
        }
        // The carry of a limb below 2^63 has less than 32 bits.
        digits.push(carry);
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_move_before_a_limb_is_full() {
        let mut sum = Limbs::new();
        sum.add(false, &[u64::MAX, u64::MAX], 0);
        // Doubling stands for a billion additions: each merge counts what the other has pending.
        for _ in 0..200 {
            sum.merge(&sum.clone());
        }
        let (negative, words, exponent) = sum.to_words();
        assert!(!negative);
        let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
        assert_eq!((ones, exponent), (128, 0));
        sum.add(true, &words, exponent);
        assert!(sum.to_words().1.iter().all(|&word| word == 0));
    }

    #[test]
    fn a_negative_number_keeps_its_sign_through_carries() {
        let mut sum = Limbs::new();
        sum.add(true, &[1], -2148);
        for _ in 0..3 {
            sum.carry();
        }
        sum.add(false, &[1], 2100);
        let (negative, words, _) = sum.to_words();
        assert!(!negative && words.contains(&u64::MAX));
        sum.add(true, &[2], 2100);
        sum.carry();
        let (negative, words, _) = sum.to_words();
        let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
        assert_eq!((negative, ones), (true, 2));
    }
}
