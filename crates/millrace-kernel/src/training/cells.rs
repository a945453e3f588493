//! Values of one field as a column: a word each, texts beside them.

use millrace_types::{FieldType, ValueRef};

use super::words::Texts;

/// The values of a field, one for each fact.
#[derive(Debug)]
pub(super) struct Cells {
    ty: FieldType,
    words: Vec<u64>,
    /// Which are NULL; empty as long as none is.
    nulls: Vec<bool>,
    texts: Texts,
}

impl Cells {
    pub(super) fn new(ty: FieldType) -> Self {
        Self { ty, words: Vec::new(), nulls: Vec::new(), texts: Texts::default() }
    }

    /// Appends the value of the next fact.
    #[inline]
    pub(super) fn push(&mut self, value: ValueRef<'_>) {
        let Some(word) = self.texts.word(self.ty, value) else { return self.push_null() };
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
        self.texts.value(self.ty, self.words[place])
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
        self.words.len() * size_of::<u64>() + self.nulls.len() + self.texts.heap_bytes()
    }
}
