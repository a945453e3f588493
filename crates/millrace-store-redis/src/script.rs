//! The script that marks, and the way back from a window in Redis to one of this process.

use std::ops::Range;

use millrace_store::window::ProducerWindow;

/// Says how the fields of a window are laid out. Producers have no epochs (a producer's id names one
/// numbering for ever), so the script's epoch is this constant: a later layout raises it, and then
/// older processes leave such windows alone.
pub(crate) const LAYOUT: u64 = 1;

/// Numbers from here on are never marked: in the script they are doubles.
pub(crate) const NUMBERS_END: u64 = 1 << 53;

/// The script's text; `window.lua` says what it does.
pub(crate) const SOURCE: &str = include_str!("window.lua");

/// The fields of a window, in the order of [`Fields`].
pub(crate) const FIELDS: [&str; 4] = ["e", "b", "n", "m"];

/// A window as `HMGET` gives it: layout, base, end and bitmap, each missing where there is none.
pub(crate) type Fields = (Option<u64>, Option<u64>, Option<u64>, Option<Vec<u8>>);

/// Puts what a window in Redis knows into one of this process. A window of another layout, or one
/// that makes no sense, knows nothing.
pub(crate) fn merge(fields: &Fields, window: &mut ProducerWindow) {
    let (Some(LAYOUT), Some(base), Some(end), bits) = fields else { return };
    if base > end || *end > NUMBERS_END {
        return;
    }
    window.mark(*base, *end);
    for run in bits.iter().flat_map(|bits| runs(*end, bits)) {
        window.mark(run.start, run.end);
    }
}

/// The runs of set bits beyond `end`.
fn runs(end: u64, bits: &[u8]) -> impl Iterator<Item = Range<u64>> {
    let origin = end / 8 * 8;
    let is_set = move |at: u64| {
        let byte = bits.get(usize::try_from(at / 8).unwrap_or(usize::MAX));
        byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    };
    let (mut at, last) = (end - origin, bits.len() as u64 * 8);
    std::iter::from_fn(move || {
        let start = (at..last).find(|at| is_set(*at))?;
        at = (start..last).find(|at| !is_set(*at)).unwrap_or(last);
        Some(origin + start..origin + at)
    })
}

#[cfg(test)]
mod tests {
    use millrace_store::Seen;

    use super::*;

    #[test]
    fn bits_beyond_the_end_become_runs_and_those_below_mean_nothing() {
        // end 13 = byte 1: bits 8..13 of the first byte lie below it.
        let bits = [0b1101_1111, 0b0000_0001, 0b1000_0000];
        let found: Vec<_> = runs(13, &bits).collect();
        assert_eq!(found, [14..17, 31..32]);
        assert_eq!(runs(16, &[]).count(), 0);
    }

    #[test]
    fn a_window_of_another_layout_or_without_sense_knows_nothing() {
        let known = |fields: Fields| {
            let mut window = ProducerWindow::default();
            merge(&fields, &mut window);
            (0..30).filter(|n| window.seen(*n) == Seen::Yes).collect::<Vec<_>>()
        };
        let bits = || Some(vec![0b1000_0000]);
        assert_eq!(known((Some(LAYOUT), Some(3), Some(5), bits())), [3, 4, 7]);
        assert_eq!(known((Some(LAYOUT + 1), Some(3), Some(5), bits())), []);
        assert_eq!(known((None, None, None, None)), []);
        assert_eq!(known((Some(LAYOUT), Some(9), Some(5), bits())), []);
        assert_eq!(known((Some(LAYOUT), Some(0), Some(u64::MAX), bits())), []);
    }
}
