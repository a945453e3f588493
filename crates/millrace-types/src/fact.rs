//! Facts and their binary form in chunks and pages.
//!
//! A fact in a chunk is `kind varint · key bytes · stream varint · body`; in a page of one entity
//! and stream it is the body alone, copied as it is. A body is `flags u8 · at zigzag · [seq varint]
//! · [revision varint] · [known_at zigzag] · id bytes · row bytes`. Flags: bits 0–1 the op, bit 2
//! seq present (non-zero), bit 3 revision present (non-zero), bit 4 known_at stated (an import).

use std::cmp::Ordering;

use crate::codec::{DecodeError, Reader, put_bytes, put_signed, put_varint};
use crate::entity::{Entity, EntityKey, KindId, check_key};
use crate::position::KnownAt;
use crate::row::{Row, RowView};
use crate::time::Micros;

/// The number the catalog gave a stream when it first appeared; it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u16);

/// What a fact says. The numbers are persisted and give the order ASSERT < END.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    /// This is so.
    Assert = 0,
    /// Changelogs only: nothing is so from `at` on.
    End = 1,
    /// The id never was, up to and including this revision.
    Retract = 2,
}

/// The place of an event or a version among its entity's: `(at, seq, id)`, never arrival order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey<'a> {
    /// Event time or valid-from.
    pub at: Micros,
    /// The source's order among equal `at`, compared unsigned; 0 when absent.
    pub seq: u64,
    /// The id, bytewise.
    pub id: &'a [u8],
}

/// A fact that owns its bytes, apart from the entity it is routed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FactBody {
    /// Identity within (stream, entity).
    pub id: Box<[u8]>,
    /// A greater revision of the same id replaces a smaller one.
    pub revision: u64,
    /// Event time or valid-from. A RETRACT's never matters.
    pub at: Micros,
    /// The source's order; 0 when absent.
    pub seq: u64,
    /// What it says.
    pub op: Op,
    /// The values.
    pub row: Row,
    /// The stated known_at of an import; `None` for published facts, which get their chunk's. See
    /// [`FactView::known_in`].
    pub known_at: Option<KnownAt>,
}

/// A fact routed to one of its entities.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Its stream.
    pub stream: StreamId,
    /// The entity it is routed to.
    pub entity: Entity,
    /// The fact itself.
    pub body: FactBody,
}

/// A fact body that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactView<'a> {
    /// Identity within (stream, entity).
    pub id: &'a [u8],
    /// See [`FactBody::revision`].
    pub revision: u64,
    /// See [`FactBody::at`].
    pub at: Micros,
    /// See [`FactBody::seq`].
    pub seq: u64,
    /// See [`FactBody::op`].
    pub op: Op,
    /// See [`FactBody::row`].
    pub row: RowView<'a>,
    /// See [`FactBody::known_at`].
    pub known_at: Option<KnownAt>,
    /// The encoded body, for copying.
    pub bytes: &'a [u8],
}

/// A fact record of a chunk that borrows its bytes.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// The kind of its entity.
    pub kind: KindId,
    /// The canonical key bytes of its entity.
    pub key: &'a [u8],
    /// Its stream.
    pub stream: StreamId,
    /// The fact.
    pub body: FactView<'a>,
}

const HAS_SEQ: u8 = 1 << 2;
const HAS_REVISION: u8 = 1 << 3;
const HAS_KNOWN_AT: u8 = 1 << 4;

impl FactBody {
    /// Appends the encoded body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_body(
            out,
            self.op,
            self.at,
            self.seq,
            self.revision,
            self.known_at,
            &self.id,
            self.row.as_bytes(),
        );
    }

    /// The same fact, borrowed, over `buffer`, which receives its encoding.
    ///
    /// # Panics
    /// Never: an encoded body decodes.
    pub fn view<'a>(&self, buffer: &'a mut Vec<u8>) -> FactView<'a> {
        buffer.clear();
        self.encode(buffer);
        FactView::read(&mut Reader::new(buffer)).expect("an encoded body decodes")
    }
}

