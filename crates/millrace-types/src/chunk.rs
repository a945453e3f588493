//! Chunks of the slot log: a header with what was judged, then the facts as ingest encoded them.
//!
//! Layout (persisted): `version u8 · crc32 u32 little-endian over all that follows · header length
//! varint · header · facts`. Version 1 holds published facts alone; version 2 is written where an
//! import stated the known_at of facts, and its header ends with the least of them; version 3 is written
//! where entities are erased, and its header ends with that, and with what is erased; version 4 where
//! facts are forgotten for their stream's retention, and its header ends with all of that, and with what
//! is forgotten.

mod erasures;
mod retention;
mod verdicts;

use crate::codec::{DecodeError, Reader, put_bytes, put_signed, put_varint};
use crate::entity::{Entity, EntityKey, KindId};
use crate::fact::{RecordView, StreamId, records};
use crate::position::KnownAt;
use crate::time::Micros;
use crate::verdict::Verdict;
use verdicts::{put_verdict, read_verdict};

pub use erasures::{ErasedEntity, ErasureNotes};
pub use retention::{Boundaries, RetentionNotes};

/// A chunk of published facts.
const PUBLISHED: u8 = 1;
/// A chunk with facts whose known_at an import stated.
const STATED: u8 = 2;

/// A chunk about erasures.
const ERASING: u8 = 3;
/// A chunk about the retention of streams.
const FORGETTING: u8 = 4;

/// What an ingest incarnation says of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamWatermark {
    /// The stream.
    pub stream: StreamId,
    /// How far its event time is complete.
    pub at: Micros,
    /// True when all its producers are idle: it then holds no view back.
    pub idle: bool,
}

/// The watermarks one ingest incarnation has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncarnationWatermarks {
    /// The incarnation: a number drawn when an ingest process starts.
    pub incarnation: u64,
    /// What it has stated of each stream.
    pub streams: Vec<StreamWatermark>,
}

/// A marker: this entity was rebuilt from all chunks before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The entity.
    pub entity: Entity,
    /// The version its new head was put at; the head part carries this name.
    pub part: KnownAt,
}

/// What a chunk says about itself and about what was judged. Replay re-judges nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkHeader {
    /// The log's clock when the chunk was made; strictly increasing within a slot.
    pub known_at: KnownAt,
    /// The catalog version its facts were encoded and judged under.
    pub catalog_version: u32,
    /// The number of fact records.
    pub facts: u32,
    /// The least known_at that an import stated for one of its facts; `None` where none did.
    pub least_stated: Option<KnownAt>,
    /// The least and greatest `at` of its facts.
    pub at_range: Option<(Micros, Micros)>,
    /// The verdicts other than ACCEPTED, by the index of the fact, ascending.
    pub verdicts: Vec<(u32, Verdict)>,
    /// Entities that became dirty in this chunk: their facts from this chunk on wait.
    pub dirtied: Vec<Entity>,
    /// Entities whose rebuild takes effect here.
    pub rebuilt: Vec<Rebuilt>,
    /// Watermarks by ingest incarnation, as known after this chunk, where they changed.
    pub watermarks: Vec<IncarnationWatermarks>,
    /// The slot's own watermark of each stream after this chunk.
    pub slot_watermarks: Vec<(StreamId, Micros)>,
    /// The watermark of each view after this chunk, by [`view_key`](crate::entity::view_key).
    pub view_watermarks: Vec<(u64, Micros)>,
    /// Ingest incarnations that left.
    pub departures: Vec<u64>,
    /// What it says about erasures, if anything.
    pub erasures: Option<ErasureNotes>,
    /// What it says about the retention of streams, if anything.
    pub retention: Option<RetentionNotes>,
    /// Fingerprints of the entities of its facts (the low half of their hash), ascending and
    /// distinct, so that scans skip chunks.
    pub filter: Vec<u32>,
}

/// A chunk: header and facts, decoded lazily.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<B> {
    /// The header.
    pub header: ChunkHeader,
    bytes: B,
    facts_at: usize,
}

/// The fingerprint of an entity in a chunk's filter.
#[inline]
#[must_use]
pub fn fingerprint(entity_hash: u64) -> u32 {
    entity_hash as u32
}

