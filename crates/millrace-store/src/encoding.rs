//! The binary forms of a mark and of a member, for stores that keep each as one value.
//!
//! Layout (version 1, persisted): `version u8 · fields as varints and lists in the order of
//! [`Mark`] and [`Member`]`. Stores check the bytes themselves: fjall sums its blocks, a CQL server its tables.

use millrace_types::chunk::{
    put_list, put_stream_watermark, put_view_watermark, put_watermark, read_list,
    read_stream_watermark, read_view_watermark, read_watermark,
};
use millrace_types::codec::{DecodeError, Reader, put_signed, put_varint};
use millrace_types::{Filled, IncarnationWatermarks, KnownAt, Position, Retained, SlotId};

use crate::port::{Incarnation, Mark, Member, MemberSlot, NodeId};

const VERSION: u8 = 1;

/// Encodes a mark.
#[must_use]
pub fn encode_mark(mark: &Mark) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(VERSION);
    put_position(&mut out, mark.position);
    put_signed(&mut out, mark.closed.0);
    put_list(&mut out, &mark.watermarks, put_watermark);
    put_list(&mut out, &mark.incarnations, |out, w| {
        put_varint(out, w.incarnation);
        put_list(out, &w.streams, put_stream_watermark);
    });
    put_list(&mut out, &mark.views, put_view_watermark);
    put_list(&mut out, &mark.latest, put_watermark);
    match mark.oldest_waiting {
        None => out.push(0),
        Some(position) => {
            out.push(1);
            put_position(&mut out, position);
        }
    }
    put_varint(&mut out, u64::from(mark.filled.version));
    put_varint(&mut out, u64::from(mark.filled.toward));
    put_varint(&mut out, mark.filled.below);
    put_varint(&mut out, mark.erasures);
    if mark.retained != Retained::default() {
        mark.retained.encode(&mut out);
    }
    out
}

/// Decodes a mark.
///
/// # Errors
/// [`DecodeError`] when the bytes are no mark of a known version.
pub fn decode_mark(bytes: &[u8]) -> Result<Mark, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("mark version")? {
        VERSION => {}
        other => {
            return Err(DecodeError::Invalid { what: "mark version", found: u64::from(other) });
        }
    }
    Ok(Mark {
        position: read_position(&mut reader)?,
        closed: KnownAt(reader.signed("closed")?),
        watermarks: read_list(&mut reader, "watermarks", read_watermark)?,
        incarnations: read_list(&mut reader, "incarnations", |r| {
            let incarnation = r.varint("incarnation")?;
            let streams = read_list(r, "streams", read_stream_watermark)?;
            Ok(IncarnationWatermarks { incarnation, streams })
        })?,
        views: read_list(&mut reader, "views", read_view_watermark)?,
        latest: read_list(&mut reader, "latest", read_watermark)?,
        oldest_waiting: match reader.u8("oldest waiting")? {
            0 => None,
            1 => Some(read_position(&mut reader)?),
            other => {
                return Err(DecodeError::Invalid {
                    what: "oldest waiting",
                    found: u64::from(other),
                });
            }
        },
        filled: match reader.is_empty() {
            // Marks did not always tell.
            true => Filled::FIRST,
            false => Filled {
                version: reader.u32("filled version")?,
                toward: reader.u32("backfilled version")?,
                below: reader.varint("backfilled hash")?,
            },
        },
        // Marks of earlier versions end here: there were no erasures.
        erasures: if reader.is_empty() { 0 } else { reader.varint("erasures")? },
        // Marks of slots that never forgot end here.
        retained: match reader.is_empty() {
            true => Retained::default(),
            false => Retained::decode(&mut reader)?,
        },
    })
}

/// Encodes a member.
#[must_use]
pub fn encode_member(member: &Member) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 4 * member.slots.len());
    out.push(VERSION);
    put_text(&mut out, &member.node.0);
    put_varint(&mut out, member.incarnation.0);
    put_text(&mut out, &member.endpoint);
    put_varint(&mut out, u64::from(member.weight));
    put_varint(&mut out, member.beat);
    out.push(u8::from(member.leaving));
    put_list(&mut out, &member.slots, |out, slot| {
        put_varint(out, u64::from(slot.slot.0));
        put_varint(out, slot.epoch);
        put_varint(out, slot.load);
        put_text(out, slot.offered_to.as_ref().map_or("", |node| &node.0));
    });
    out
}