/// Appends a fact body from its parts. `row` is an encoded row.
#[inline]
#[expect(clippy::too_many_arguments, reason = "the parts of a fact, in the order they are written")]
pub fn encode_body(
    out: &mut Vec<u8>,
    op: Op,
    at: Micros,
    seq: u64,
    revision: u64,
    known_at: Option<KnownAt>,
    id: &[u8],
    row: &[u8],
) {
    let mut flags = op as u8;
    flags |= if seq != 0 { HAS_SEQ } else { 0 };
    flags |= if revision != 0 { HAS_REVISION } else { 0 };
    flags |= if known_at.is_some() { HAS_KNOWN_AT } else { 0 };
    out.push(flags);
    put_signed(out, at.0);
    if seq != 0 {
        put_varint(out, seq);
    }
    if revision != 0 {
        put_varint(out, revision);
    }
    if let Some(known_at) = known_at {
        put_signed(out, known_at.0);
    }
    put_bytes(out, id);
    put_bytes(out, row);
}

/// Appends what stands before the body in a chunk: the entity and the stream.
#[inline]
pub fn encode_route(out: &mut Vec<u8>, kind: KindId, key: &[u8], stream: StreamId) {
    put_varint(out, u64::from(kind.0));
    put_bytes(out, key);
    put_varint(out, u64::from(stream.0));
}

impl Fact {
    /// Appends the fact as a chunk holds it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_route(out, self.entity.kind, self.entity.key.as_bytes(), self.stream);
        self.body.encode(out);
    }
}

impl<'a> FactView<'a> {
    /// Reads one body and moves past it.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no fact body. The row is not looked into.
    #[inline]
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let start = reader.rest();
        let flags = reader.u8("fact flags")?;
        let op = match flags & 3 {
            0 => Op::Assert,
            1 => Op::End,
            2 => Op::Retract,
            other => return Err(DecodeError::Invalid { what: "op", found: u64::from(other) }),
        };
        let at = Micros(reader.signed("at")?);
        let seq = if flags & HAS_SEQ != 0 { reader.varint("seq")? } else { 0 };
        let revision = if flags & HAS_REVISION != 0 { reader.varint("revision")? } else { 0 };
        let known_at = match flags & HAS_KNOWN_AT {
            0 => None,
            _ => Some(KnownAt(reader.signed("known_at")?)),
        };
        let id = reader.bytes("id")?;
        let row = RowView::new_unchecked(reader.bytes("row")?);
        let bytes = &start[..start.len() - reader.rest().len()];
        Ok(Self { id, revision, at, seq, op, row, known_at, bytes })
    }

    /// Its place in the order of events or versions.
    #[inline]
    #[must_use]
    pub fn order_key(&self) -> OrderKey<'a> {
        OrderKey { at: self.at, seq: self.seq, id: self.id }
    }

    /// Since when this copy counts, in a chunk with this known_at: what an import stated, else the
    /// chunk's. Of what a chunk is told nothing can have been known later than the chunk, whatever
    /// clocks say: so whoever has everything up to a chunk may answer as known at the chunk's. Of
    /// several copies of a fact the least counts.
    #[inline]
    #[must_use]
    pub fn known_in(&self, chunk: KnownAt) -> KnownAt {
        self.known_at.map_or(chunk, |stated| stated.min(chunk))
    }

    /// An owned copy.
    #[must_use]
    pub fn to_body(&self) -> FactBody {
        FactBody {
            id: self.id.into(),
            revision: self.revision,
            at: self.at,
            seq: self.seq,
            op: self.op,
            row: self.row.to_row(),
            known_at: self.known_at,
        }
    }

    /// The order that decides which ASSERT or END of an id is live: `(revision, at, seq, op, row)`.
    #[must_use]
    pub fn live_cmp(&self, other: &FactView<'_>) -> Ordering {
        (self.revision, self.at, self.seq, self.op)
            .cmp(&(other.revision, other.at, other.seq, other.op))
            .then_with(|| self.row.total_cmp(other.row))
    }

    /// True when both say the same: everything but the stated known_at is equal. For RETRACTs only
    /// the revision counts, since their `at` and row never matter.
    #[must_use]
    pub fn same_payload(&self, other: &FactView<'_>) -> bool {
        if self.op == Op::Retract && other.op == Op::Retract {
            return self.revision == other.revision;
        }
        (self.revision, self.at, self.seq, self.op)
            == (other.revision, other.at, other.seq, other.op)
            && self.row.as_bytes() == other.row.as_bytes()
    }
}

