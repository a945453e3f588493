//! The decoders of rows, keys and journals, which are private otherwise, for the fuzz targets.

use std::io::Cursor;

use bytes::Bytes;
use millrace_store::rules::{NodeRow, RunRow};
use millrace_store::{Incarnation, NodeId, Part, SlotEpoch};
use millrace_types::{Entity, KnownAt};
use xxhash_rust::xxh3::xxh3_64;

use crate::journal::{END, Ending, ITEM_HEADER, MAGIC, START, body_bytes, ending};
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
            assert_eq!(keys::part(&entity, part), bytes, "{part:?} of {entity:?}");
            true
        }),
    }
}

/// A batch of a journal with these values.
#[must_use]
pub fn journal_batch(seqno: u64, values: &[&[u8]]) -> Vec<u8> {
    let mut batch = vec![1];
    batch.extend((values.len() as u32).to_le_bytes());
    batch.extend(seqno.to_le_bytes());
    for value in values {
        let length = (value.len() as u32).to_le_bytes();
        // A key of three bytes in keyspace 0, not compressed.
        batch.extend([&[2, 0, 0][..], &[0; 8], &[3, 0], &length, &length, b"key", value].concat());
    }
    let sum = xxh3_64(&batch[START..]);
    batch.extend([&[3][..], &sum.to_le_bytes(), MAGIC].concat());
    batch
}

/// Looks through a journal, so many bytes at a time, as it is and with the sums of its batches made
/// good; true when it has batches and nothing else.
///
/// # Panics
/// When it is not judged alike however it is read, or not clean once what is torn is cut off.
#[must_use]
pub fn journal(bytes: &[u8], block: usize) -> bool {
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    // Neither is left out.
    let taken = [bytes, &mended].map(|journal| look_through(journal, block));
    taken.contains(&true)
}

fn look_through(journal: &[u8], block: usize) -> bool {
    let judged = |bytes: &[u8], block| {
        let mut last = None;
        (ending(Cursor::new(bytes), block, &mut last).expect("memory can be read"), last)
    };
    let found = judged(journal, journal.len().max(1));
    assert_eq!(judged(journal, block.max(1)), found, "in blocks of {block}");
    // A journal is given its length beforehand.
    assert_eq!(judged(&[journal, &[0; END]].concat(), block.max(1)), found, "with zeros behind");
    match found {
        (Ending::Clean, last) => last.is_some(),
        (Ending::Torn(at), last) => {
            let cut = judged(&journal[..at as usize], block.max(1));
            assert_eq!(cut, (Ending::Clean, last), "cut off at {at}");
            false
        }
        (Ending::Damaged(at), _) => {
            assert!(at <= journal.len() as u64, "damage lies in the journal");
            false
        }
    }
}

/// Makes the sums of batches good, so that what lies behind them is reached.
fn mend(journal: &mut [u8]) {
    let mut items = START;
    let mut at = items;
    while let Some(tag) = journal.get(at) {
        match tag {
            2 => {
                let Some(header) = journal[at..].first_chunk() else { return };
                at += ITEM_HEADER + body_bytes(header) as usize;
            }
            3 if journal.len() - at >= END => {
                let sum = xxh3_64(&journal[items..at]);
                journal[at + 1..at + 9].copy_from_slice(&sum.to_le_bytes());
                items = at + END + START;
                at = items;
            }
            _ => return,
        }
    }
}
