//! The decoders of rows and keys, which are private otherwise, for the fuzz targets.

use bytes::Bytes;
use millrace_store::rules::{NodeRow, RunRow};
use millrace_store::{Incarnation, NodeId, Part, SlotEpoch};
use millrace_types::{Entity, KnownAt};

use crate::{keys, rows};

/// A valid row of each kind, and the key of a part of `entity`; each behind the number by which
/// [`check`] knows it.
#[must_use]
pub fn examples(entity: &Entity) -> Vec<Bytes> {
    let (node, incarnation) = (NodeId("node".to_owned()), Incarnation(7));
    let (floor, ceiling) = (KnownAt(-1), KnownAt(1 << 50));
    let released = Some((3, KnownAt(9)));
    let epoch = SlotEpoch { epoch: 2, node, incarnation, floor, previous_end: 5, released };
    let sealed = [
        rows::encode_node(NodeRow { newest: incarnation, ceiling }),
        rows::encode_run(RunRow { renewals: 3, fenced: true }),
        rows::encode_epoch(&epoch),
        rows::encode_versioned(ceiling, b"a part"),
    ];
    let key = keys::part(entity, Part::Page(ceiling, 2));
    let bare = sealed.iter().map(|row| &row[rows::SUM..]).chain([key.as_slice()]);
    let numbered = |(number, bytes): (usize, &[u8])| [&[number as u8], bytes].concat().into();
    bare.enumerate().map(numbered).collect()
}

/// Reads the row that the first byte says, behind a sum that is made good. True when the bytes were
/// taken.
///
/// # Panics
/// When what was read is not read again from what it is written as.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    let Some((number, bytes)) = data.split_first() else { return false };
    let sealed = rows::seal(bytes);
    match number % 5 {
        0 => rows::decode_node(&sealed).is_ok_and(|row| {
            assert_eq!(rows::decode_node(&rows::encode_node(row)), Ok(row));
            true
        }),
        1 => rows::decode_run(&sealed).is_ok_and(|row| {
            assert_eq!(rows::decode_run(&rows::encode_run(row)), Ok(row));
            true
        }),
        2 => rows::decode_epoch(&sealed).is_ok_and(|row| {
            assert_eq!(rows::decode_epoch(&rows::encode_epoch(&row)), Ok(row));
            true
        }),
        3 => rows::decode_versioned(&sealed).is_ok_and(|(ver, part)| {
            let again = rows::encode_versioned(ver, &part);
            assert_eq!(rows::decode_versioned(&again), Ok((ver, part)));
            true
        }),
        _ => keys::read_part(bytes).is_some_and(|(entity, part)| {
            let again = keys::part(&entity, part);
            assert_eq!(keys::read_part(&again), Some((entity, part)));
            true
        }),
    }
}