impl<'a> RecordView<'a> {
    /// Reads one fact record of a chunk and moves past it.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no record.
    #[inline]
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = KindId(reader.u16("kind")?);
        let key = reader.bytes("key")?;
        let stream = StreamId(reader.u16("stream")?);
        Ok(Self { kind, key, stream, body: FactView::read(reader)? })
    }

    /// Appends the encoded record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.kind.0));
        put_bytes(out, self.key);
        put_varint(out, u64::from(self.stream.0));
        out.extend_from_slice(self.body.bytes);
    }

    /// An owned copy.
    ///
    /// # Errors
    /// [`DecodeError`] when the key is not canonical.
    pub fn to_fact(&self) -> Result<Fact, DecodeError> {
        Ok(Fact {
            stream: self.stream,
            entity: Entity { kind: self.kind, key: EntityKey::from_bytes(self.key)? },
            body: self.body.to_body(),
        })
    }
}

/// Reads fact records of another process through once, with their keys and rows, and counts them.
/// Whether a row fits its stream is for the catalog to say.
///
/// # Errors
/// [`DecodeError`] for the first that is not whole.
pub fn check_records(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut count = 0;
    for record in records(bytes) {
        let record = record?;
        check_key(record.key)?;
        RowView::check(record.body.row.as_bytes())?;
        count += 1;
    }
    Ok(count)
}

/// Iterates over the fact records in `bytes`; ends after the first error.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<RecordView<'_>, DecodeError>> {
    let mut reader = Reader::new(bytes);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || reader.is_empty() {
            return None;
        }
        let record = RecordView::read(&mut reader);
        failed = record.is_err();
        Some(record)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::KeyPart;
    use crate::row::tests::any_value;

    pub(crate) fn any_fact() -> impl Strategy<Value = Fact> {
        let op = prop_oneof![Just(Op::Assert), Just(Op::End), Just(Op::Retract)];
        let row = prop::collection::vec(any_value(), 0..4);
        (any::<(u16, i64, u16, u64, i64, u64, Option<i64>)>(), any::<Vec<u8>>(), op, row).prop_map(
            |((kind, key, stream, revision, at, seq, known_at), id, op, row)| Fact {
                stream: StreamId(stream),
                entity: Entity {
                    kind: KindId(kind),
                    key: EntityKey::try_new(&[KeyPart::Int64(key)]).unwrap(),
                },
                body: FactBody {
                    id: id.into(),
                    revision,
                    at: Micros(at),
                    seq,
                    op,
                    row: Row::from_values(&row),
                    known_at: known_at.map(KnownAt),
                },
            },
        )
    }

    #[test]
    fn a_stated_known_at_counts_up_to_its_chunks() {
        let known_in = |stated: Option<i64>| {
            let body = FactBody {
                id: b"a"[..].into(),
                revision: 0,
                at: Micros(1),
                seq: 0,
                op: Op::Assert,
                row: Row::from_values(&[]),
                known_at: stated.map(KnownAt),
            };
            body.view(&mut Vec::new()).known_in(KnownAt(100)).0
        };
        assert_eq!([None, Some(-3), Some(99), Some(101)].map(known_in), [100, -3, 99, 100]);
    }

    proptest! {
        #[test]
        fn facts_round_trip(facts in prop::collection::vec(any_fact(), 0..5)) {
            let mut bytes = Vec::new();
            for fact in &facts {
                fact.encode(&mut bytes);
            }
            let back: Vec<Fact> = records(&bytes).map(|r| r.unwrap().to_fact().unwrap()).collect();
            prop_assert_eq!(back, facts);
        }

        #[test]
        fn any_bytes_are_records_or_refused(bytes: Vec<u8>) {
            let _ = records(&bytes).filter_map(Result::ok).count();
        }
    }
}
