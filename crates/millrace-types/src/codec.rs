//! Reading and writing the primitives of the binary forms: LEB128 variable-length integers,
//! zigzag for signed ones, and length-prefixed bytes.

use thiserror::Error;

/// What is wrong with bytes that should decode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("bytes end inside {0}")]
    Truncated(&'static str),
    /// A value is outside what its field allows.
    #[error("{what} holds {found}, which is not allowed")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What stands there.
        found: u64,
    },
    /// Text is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// The checksum does not match: the bytes were damaged.
    #[error("checksum is {found:08x} instead of {expected:08x}: the bytes are damaged")]
    Checksum {
        /// The checksum stored with the bytes.
        expected: u32,
        /// The checksum of the bytes as they are.
        found: u32,
    },
}

/// Appends `value` as an unsigned LEB128 integer (1 to 10 bytes).
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else if let Some((word, bytes)) = varint_word(value) {
        // A whole word is copied and cut: room is checked once, and no branch depends on the size.
        let start = out.len();
        out.extend_from_slice(&word.to_le_bytes());
        out.truncate(start + bytes);
    } else {
        put_long_varint(out, value);
    }
}

/// The LEB128 bytes of a value below 2^56, in the low bytes of a word, and how many they are.
#[inline]
fn varint_word(value: u64) -> Option<(u64, usize)> {
    if value >> 56 != 0 {
        return None;
    }
    let bytes = (70 - (value | 1).leading_zeros()) / 7;
    // Spread 28, then 14, then 7 bits over the bytes of the word, then say "more" in all but the last.
    let word = (value & 0x0fff_ffff) | (value & 0x00ff_ffff_f000_0000) << 4;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x0fff_c000_0fff_c000) << 2;
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x3f80_3f80_3f80_3f80) << 1;
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (bytes - 1))) - 1);
    Some((word | more, bytes as usize))
}

/// The value of a LEB128 integer that ends within these bytes, and how many of them it takes.
#[inline]
fn read_word(bytes: [u8; 8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(bytes);
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // All bits up to the first byte that says no "more", and of them seven a byte.
    let word = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    // Gather 14, then 28, then 56 of them.
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    let word = (word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4;
    Some((word, ends.trailing_zeros() as usize / 8 + 1))
}

#[cold]
fn put_long_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a byte, then `value` zigzag-coded as LEB128: a type tag and its integer at once.
#[inline]
pub fn put_tagged_signed(out: &mut Vec<u8>, tag: u8, value: i64) {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    if let Some((word, bytes)) = varint_word(zigzag) {
        let start = out.len();
        let tagged = u128::from(tag) | u128::from(word) << 8;
        out.extend_from_slice(&tagged.to_le_bytes());
        out.truncate(start + 1 + bytes);
    } else {
        out.push(tag);
        put_long_varint(out, zigzag);
    }
}

/// Appends `value` zigzag-coded as LEB128, so that small magnitudes of either sign stay short.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends the length of `bytes` as a varint, then the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A cursor over encoded bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything was read.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(first)
    }

    /// Reads `n` bytes as they are.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer than `n` are left.
    #[inline]
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        if self.rest.len() < n {
            return Err(DecodeError::Truncated(what));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    /// Reads a LEB128 integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end, [`DecodeError::Invalid`] when it does not fit 64 bits.
    #[inline]
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            rest => match rest.first_chunk().and_then(|word| read_word(*word)) {
                // No branch depends on the size: instants are of eight bytes, revisions of one.
                Some((value, bytes)) => {
                    self.rest = &rest[bytes..];
                    Ok(value)
                }
                None => self.long_varint(what),
            },
        }
    }

    /// One of more than eight bytes, or near the end.
    #[cold]
    fn long_varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let byte = self.u8(what)?;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Invalid { what, found: u64::from(byte) });
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// Moves past a LEB128 integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    #[inline]
    pub fn skip_varint(&mut self, what: &'static str) -> Result<(), DecodeError> {
        while self.u8(what)? >= 0x80 {}
        Ok(())
    }

    /// Reads a zigzag LEB128 integer.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    #[inline]
    pub fn signed(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let raw = self.varint(what)?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    /// Reads a varint that is a length or a count, refusing one greater than the bytes left: a lying
    /// length prefix can then reserve no memory.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when the count exceeds the bytes left.
    #[inline]
    pub fn count(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let n = self.varint(what)?;
        if n > self.rest.len() as u64 {
            return Err(DecodeError::Truncated(what));
        }
        Ok(n as usize)
    }

    /// Reads length-prefixed bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer bytes are left than the prefix says.
    #[inline]
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let n = self.count(what)?;
        self.take(n, what)
    }

    /// Reads a varint that must fit 32 bits.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when it does not.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let raw = self.varint(what)?;
        u32::try_from(raw).map_err(|_| DecodeError::Invalid { what, found: raw })
    }

    /// Reads a varint that must fit 16 bits.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] when it does not.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        let raw = self.varint(what)?;
        u16::try_from(raw).map_err(|_| DecodeError::Invalid { what, found: raw })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_round_trip(a: u64, b: i64, c: Vec<u8>) {
            let mut out = Vec::new();
            put_varint(&mut out, a);
            put_signed(&mut out, b);
            put_bytes(&mut out, &c);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint("a").unwrap(), a);
            prop_assert_eq!(reader.signed("b").unwrap(), b);
            prop_assert_eq!(reader.bytes("c").unwrap(), c.as_slice());
            prop_assert!(reader.is_empty());
        }

        /// Word by word and byte by byte: the same value, the same error, the same bytes left.
        #[test]
        fn a_varint_of_any_bytes_is_what_its_bytes_say(
            more in 0..12_usize,
            bytes in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let mut bytes = bytes;
            bytes.iter_mut().take(more).for_each(|byte| *byte |= 0x80);
            let (mut by_word, mut by_byte) = (Reader::new(&bytes), Reader::new(&bytes));
            let read = by_word.varint("x");
            prop_assert_eq!(&read, &by_byte.long_varint("x"));
            if read.is_err() {
                return Ok(());
            }
            prop_assert_eq!(by_word.rest(), by_byte.rest());
            if by_word.varint("x").is_ok() {
                let mut skipped = Reader::new(&bytes);
                for _ in 0..2 {
                    skipped.skip_varint("x").unwrap();
                }
                prop_assert_eq!(skipped.rest(), by_word.rest());
            }
        }

        #[test]
        fn any_bytes_decode_or_say_why(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                if reader.bytes("x").is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn varints_are_leb128_at_every_length() {
        let around = |shift: u32| (-2..=2i64).map(move |d| (1u64 << shift).wrapping_add(d as u64));
        for value in (0..64).flat_map(around).chain([u64::MAX, 0x0123_4567_89ab_cdef]) {
            let (mut plain, mut out) = (vec![9], vec![9]);
            put_long_varint(&mut plain, value);
            put_varint(&mut out, value);
            assert_eq!(out, plain, "{value:#x}");
            let (mut plain, mut out) = (vec![9], Vec::new());
            put_signed(&mut plain, value as i64);
            put_tagged_signed(&mut out, 9, value as i64);
            assert_eq!(out, plain, "{:#x}", value as i64);
        }
    }

    #[test]
    fn a_varint_beyond_64_bits_is_refused() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]);
        assert!(matches!(reader.varint("x"), Err(DecodeError::Invalid { .. })));
    }
}