impl ChunkHeader {
    /// True when the chunk may hold a fact of an entity with this hash.
    #[must_use]
    pub fn may_contain(&self, entity_hash: u64) -> bool {
        self.filter.binary_search(&fingerprint(entity_hash)).is_ok()
    }

    /// True when a fact of the chunk may count for a reader as known at `known_at`: the chunk is known
    /// by then, or an import stated so of one of its facts. Which of them do is told by
    /// [`FactView::known_in`](crate::fact::FactView::known_in).
    #[must_use]
    pub fn may_be_known(&self, known_at: KnownAt) -> bool {
        self.known_at <= known_at || self.least_stated.is_some_and(|stated| stated <= known_at)
    }

    /// The verdicts of all facts, in order.
    pub fn all_verdicts(&self) -> impl Iterator<Item = Verdict> + '_ {
        let mut next = 0;
        (0..self.facts).map(move |index| match self.verdicts.get(next) {
            Some((at, verdict)) if *at == index => {
                next += 1;
                *verdict
            }
            _ => Verdict::Accepted,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_signed(out, self.known_at.0);
        put_varint(out, u64::from(self.catalog_version));
        put_varint(out, u64::from(self.facts));
        match self.at_range {
            None => out.push(0),
            Some((least, greatest)) => {
                out.push(1);
                put_signed(out, least.0);
                put_signed(out, greatest.0);
            }
        }
        put_varint(out, self.verdicts.len() as u64);
        let mut last = 0;
        for (index, verdict) in &self.verdicts {
            put_varint(out, u64::from(index - last));
            last = *index;
            put_verdict(out, *verdict);
        }
        put_list(out, &self.dirtied, put_entity);
        put_list(out, &self.rebuilt, |out, r| {
            put_entity(out, &r.entity);
            put_signed(out, r.part.0);
        });
        put_list(out, &self.watermarks, |out, w| {
            put_varint(out, w.incarnation);
            put_list(out, &w.streams, put_stream_watermark);
        });
        put_list(out, &self.slot_watermarks, put_watermark);
        put_list(out, &self.view_watermarks, put_view_watermark);
        put_list(out, &self.departures, |out, d| put_varint(out, *d));
        let mut last = 0;
        put_list(out, &self.filter, |out, f| {
            put_varint(out, u64::from(f - last));
            last = *f;
        });
        let stated = self.least_stated;
        match self.version() {
            PUBLISHED => return,
            STATED => {}
            _ => out.push(u8::from(stated.is_some())),
        }
        put_signed(out, stated.unwrap_or_default().0);
        if let Some(retention) = &self.retention {
            out.push(u8::from(self.erasures.is_some()));
            self.erasures.iter().for_each(|notes| notes.encode(out));
            retention.encode(out);
        } else if let Some(notes) = &self.erasures {
            notes.encode(out);
        }
    }

    fn version(&self) -> u8 {
        match (&self.retention, &self.erasures, self.least_stated) {
            (Some(_), _, _) => FORGETTING,
            (None, Some(_), _) => ERASING,
            (None, None, Some(_)) => STATED,
            (None, None, None) => PUBLISHED,
        }
    }

    fn decode(version: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let known_at = KnownAt(reader.signed("known_at")?);
        let catalog_version = reader.u32("catalog version")?;
        let facts = reader.u32("fact count")?;
        let at_range = match reader.u8("at range")? {
            0 => None,
            _ => Some((Micros(reader.signed("least at")?), Micros(reader.signed("greatest at")?))),
        };
        let mut last = 0u32;
        let verdicts = read_list(reader, "verdicts", |r| {
            let step = r.u32("verdict index")?;
            last = last
                .checked_add(step)
                .ok_or(DecodeError::Invalid { what: "verdict index", found: u64::from(step) })?;
            Ok((last, read_verdict(r)?))
        })?;
        let dirtied = read_list(reader, "dirtied", read_entity)?;
        let rebuilt = read_list(reader, "rebuilt", |r| {
            Ok(Rebuilt { entity: read_entity(r)?, part: KnownAt(r.signed("part")?) })
        })?;
        let watermarks = read_list(reader, "watermarks", |r| {
            let incarnation = r.varint("incarnation")?;
            let streams = read_list(r, "streams", read_stream_watermark)?;
            Ok(IncarnationWatermarks { incarnation, streams })
        })?;
        let slot_watermarks = read_list(reader, "slot watermarks", read_watermark)?;
        let view_watermarks = read_list(reader, "view watermarks", read_view_watermark)?;
        let departures = read_list(reader, "departures", |r| r.varint("departure"))?;
        let mut last = 0u32;
        let filter = read_list(reader, "filter", |r| {
            let step = r.u32("fingerprint")?;
            last = last
                .checked_add(step)
                .ok_or(DecodeError::Invalid { what: "fingerprint", found: u64::from(step) })?;
            Ok(last)
        })?;
        let (mut least_stated, mut erasures, mut retention) = (None, None, None);
        if version != PUBLISHED {
            let is_stated = version == STATED || reader.u8("stated known_at")? != 0;
            let stated = KnownAt(reader.signed("least stated known_at")?);
            least_stated = is_stated.then_some(stated);
        }
        if version == ERASING || version == FORGETTING && reader.u8("erases")? != 0 {
            erasures = Some(ErasureNotes::decode(reader)?);
        }
        if version == FORGETTING {
            retention = Some(RetentionNotes::decode(reader)?);
        }
        Ok(Self {
            known_at,
            catalog_version,
            facts,
            least_stated,
            at_range,
            verdicts,
            dirtied,
            rebuilt,
            watermarks,
            slot_watermarks,
            view_watermarks,
            departures,
            erasures,
            retention,
            filter,
        })
    }
}

/// Encodes a chunk from its header and its fact records, already encoded.
#[must_use]
pub fn encode_chunk<'a>(
    header: &ChunkHeader,
    facts: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut head = Vec::with_capacity(64 + header.filter.len() * 4);
    header.encode(&mut head);
    let mut out = Vec::with_capacity(head.len() + 4096);
    out.push(header.version());
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, &head);
    for part in facts {
        out.extend_from_slice(part);
    }
    let sum = crc32fast::hash(&out[5..]);
    out[1..5].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The number of facts that an encoded chunk says it has; `None` for what is no chunk. Nothing is
