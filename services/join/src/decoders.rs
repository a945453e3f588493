//! The decoder of a subscription's cursor, which is private otherwise, for the fuzz targets.

use crate::subscribe::cursor::Cursor;

/// Reads the cursor of a view of this many slots; true when it was taken.
#[must_use]
pub fn cursor(text: &str, view: &str, slots: usize) -> bool {
    Cursor::parse(text, view, slots).is_ok()
}
