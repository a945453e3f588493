//! Values of one field as a column: a word each, texts beside them.

use millrace_types::{FieldType, Micros, ValueRef};

/// Bits of a word that say how long a text is; the others say where it begins.
const LENGTH_BITS: u32 = 24;

/// The values of a field, one for each fact.
#[derive(Debug)]
pub(super) struct Cells {
    ty: FieldType,
    /// The value itself, or where its text begins and how long it is.
    words: Vec<u64>,
    /// Which are NULL; empty as long as none is.
    nulls: Vec<bool>,
    text: String,
    bytes: Vec<u8>,
}

impl Cells {
    pub(super) fn new(ty: FieldType) -> Self {
        let (words, nulls) = (Vec::new(), Vec::new());
        Self { ty, words, nulls, text: String::new(), bytes: Vec::new() }
    }

    /// Appends the value of the next fact. One of another type than the field's, which no row has, is
    /// NULL.
    #[inline]
    pub(super) fn push(&mut self, value: ValueRef<'_>) {
        let word = match (self.ty, value) {
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
                debug_assert!(other.is_null(), "{other:?} is no {}", self.ty);
                return self.push_null();
            }
        };
        self.words.push(word);
        if !self.nulls.is_empty() {
            self.nulls.push(false);
        }
    }

    fn push_null(&mut self) {
        self.nulls.resize(self.words.len(), false);
        self.nulls.push(true);
        self.words.push(0);
    }

    #[inline]
    pub(super) fn is_null(&self, place: usize) -> bool {
        self.nulls.get(place).is_some_and(|null| *null)
    }

    /// Whether any value in this range is NULL.
    pub(super) fn any_null(&self, range: std::ops::Range<usize>) -> bool {
        self.nulls.get(range).is_some_and(|nulls| nulls.contains(&true))
    }

    /// The values as words: those of an int64 are the values themselves.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The value at a place.
    #[inline]
    pub(super) fn get(&self, place: usize) -> ValueRef<'_> {
        if self.is_null(place) {
            return ValueRef::Null;
        }
        let word = self.words[place];
        match self.ty {
            FieldType::Bool => ValueRef::Bool(word != 0),
            FieldType::Int64 => ValueRef::Int64(word as i64),
            FieldType::Double => ValueRef::Double(f64::from_bits(word)),
            FieldType::Timestamp => ValueRef::Timestamp(Micros(word as i64)),
            FieldType::String => ValueRef::String(&self.text[range(word)]),
            FieldType::Bytes => ValueRef::Bytes(&self.bytes[range(word)]),
        }
    }

    /// The values at these places, in their order.
    pub(super) fn picked(self, places: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
        let words = places.clone().map(|place| self.words[place]).collect();
        let nulls = match self.nulls.is_empty() {
            true => Vec::new(),
            false => places.map(|place| self.nulls[place]).collect(),
        };
        Self { words, nulls, ..self }
    }

    /// Memory held, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>() + self.nulls.len() + self.text.len() + self.bytes.len()
    }
}

/// A row, and so a text of it, is part of a chunk, which is far smaller than the length can say.
#[inline]
fn span(start: usize, len: usize) -> u64 {
    debug_assert!(len >> LENGTH_BITS == 0, "{len} bytes of text in one row");
    (start as u64) << LENGTH_BITS | len as u64
}

#[inline]
fn range(span: u64) -> std::ops::Range<usize> {
    let start = (span >> LENGTH_BITS) as usize;
    start..start + (span & ((1 << LENGTH_BITS) - 1)) as usize
}