/// checked: this is for accounts, not for judging.
#[must_use]
pub fn fact_count(chunk: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(chunk);
    reader.u8("chunk version").ok().filter(|version| is_known(*version))?;
    reader.take(4, "checksum").ok()?;
    let mut header = Reader::new(reader.bytes("header").ok()?);
    header.signed("known_at").ok()?;
    header.u32("catalog version").ok()?;
    header.u32("fact count").ok()
}

fn is_known(version: u8) -> bool {
    matches!(version, PUBLISHED | STATED | ERASING | FORGETTING)
}

impl<B: AsRef<[u8]>> Chunk<B> {
    /// Checks and decodes a chunk's header; its facts stay encoded.
    ///
    /// # Errors
    /// [`DecodeError::Checksum`] when the bytes were damaged, another [`DecodeError`] when they are
    /// no chunk of a known version.
    pub fn decode(bytes: B) -> Result<Self, DecodeError> {
        let all = bytes.as_ref();
        let mut reader = Reader::new(all);
        let version = reader.u8("chunk version")?;
        if !is_known(version) {
            let found = u64::from(version);
            return Err(DecodeError::Invalid { what: "chunk version", found });
        }
        let mut sum = [0; 4];
        sum.copy_from_slice(reader.take(4, "checksum")?);
        let (expected, found) = (u32::from_le_bytes(sum), crc32fast::hash(reader.rest()));
        if expected != found {
            return Err(DecodeError::Checksum { expected, found });
        }
        let header = ChunkHeader::decode(version, &mut Reader::new(reader.bytes("header")?))?;
        let facts_at = all.len() - reader.rest().len();
        Ok(Self { header, bytes, facts_at })
    }

    /// The encoded fact records.
    #[must_use]
    pub fn fact_bytes(&self) -> &[u8] {
        &self.bytes.as_ref()[self.facts_at..]
    }

    /// The fact records in order.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordView<'_>, DecodeError>> {
        records(self.fact_bytes())
    }
}

/// Appends an entity: kind, then key.
pub fn put_entity(out: &mut Vec<u8>, entity: &Entity) {
    put_varint(out, u64::from(entity.kind.0));
    put_bytes(out, entity.key.as_bytes());
}

