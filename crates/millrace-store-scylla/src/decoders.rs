//! The decoders of names and values, which are private otherwise, for the fuzz targets.

use millrace_store::Part;
use millrace_types::KnownAt;

use crate::keys;

/// A value and a name of each kind, each behind the number by which [`check`] knows it.
#[must_use]
pub fn examples() -> Vec<Vec<u8>> {
    let ver = KnownAt(-7);
    let parts = [Part::Head, Part::RebuiltHead(ver), Part::Page(ver, 2), Part::Ids(ver, 3)];
    let names = parts.into_iter().map(|part| (1, keys::part(part)));
    let all = [(0, keys::versioned(ver, b"a part"))].into_iter().chain(names);
    all.map(|(number, bytes)| [vec![number], bytes].concat()).collect()
}

/// Reads what the first byte says. True when the bytes were taken.
///
/// # Panics
/// When what was read is not written again as it was.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    let Some((number, bytes)) = data.split_first() else { return false };
    match number % 2 {
        0 => keys::read_versioned(String::new, bytes.to_vec()).is_ok_and(|(ver, value)| {
            assert_eq!(keys::versioned(ver, &value), bytes);
            true
        }),
        _ => keys::read_part(bytes).is_some_and(|part| {
            assert_eq!(keys::part(part), bytes, "{part:?}");
            true
        }),
    }
}