/// Decodes a member.
///
/// # Errors
/// [`DecodeError`] when the bytes are no member of a known version.
pub fn decode_member(bytes: &[u8]) -> Result<Member, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("member version")? {
        VERSION => {}
        other => {
            return Err(DecodeError::Invalid { what: "member version", found: u64::from(other) });
        }
    }
    Ok(Member {
        node: NodeId(read_text(&mut reader, "node")?),
        incarnation: Incarnation(reader.varint("incarnation")?),
        endpoint: read_text(&mut reader, "endpoint")?,
        weight: reader.u32("weight")?,
        beat: reader.varint("beat")?,
        leaving: reader.u8("leaving")? != 0,
        slots: read_list(&mut reader, "slots", |r| {
            Ok(MemberSlot {
                slot: SlotId(r.u32("slot")?),
                epoch: r.varint("epoch")?,
                load: r.varint("load")?,
                offered_to: Some(read_text(r, "offered to")?).filter(|n| !n.is_empty()).map(NodeId),
            })
        })?,
    })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn read_text(reader: &mut Reader<'_>, what: &'static str) -> Result<String, DecodeError> {
    let text = std::str::from_utf8(reader.bytes(what)?).map_err(|_| DecodeError::NotUtf8(what))?;
    Ok(text.to_owned())
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    put_varint(out, position.epoch);
    put_varint(out, position.sequence);
}

fn read_position(reader: &mut Reader<'_>) -> Result<Position, DecodeError> {
    Ok(Position { epoch: reader.varint("epoch")?, sequence: reader.varint("sequence")? })
}

#[cfg(test)]
mod tests {
    use millrace_types::{Micros, StreamId, StreamWatermark};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_round_trip(
            numbers: (u64, u64, i64),
            streams in prop::collection::vec((any::<u16>(), any::<i64>(), any::<bool>()), 0..4),
            waiting: Option<(u64, u64)>,
            filled: (u32, u32, u64),
            forgets: bool,
        ) {
            let stated: Vec<_> = streams
                .iter()
                .map(|&(s, at, idle)| StreamWatermark { stream: StreamId(s), at: Micros(at), idle })
                .collect();
            let watermarks: Vec<_> = stated.iter().map(|w| (w.stream, w.at)).collect();
            let mark = Mark {
                position: Position { epoch: numbers.0, sequence: numbers.1 },
                closed: KnownAt(numbers.2),
                watermarks: watermarks.clone(),
                incarnations: vec![
                    IncarnationWatermarks { incarnation: numbers.0, streams: stated },
                    IncarnationWatermarks { incarnation: 7, streams: vec![] },
                ],
                views: vec![(numbers.1, Micros(numbers.2))],
                latest: watermarks,
                oldest_waiting: waiting.map(|(epoch, sequence)| Position { epoch, sequence }),
                filled: Filled { version: filled.0, toward: filled.1, below: filled.2 },
                erasures: numbers.1,
                retained: Retained::default(),
            };
            if forgets {
                let retained = Retained {
                    boundaries: [(StreamId(3), Micros(numbers.2))].into_iter().collect(),
                    base: waiting.map(|(epoch, sequence)| Position { epoch, sequence }),
                    scrubbed: [(StreamId(1), Micros(7))].into_iter().collect(),
                };
                let mark = Mark { retained, ..mark.clone() };
                prop_assert_eq!(decode_mark(&encode_mark(&mark)), Ok(mark));
            }
            let bytes = encode_mark(&mark);
            prop_assert_eq!(decode_mark(&bytes), Ok(mark.clone()));
            // As marks were before they told of it.
            let told = |number: u64| {
                let mut out = Vec::new();
                put_varint(&mut out, number);
                out.len()
            };
            let tail = told(filled.0.into()) + told(filled.1.into()) + told(filled.2) + told(numbers.1);
            let before = decode_mark(&bytes[..bytes.len() - tail]);
            prop_assert_eq!(before, Ok(Mark { filled: Filled::FIRST, erasures: 0, ..mark }));
        }

        #[test]
        fn any_bytes_are_a_mark_or_refused(bytes: Vec<u8>) {
            let _ = decode_mark(&bytes);
        }
    }
}