/// Reads an entity as [`put_entity`] wrote it.
///
/// # Errors
/// [`DecodeError`] when there is none.
pub fn read_entity(reader: &mut Reader<'_>) -> Result<Entity, DecodeError> {
    let kind = KindId(reader.u16("kind")?);
    Ok(Entity { kind, key: EntityKey::from_bytes(reader.bytes("key")?)? })
}

/// Appends a stream's watermark.
pub fn put_watermark(out: &mut Vec<u8>, (stream, at): &(StreamId, Micros)) {
    put_varint(out, u64::from(stream.0));
    put_signed(out, at.0);
}

/// Reads a stream's watermark as [`put_watermark`] wrote it.
///
/// # Errors
/// [`DecodeError`] when there is none.
pub fn read_watermark(reader: &mut Reader<'_>) -> Result<(StreamId, Micros), DecodeError> {
    Ok((StreamId(reader.u16("stream")?), Micros(reader.signed("watermark")?)))
}

/// Appends what an incarnation says of a stream.
pub fn put_stream_watermark(out: &mut Vec<u8>, w: &StreamWatermark) {
    put_watermark(out, &(w.stream, w.at));
    out.push(u8::from(w.idle));
}

/// Reads what [`put_stream_watermark`] wrote.
///
/// # Errors
/// [`DecodeError`] when there is none.
pub fn read_stream_watermark(reader: &mut Reader<'_>) -> Result<StreamWatermark, DecodeError> {
    let (stream, at) = read_watermark(reader)?;
    Ok(StreamWatermark { stream, at, idle: reader.u8("idle")? != 0 })
}

/// Appends a view's watermark.
pub fn put_view_watermark(out: &mut Vec<u8>, (view, at): &(u64, Micros)) {
    out.extend_from_slice(&view.to_le_bytes());
    put_signed(out, at.0);
}

/// Reads what [`put_view_watermark`] wrote.
///
/// # Errors
/// [`DecodeError`] when there is none.
pub fn read_view_watermark(reader: &mut Reader<'_>) -> Result<(u64, Micros), DecodeError> {
    let mut raw = [0; 8];
    raw.copy_from_slice(reader.take(8, "view")?);
    Ok((u64::from_le_bytes(raw), Micros(reader.signed("watermark")?)))
}

/// Appends a count, then each item.
pub fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_varint(out, items.len() as u64);
    for item in items {
        put(out, item);
    }
}

