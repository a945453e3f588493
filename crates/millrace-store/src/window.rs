//! The window of numbers one producer has had logged (design §8): a base, an end and a bitmap.
//!
//! Every number in `[base, end)` is marked; a number from `end` on is marked when its bit is set;
//! a number below the base is unknown. A window may forget, never invent: when a mark lies too far
//! ahead, the base moves past the hole in between, and what was below it is forgotten.

use std::collections::VecDeque;

use millrace_types::codec::{DecodeError, Reader, put_varint};

use crate::port::Seen;

/// How many numbers beyond its end a window keeps apart: the facts of one greatest batch. A window
/// takes 8 KiB at most, a few bytes while batches come in order.
pub const WINDOW_NUMBERS: u64 = 65_536;

const VERSION: u8 = 1;
const WORD: u64 = 64;

/// The window of one producer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerWindow {
    base: u64,
    end: u64,
    /// Bit `n % 64` of word `n / 64 - end / 64` stands for the number `n`; bits below `end` are
    /// clear, and so is the one of `end` itself. No word of zeros at the back.
    words: VecDeque<u64>,
}

impl ProducerWindow {
    /// The least number it knows anything about.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The first number from `base` on that is not marked.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Marks `[first, next)`.
    pub fn mark(&mut self, first: u64, next: u64) {
        self.mark_within(WINDOW_NUMBERS, first, next);
    }

    /// What it has to say about a number.
    #[must_use]
    pub fn seen(&self, number: u64) -> Seen {
        let marked = number >= self.base
            && (number < self.end
                || usize::try_from(number / WORD - self.end / WORD)
                    .ok()
                    .and_then(|index| self.words.get(index))
                    .is_some_and(|word| word >> (number % WORD) & 1 == 1));
        if marked { Seen::Yes } else { Seen::No }
    }

    /// What it has to say about each number of `[first, next)`.
    #[must_use]
    pub fn seen_range(&self, first: u64, next: u64) -> Vec<Seen> {
        (first..next).map(|number| self.seen(number)).collect()
    }

    fn mark_within(&mut self, capacity: u64, first: u64, next: u64) {
        if first >= next {
            return;
        }
        if self.base == self.end && self.words.is_empty() {
            (self.base, self.end) = (first, next);
            return;
        }
        if next < self.base {
            return; // below the base everything stays unknown
        }
        self.base = self.base.min(first);
        if next <= self.end {
            return;
        }
        if first > self.end && next - self.end > capacity {
            let base = next - capacity;
            self.end_at(base);
            self.base = base;
        }
        if first <= self.end {
            self.end_at(next);
        } else {
            self.set(first, next);
        }
        self.absorb();
    }

    /// Moves the end up to `end`, dropping the bits below it.
    fn end_at(&mut self, end: u64) {
        let words = usize::try_from(end / WORD - self.end / WORD).unwrap_or(usize::MAX);
        self.words.drain(..words.min(self.words.len()));
        self.end = end;
        if let Some(word) = self.words.front_mut() {
            *word &= u64::MAX << (end % WORD);
        }
        self.trim();
    }

    /// Sets the bits of `[first, next)`; `first` is at or after the end.
    fn set(&mut self, first: u64, next: u64) {
        let origin = self.end / WORD;
        let mut number = first;
        while number < next {
            let index = (number / WORD - origin) as usize; // at most capacity / 64
            if index >= self.words.len() {
                self.words.resize(index + 1, 0);
            }
            let upto = (next - number).min(WORD - number % WORD);
            self.words[index] |= (u64::MAX >> (WORD - upto)) << (number % WORD);
            number += upto;
        }
    }

    /// Moves the end over the marked numbers that follow it.
    fn absorb(&mut self) {
        while let Some(&word) = self.words.front() {
            let ones = u64::from((word >> (self.end % WORD)).trailing_ones());
            let end = self.end + ones;
            let crossed = end / WORD > self.end / WORD;
            self.end_at(end);
            if !crossed {
                break;
            }
        }
    }

