//! Scalars as words of 64 bits, texts and bytes beside them.

use std::ops::Range;

use millrace_types::{FieldType, Micros, ValueRef};

/// Bits of a word that say how long a text is; the others say where it begins.
const LENGTH_BITS: u32 = 24;

/// Texts and bytes to which words refer. The words of all other values are the values themselves.
#[derive(Debug, Default)]
pub struct Texts {
    text: String,
    bytes: Vec<u8>,
}

impl Texts {
    /// The word of a value, whose text or bytes are kept here. `None` for NULL, and for a value of another
    /// type, which no row has.
    #[inline]
    pub fn word(&mut self, ty: FieldType, value: ValueRef<'_>) -> Option<u64> {
        Some(match (ty, value) {
            (FieldType::Bool, ValueRef::Bool(value)) => u64::from(value),
            (FieldType::Int64, ValueRef::Int64(value)) => value as u64,
            (FieldType::Double, ValueRef::Double(value)) => value.to_bits(),
            (FieldType::Timestamp, ValueRef::Timestamp(value)) => value.0 as u64,
            (FieldType::String, ValueRef::String(value)) => {
                let start = self.text.len();
                self.text.push_str(value);
                span(start, value.len())
            }
            (FieldType::Bytes, ValueRef::Bytes(value)) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(value);
                span(start, value.len())
            }
            (_, other) => {
                debug_assert!(other.is_null(), "{other:?} is no {ty}");
                return None;
            }
        })
    }

    /// The value of a word that was made here of a value of this type.
    ///
    /// # Panics
    /// A word of a text or of bytes that was made elsewhere may name what is not here.
    #[inline]
    pub fn value(&self, ty: FieldType, word: u64) -> ValueRef<'_> {
        match ty {
            FieldType::Bool => ValueRef::Bool(word != 0),
            FieldType::Int64 => ValueRef::Int64(word as i64),
            FieldType::Double => ValueRef::Double(f64::from_bits(word)),
            FieldType::Timestamp => ValueRef::Timestamp(Micros(word as i64)),
            FieldType::String => ValueRef::String(self.text(word)),
            FieldType::Bytes => ValueRef::Bytes(self.bytes(word)),
        }
    }

    /// The text of a word; that of 0 is empty. Panics as [`Texts::value`] does.
    #[inline]
    pub fn text(&self, word: u64) -> &str {
        &self.text[range(word)]
    }

    /// The bytes of a word; those of 0 are none. Panics as [`Texts::value`] does.
    #[inline]
    pub fn bytes(&self, word: u64) -> &[u8] {
        &self.bytes[range(word)]
    }

    /// Bytes of all texts and bytes.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.text.len() + self.bytes.len()
    }
}

/// A row, and so a text of it, is part of a chunk, which is far smaller than the length can say.
#[inline]
fn span(start: usize, len: usize) -> u64 {
    debug_assert!(len >> LENGTH_BITS == 0, "{len} bytes of text in one value");
    (start as u64) << LENGTH_BITS | len as u64
}

#[inline]
fn range(span: u64) -> Range<usize> {
    let start = (span >> LENGTH_BITS) as usize;
    start..start + (span & ((1 << LENGTH_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_their_values_back() {
        let mut texts = Texts::default();
        let values = [
            (FieldType::Bool, ValueRef::Bool(true)),
            (FieldType::Int64, ValueRef::Int64(i64::MIN)),
            (FieldType::Double, ValueRef::Double(-0.5)),
            (FieldType::Timestamp, ValueRef::Timestamp(Micros(-1))),
            (FieldType::String, ValueRef::String("")),
            (FieldType::String, ValueRef::String("müde")),
            (FieldType::Bytes, ValueRef::Bytes(&[0, 255])),
            (FieldType::String, ValueRef::String("wach")),
        ];
        let words: Vec<u64> =
            values.iter().map(|(ty, value)| texts.word(*ty, *value).unwrap()).collect();
        for ((ty, value), word) in values.iter().zip(&words) {
            assert_eq!(texts.value(*ty, *word), *value);
        }
        assert_eq!(texts.heap_bytes(), 5 + 4 + 2);
        assert_eq!(texts.word(FieldType::String, ValueRef::Null), None);
        assert_eq!((texts.text(0), texts.bytes(0)), ("", &[][..]), "what NULL holds");
    }
}
