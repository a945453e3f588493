//! Snapshots of an entity: a head, and beside it pages of facts and parts of ids that left.
//!
//! Head layout (version 1, persisted): `version u8 · catalog version · applied position · known_at
//! · horizon · streams · sealed series`. A stream is its number, whether a live fact left, its page
//! names, its id part names and the recent ids. Pages and id parts are immutable; a head lists the
//! ones it stands on.

use std::sync::Arc;

use millrace_types::chunk::{put_list, read_list};
use millrace_types::codec::{Reader, put_signed, put_varint};
use millrace_types::limits::HEAD_BYTES_MAX;
use millrace_types::{DecodeError, KnownAt, Micros, Position, StreamId};

use crate::entity::EntityState;
use crate::facts::StreamFacts;
use crate::left::{IdPart, LeftIds, RECENT_IN_HEAD_MAX};
use crate::page::{Page, PageName};
use crate::plan::KindPlan;
use crate::series::{Keeping, SealedSeries};

const VERSION: u8 = 1;

/// The parts of a snapshot to be put, in an order that keeps readers safe: pages and id parts
/// before the head that lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotParts {
    /// New pages: number among the pages of this version, and bytes.
    pub pages: Vec<(u32, Vec<u8>)>,
    /// New id parts, likewise.
    pub ids: Vec<(u32, Vec<u8>)>,
    /// The head.
    pub head: Vec<u8>,
}

/// What a head says of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeadStream {
    id: StreamId,
    live_left: bool,
    pages: Vec<PageName>,
    ids: Vec<PageName>,
    recent: Vec<u64>,
}

/// A decoded head whose pages and id parts are not read yet.
#[derive(Debug, Clone)]
pub struct Head {
    /// The catalog version it was made under.
    pub catalog_version: u32,
    /// The last chunk whose facts are in effect.
    pub applied: Position,
    /// The known_at of that chunk.
    pub known_at: KnownAt,
    horizon: Micros,
    streams: Vec<HeadStream>,
    sealed: Vec<SealedSeries>,
}

fn put_name(out: &mut Vec<u8>, (ver, number): &PageName) {
    put_signed(out, ver.0);
    put_varint(out, u64::from(*number));
}

fn read_name(reader: &mut Reader<'_>) -> Result<PageName, DecodeError> {
    Ok((KnownAt(reader.signed("part version")?), reader.u32("part number")?))
}

impl EntityState {
    /// Makes the snapshot of this state at version `ver`. Pages and id parts that the store does
    /// not hold yet are named after `ver`; the state takes them as stored, so the parts must be
    /// put (or the state thrown away).
    ///
    /// Partials that would take the head past its limit are given up, largest first: reads of
    /// their features are then answered from the log.
    #[must_use]
    pub fn snapshot(&mut self, ver: KnownAt) -> SnapshotParts {
        let mut parts = SnapshotParts::default();
        for facts in &mut self.streams {
            for page in facts.pages_mut() {
                if page.stored.is_none() {
                    let number = parts.pages.len() as u32;
                    parts.pages.push((number, page.encode()));
                    page.stored = Some((ver, number));
                }
            }
        }
        for left in &mut self.left {
            if left.recent.len() > RECENT_IN_HEAD_MAX {
                left.seal_recent();
            }
            for part in &mut left.parts {
                if part.stored.is_none() {
                    let number = parts.ids.len() as u32;
                    parts.ids.push((number, part.encode()));
                    part.stored = Some((ver, number));
                }
            }
        }
        parts.head = self.encode_head();
        while parts.head.len() > HEAD_BYTES_MAX {
            let Some(largest) = self
                .sealed
                .iter_mut()
                .filter(|s| s.keeping == Keeping::Kept)
                .max_by_key(|s| s.heap_bytes())
            else {
                break;
            };
            *largest = SealedSeries::without(largest.key, Keeping::TooLarge);
            parts.head = self.encode_head();
        }
        parts
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, u64::from(self.plan.catalog_version));
        put_varint(&mut out, self.applied.epoch);
        put_varint(&mut out, self.applied.sequence);
        put_signed(&mut out, self.known_at.0);
        put_signed(&mut out, self.horizon.0);
        put_varint(&mut out, self.streams.len() as u64);
        for (index, stream) in self.plan.streams.iter().enumerate() {
            put_varint(&mut out, u64::from(stream.id.0));
            out.push(u8::from(self.live_left[index]));
            let pages: Vec<PageName> =
                self.streams[index].pages().iter().filter_map(|p| p.stored).collect();
            put_list(&mut out, &pages, put_name);
            let ids: Vec<PageName> =
                self.left[index].parts.iter().filter_map(|p| p.stored).collect();
            put_list(&mut out, &ids, put_name);
            put_list(&mut out, &self.left[index].recent, |out, hash| {
                out.extend_from_slice(&hash.to_le_bytes());
            });
        }
        put_varint(&mut out, self.sealed.len() as u64);
        for sealed in &self.sealed {
            sealed.encode(&mut out);
        }
        out
    }

    /// The names of the pages and of the id parts the last snapshot stands on.
    #[must_use]
    pub fn stored_parts(&self) -> (Vec<PageName>, Vec<PageName>) {
        let pages = self.streams.iter().flat_map(|s| s.pages()).filter_map(|p| p.stored);
        let ids = self.left.iter().flat_map(|l| &l.parts).filter_map(|p| p.stored);
        (pages.collect(), ids.collect())
    }
}

