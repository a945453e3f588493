//! Decoders that are private otherwise, for the fuzz targets.

use bytes::Bytes;
use millrace_catalog::{Catalog, View};
use millrace_proto::v1;
use millrace_types::{Entity, Micros};

use crate::late::Cursor;
use crate::parity::sample::Sample;
use crate::training::{EventCursor, Question, SetVersion, Spine, SpineKind};

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

/// Reads the version of a training set over this many slots; true when it was taken.
///
/// # Panics
/// When what was read is not read again from what it is written as.
#[must_use]
pub fn training_version(text: &str, slots: u32) -> bool {
    let Ok(version) = SetVersion::parse(text, slots) else { return false };
    assert_eq!(SetVersion::parse(&version.text(), slots), Ok(version), "{text}");
    true
}

/// Reads a place among the events of a training set; true when it was taken.
///
/// # Panics
/// When what was read is not read again from what it is written as.
#[must_use]
pub fn training_cursor(text: &str, slots: u32) -> bool {
    let Ok(cursor) = EventCursor::parse(text, slots) else { return false };
    assert_eq!(EventCursor::parse(&cursor.text(), slots), Ok(cursor), "{text}");
    true
}

/// A sample of an answer about this entity.
#[must_use]
pub fn sample_of(entity: Entity) -> Vec<u8> {
    Sample::example(entity).encode()
}

/// Reads a sample of an answer; true when it was taken.
///
/// # Panics
/// When what was read is not read again from what it is written as.
#[must_use]
pub fn parity_sample(bytes: &[u8]) -> bool {
    let Ok(sample) = Sample::decode(bytes) else { return false };
    assert_eq!(Sample::decode(&sample.encode()), Ok(sample), "{bytes:?}");
    true
}

/// Reads what a training set is made of; true when it was taken.
#[must_use]
pub fn training_start(start: v1::TrainingSetStart) -> bool {
    Question::try_from(start).is_ok()
}

/// Reads a payload of a spine for a view; true when it was taken.
///
/// # Panics
/// When a row that was taken has no key.
#[must_use]
pub fn spine(catalog: &Catalog, view: &View, payload: Bytes) -> bool {
    let mut spine = Spine::new(SpineKind::of(catalog, &[view]), 0, Micros::MAX);
    if spine.accept(payload).is_err() {
        return false;
    }
    let (_, section) = spine.take();
    let named = &section.kinds[0];
    assert_eq!(named.rows.len(), section.rows(), "every row has an entity");
    for (row, entity) in named.rows.iter().enumerate() {
        let (_, key) = named.entities.get(*entity);
        assert!(!key.as_bytes().is_empty(), "row {row} has a key");
    }
    true
}