    fn trim(&mut self) {
        while self.words.back() == Some(&0) {
            self.words.pop_back();
        }
    }

    /// Its binary form: `version u8 · base · end − base · words, varints; words little-endian`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.words.len() * 8);
        out.push(VERSION);
        put_varint(&mut out, self.base);
        put_varint(&mut out, self.end - self.base);
        put_varint(&mut out, self.words.len() as u64);
        for word in &self.words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads a window as [`ProducerWindow::encode`] wrote it.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no window of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let invalid = |what, found| DecodeError::Invalid { what, found };
        let mut reader = Reader::new(bytes);
        match reader.u8("window version")? {
            VERSION => {}
            other => return Err(invalid("window version", u64::from(other))),
        }
        let base = reader.varint("window base")?;
        let length = reader.varint("window length")?;
        let end = base.checked_add(length).ok_or_else(|| invalid("window length", length))?;
        let count = reader.varint("window words")?;
        if count > WINDOW_NUMBERS / WORD + 1 {
            return Err(invalid("window words", count));
        }
        let mut window = Self { base, end, words: VecDeque::new() };
        for _ in 0..count {
            let mut raw = [0; 8];
            raw.copy_from_slice(reader.take(8, "window word")?);
            window.words.push_back(u64::from_le_bytes(raw));
        }
        // The greatest number ends no range, so it is never marked; nor is what lies beyond.
        let last = u64::MAX / WORD;
        let reach = end / WORD + count; // both are far below the greatest number
        let marks_last = reach == last + 1 && window.words.back().is_some_and(|w| w >> 63 == 1);
        if reach > last + 1 || marks_last {
            return Err(invalid("window end", end));
        }
        window.end_at(end); // bits below the end mean nothing
        window.absorb();
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn marked(window: &ProducerWindow, number: u64) -> bool {
        window.seen(number) == Seen::Yes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Against a naive set: a window invents nothing, knows everything from its base on, and
        /// its base only moves past a hole further than the capacity behind the newest number.
        #[test]
        fn a_window_may_forget_but_never_invents(
            start in prop::sample::select(vec![0u64, 5, 63, 1 << 40, u64::MAX - 4_000]),
            steps in prop::collection::vec((0u64..1_500, 1u64..150), 1..40),
            capacity in prop::sample::select(vec![64u64, 100, 512]),
        ) {
            let (mut window, mut naive) = (ProducerWindow::default(), BTreeSet::new());
            for (offset, length) in steps {
                let first = start + offset;
                let next = first.saturating_add(length);
                let before = window.clone();
                window.mark_within(capacity, first, next);
                naive.extend(first..next);
                for n in start.saturating_sub(3)..start.saturating_add(1_700) {
                    let known = n >= window.base() && naive.contains(&n);
                    prop_assert_eq!(marked(&window, n), known, "{} of {:?}", n, window);
                }
                prop_assert!(!naive.contains(&window.end()));
                if before != ProducerWindow::default() && window.base() > before.base() {
                    prop_assert!(next - before.end() > capacity);
                }
                prop_assert!(window.words.len() as u64 <= capacity / WORD + 2);
                prop_assert_eq!(ProducerWindow::decode(&window.encode()), Ok(window.clone()));
            }
        }

        #[test]
        fn any_bytes_are_a_window_or_refused(bytes: Vec<u8>) {
            let _ = ProducerWindow::decode(&bytes);
        }
    }

    #[test]
    fn in_order_batches_of_any_length_are_all_remembered() {
        let mut window = ProducerWindow::default();
        for batch in 0..100u64 {
            window.mark(batch * 100_000, (batch + 1) * 100_000);
        }
        assert_eq!((window.base(), window.end()), (0, 10_000_000));
        assert!(window.encode().len() < 16);
    }

    #[test]
    fn a_batch_that_overtook_the_first_one_does_not_hide_it() {
        let mut window = ProducerWindow::default();
        window.mark(10, 20);
        assert!(!marked(&window, 3));
        window.mark(0, 10);
        assert_eq!((window.base(), window.end()), (0, 20));
    }
}