/// Reads a list as [`put_list`] wrote it.
///
/// # Errors
/// [`DecodeError`] when the count lies or an item does not decode.
pub fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    what: &'static str,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let n = reader.count(what)?;
    (0..n).map(|_| read(reader)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fact::tests::any_fact;
    use crate::verdict::RejectReason;

    fn header(entity: Entity, facts: u32) -> ChunkHeader {
        ChunkHeader {
            known_at: KnownAt(1_700_000_000_000_000),
            catalog_version: 3,
            facts,
            least_stated: None,
            at_range: Some((Micros(-5), Micros(9))),
            verdicts: vec![
                (0, Verdict::Repaired { rows: 7 }),
                (2, Verdict::Rejected(RejectReason::BadRow)),
                (3, Verdict::Queued),
            ],
            dirtied: vec![entity.clone()],
            rebuilt: vec![Rebuilt { entity, part: KnownAt(12) }],
            watermarks: vec![IncarnationWatermarks {
                incarnation: u64::MAX,
                streams: vec![StreamWatermark { stream: StreamId(1), at: Micros(77), idle: true }],
            }],
            slot_watermarks: vec![(StreamId(1), Micros(76)), (StreamId(2), Micros::MIN)],
            view_watermarks: vec![(u64::MAX, Micros(75))],
            departures: vec![4],
            erasures: None,
            retention: None,
            filter: vec![1, 5, u32::MAX],
        }
    }

    proptest! {
        #[test]
        fn chunks_round_trip(
            facts in prop::collection::vec(any_fact(), 1..5),
            least_stated in any::<Option<i64>>(),
            erases: Option<(bool, bool, u64)>,
            forgets: Option<(bool, i64)>,
        ) {
            let erased = |number| ErasedEntity {
                number,
                entity: facts[0].entity.clone(),
                is_here: number % 2 == 0,
                facts: 7,
                chunks: u64::MAX,
            };
            let erasures = erases.map(|(dirties, is_scrubbed, number)| ErasureNotes {
                dirties,
                erased: vec![erased(number), erased(number / 2)],
                is_scrubbed,
                is_rewritten: !dirties,
            });
            let retention = forgets.map(|(is_base, at)| {
                let mut notes = RetentionNotes::default();
                let of = if is_base { &mut notes.base } else { &mut notes.scrubbed };
                of.raise(StreamId(9), Micros(at));
                of.raise(StreamId(2), Micros(5));
                notes
            });
            let header = ChunkHeader {
                least_stated: least_stated.map(KnownAt),
                erasures,
                retention,
                ..header(facts[0].entity.clone(), facts.len() as u32)
            };
            let parts: Vec<Vec<u8>> = facts
                .iter()
                .map(|f| { let mut out = Vec::new(); f.encode(&mut out); out })
                .collect();
            let bytes = encode_chunk(&header, parts.iter().map(Vec::as_slice));
            let chunk = Chunk::decode(bytes.as_slice()).unwrap();
            prop_assert_eq!(&chunk.header, &header);
            let back: Vec<_> = chunk.records().map(|r| r.unwrap().to_fact().unwrap()).collect();
            prop_assert_eq!(back, facts);
            let plain = if least_stated.is_some() { STATED } else { PUBLISHED };
            let version = if erases.is_some() { ERASING } else { plain };
            prop_assert_eq!(bytes[0], if forgets.is_some() { FORGETTING } else { version });
            prop_assert_eq!(fact_count(&bytes), Some(header.facts));
        }

        #[test]
        fn a_flipped_bit_is_found(fact in any_fact(), at: prop::sample::Index, bit in 0u8..8) {
            let mut body = Vec::new();
            fact.encode(&mut body);
            let header = header(fact.entity, 1);
            let mut bytes = encode_chunk(&header, [body.as_slice()]);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Chunk::decode(bytes.as_slice()).is_err());
        }

        #[test]
        fn any_bytes_are_a_chunk_or_refused(bytes: Vec<u8>) {
            for version in [PUBLISHED, STATED, ERASING, FORGETTING] {
                let _ = ChunkHeader::decode(version, &mut Reader::new(&bytes));
            }
        }
    }

    #[test]
    fn a_chunk_of_published_facts_is_written_as_ever() {
        let header = ChunkHeader { known_at: KnownAt(5), facts: 1, ..ChunkHeader::default() };
        let bytes = encode_chunk(&header, [&b"x"[..]]);
        // The bytes that earlier versions wrote: what is in a log is read for ever.
        let sum = [2, 168, 65, 94];
        let rest = [12, 10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'x'];
        assert_eq!(bytes, [&[PUBLISHED][..], &sum, &rest].concat());
        assert_eq!(Chunk::decode(bytes.as_slice()).unwrap().header, header);
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = encode_chunk(&ChunkHeader::default(), []);
        bytes[0] = FORGETTING + 1;
        let refused = DecodeError::Invalid { what: "chunk version", found: 5 };
        assert_eq!(Chunk::decode(bytes.as_slice()).unwrap_err(), refused);
        assert_eq!(fact_count(&bytes), None);
    }

    #[test]
    fn a_chunk_may_be_known_from_the_least_it_states() {
        let published = ChunkHeader { known_at: KnownAt(9), ..ChunkHeader::default() };
        let stated = ChunkHeader { least_stated: Some(KnownAt(4)), ..published.clone() };
        let known = |header: &ChunkHeader, at| header.may_be_known(KnownAt(at));
        assert_eq!([8, 9].map(|at| known(&published, at)), [false, true]);
        assert_eq!([3, 4, 9].map(|at| known(&stated, at)), [false, true, true]);
    }

    #[test]
    fn verdicts_default_to_accepted() {
        let entity = Entity {
            kind: KindId(0),
            key: EntityKey::from_bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap(),
        };
        let all: Vec<_> = header(entity, 4).all_verdicts().collect();
        assert_eq!(
            all,
            [
                Verdict::Repaired { rows: 7 },
                Verdict::Accepted,
                Verdict::Rejected(RejectReason::BadRow),
                Verdict::Queued
            ]
        );
    }
}
