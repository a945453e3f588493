//! The decoder of a place among LATE facts, which is private otherwise, for the fuzz targets.

use crate::late::Cursor;

/// Reads the cursor of a stream over this many slots; true when it was taken.
///
/// # Panics
/// When what was read is not read again from what it is written as.
#[must_use]
pub fn late_cursor(text: &str, stream: &str, slots: u32) -> bool {
    let Ok(cursor) = Cursor::parse(text, stream, slots) else { return false };
    let again = Cursor::parse(&cursor.text(stream), stream, slots);
    assert_eq!(again.ok(), Some(cursor), "{text}");
    true
}