impl Head {
    /// Reads a head made under any version up to the plan's.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no head, or of a layout this version does not know.
    pub fn decode(plan: &KindPlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("head version")? {
            VERSION => {}
            other => {
                return Err(DecodeError::Invalid { what: "head version", found: u64::from(other) });
            }
        }
        let catalog_version = reader.u32("catalog version")?;
        let applied =
            Position { epoch: reader.varint("epoch")?, sequence: reader.varint("sequence")? };
        let known_at = KnownAt(reader.signed("known_at")?);
        let horizon = Micros(reader.signed("horizon")?);
        let streams = read_list(&mut reader, "streams", |r| {
            Ok(HeadStream {
                id: StreamId(r.u16("stream")?),
                live_left: r.u8("live left")? != 0,
                pages: read_list(r, "pages", read_name)?,
                ids: read_list(r, "id parts", read_name)?,
                recent: read_list(r, "recent ids", |r| {
                    let mut raw = [0; 8];
                    raw.copy_from_slice(r.take(8, "recent id")?);
                    Ok(u64::from_le_bytes(raw))
                })?,
            })
        })?;
        let mut sealed = Vec::new();
        for _ in 0..reader.count("series")? {
            sealed.extend(SealedSeries::decode(plan, &mut reader)?);
        }
        Ok(Self { catalog_version, applied, known_at, horizon, streams, sealed })
    }

    /// The names of its pages, then of its id parts, in the order [`Head::assemble`] wants them.
    #[must_use]
    pub fn part_names(&self) -> (Vec<PageName>, Vec<PageName>) {
        let pages = self.streams.iter().flat_map(|s| s.pages.iter().copied()).collect();
        let ids = self.streams.iter().flat_map(|s| s.ids.iter().copied()).collect();
        (pages, ids)
    }

    /// Puts the state together from the bytes of its pages and id parts.
    ///
    /// # Errors
    /// [`DecodeError`] when a part does not decode or their number does not fit.
    pub fn assemble<B: AsRef<[u8]>>(
        self,
        plan: Arc<KindPlan>,
        pages: &[B],
        ids: &[B],
    ) -> Result<EntityState, DecodeError> {
        let mut state = EntityState::new(plan.clone());
        state.horizon = self.horizon;
        state.applied = self.applied;
        state.known_at = self.known_at;
        let (mut pages, mut ids) = (pages.iter(), ids.iter());
        for stream in self.streams {
            let mut decoded = Vec::with_capacity(stream.pages.len());
            for name in &stream.pages {
                let bytes = pages.next().ok_or(DecodeError::Truncated("pages"))?;
                decoded.push(Page::decode(bytes.as_ref(), *name)?);
            }
            let mut left = LeftIds { parts: Vec::new(), recent: stream.recent };
            for name in &stream.ids {
                let bytes = ids.next().ok_or(DecodeError::Truncated("id parts"))?;
                left.parts.push(IdPart::decode(bytes.as_ref(), *name)?);
            }
            let Some(index) = plan.stream_index(stream.id) else { continue };
            state.streams[index] = StreamFacts::from_pages(decoded);
            state.left[index] = left;
            state.live_left[index] = stream.live_left;
        }
        let mut sealed = self.sealed;
        if state.horizon > Micros::MIN {
            state.sealed = plan
                .series
                .iter()
                .map(|s| match sealed.iter().position(|have| have.key == s.key) {
                    Some(found) => sealed.swap_remove(found),
                    None => SealedSeries::without(s.key, Keeping::Unknown),
                })
                .collect();
        }
        state.count_left();
        Ok(state)
    }
}
