//! The reader of windows, which is private otherwise, for the fuzz targets.

use millrace_store::Seen;
use millrace_store::window::ProducerWindow;
use millrace_types::codec::{DecodeError, Reader, put_varint};

use crate::script::{Fields, LAYOUT, merge};

/// A window as Redis has it, in the form that [`window`] takes.
#[must_use]
pub fn example(base: u64, end: u64, bits: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [LAYOUT, base, end] {
        put_varint(&mut bytes, number);
    }
    bytes.extend_from_slice(bits);
    bytes
}

fn read(bytes: &[u8]) -> Result<Fields, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut number = || reader.varint("window").map(Some);
    let numbers = (number()?, number()?, number()?);
    let bits = Some(reader.rest().to_vec()).filter(|bits| !bits.is_empty());
    Ok((numbers.0, numbers.1, numbers.2, bits))
}

/// Takes over a window as Redis has it; true when it knew something.
///
/// # Panics
/// When a number counts as seen that is not marked, or what was taken over is not read again from what
/// it is written as.
#[must_use]
pub fn window(bytes: &[u8]) -> bool {
    let Ok(fields) = read(bytes) else { return false };
    let mut window = ProducerWindow::default();
    merge(&fields, &mut window);
    assert_eq!(ProducerWindow::decode(&window.encode()).as_ref(), Ok(&window));
    if window == ProducerWindow::default() {
        return false;
    }
    let (_, base, end, bits) = &fields;
    let (base, end) = (base.unwrap_or_default(), end.unwrap_or_default());
    let bits = bits.as_deref().unwrap_or_default();
    let origin = end / 8 * 8;
    let is_marked = |number: u64| {
        let at = number.wrapping_sub(origin);
        let byte = bits.get(usize::try_from(at / 8).unwrap_or(usize::MAX));
        (base..end).contains(&number) || byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    };
    // Where something may be marked, and a little around it.
    let ends = [base, end, window.base(), window.end()];
    let around = ends.into_iter().flat_map(|n| n.saturating_sub(9)..n.saturating_add(9));
    for number in around.chain(origin..origin + bits.len() as u64 * 8 + 9) {
        let is_seen = window.seen(number) == Seen::Yes;
        assert!(!is_seen || is_marked(number), "{number} of {fields:?}");
    }
    true
}
