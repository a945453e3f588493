//! Decoded heads, and how states are put together from them.

use std::sync::Arc;

use millrace_types::chunk::read_list;
use millrace_types::codec::Reader;
use millrace_types::{Boundaries, DecodeError, FieldType, KnownAt, Micros, Position, StreamId};

use super::columns::Column;
use super::{INLINE, NAMES, STORED, SUMMARIES, VERSION_1, VERSION_2, VERSION_3, VERSION_4};
use crate::entity::EntityState;
use crate::facts::StreamFacts;
use crate::left::{IdPart, LeftIds};
use crate::page::absent::PageSummary;
use crate::page::{Page, PageName};
use crate::partly::{InlinePages, NamedPages, PartlyLoaded};
use crate::plan::KindPlan;
use crate::series::SealedSeries;

/// What a head says of one stream.
#[derive(Debug, Clone)]
struct HeadStream {
    id: StreamId,
    live_left: bool,
    pages: Pages,
    ids: Vec<PageName>,
    recent: Vec<u64>,
    columns: Vec<Column>,
}

#[derive(Debug, Clone)]
enum Pages {
    Named(Vec<PageName>),
    Summed(Vec<(Place, PageSummary)>),
}

/// Where the facts of a page stand.
#[derive(Debug, Clone)]
enum Place {
    Stored(PageName),
    /// Here.
    Inline(Box<[u8]>),
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
    boundaries: Boundaries,
}

fn read_name(reader: &mut Reader<'_>) -> Result<PageName, DecodeError> {
    Ok((KnownAt(reader.signed("part version")?), reader.u32("part number")?))
}

impl HeadStream {
    fn decode(version: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = StreamId(reader.u16("stream")?);
        let live_left = reader.u8("live left")? != 0;
        let listed = if version == VERSION_1 { NAMES } else { reader.u8("form of pages")? };
        let pages = Pages::decode(version, listed, reader)?;
        let ids = read_list(reader, "id parts", read_name)?;
        let recent = read_list(reader, "recent ids", |r| {
            let mut raw = [0; 8];
            raw.copy_from_slice(r.take(8, "recent id")?);
            Ok(u64::from_le_bytes(raw))
        })?;
        let columns = match version {
            VERSION_1 => Vec::new(),
            _ => read_list(reader, "columns", Column::decode)?,
        };
        Ok(Self { id, live_left, pages, ids, recent, columns })
    }
}

impl Pages {
    fn decode(version: u8, listed: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match listed {
            NAMES => Ok(Self::Named(read_list(reader, "pages", read_name)?)),
            SUMMARIES => {
                let mut after = None;
                let pages: Vec<(Place, PageSummary)> = read_list(reader, "pages", |r| {
                    let place = Place::decode(r)?;
                    Ok((place, PageSummary::decode(&mut after, r)?))
                })?;
                let inline = |(place, _): &(Place, _)| place.name().is_none();
                if version < VERSION_4 && pages.len() > 1 && pages.iter().any(inline) {
                    return Err(DecodeError::Invalid { what: "place of a page", found: 1 });
                }
                Ok(Self::Summed(pages))
            }
            other => Err(DecodeError::Invalid { what: "form of pages", found: u64::from(other) }),
        }
    }

    /// The names of those that are stored beside the head.
    fn names(&self) -> Vec<PageName> {
        match self {
            Self::Named(names) => names.clone(),
            Self::Summed(pages) => pages.iter().filter_map(|(place, _)| place.name()).collect(),
        }
    }

    /// Decodes them, given the bytes of those that are stored beside the head and the types of the
    /// stream's fields.
    fn facts<B: AsRef<[u8]>>(
        &self,
        stored: &mut std::slice::Iter<'_, B>,
        types: &[FieldType],
    ) -> Result<StreamFacts, DecodeError> {
        let mut next = || stored.next().ok_or(DecodeError::Truncated("pages"));
        let mut pages = Vec::new();
        match self {
            Self::Named(names) => {
                for name in names {
                    pages.push(page_of(next()?.as_ref(), Some(*name), types)?);
                }
            }
            Self::Summed(summed) => {
                for (place, summary) in summed {
                    let page = match place {
                        Place::Stored(name) => page_of(next()?.as_ref(), Some(*name), types)?,
                        Place::Inline(bytes) => page_of(bytes, None, types)?,
                    };
                    summary.check(&page)?;
                    pages.push(page);
                }
            }
        }
        Ok(StreamFacts::from_pages(pages))
    }
}

impl Place {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("place of a page")? {
            STORED => Ok(Self::Stored(read_name(reader)?)),
            INLINE => Ok(Self::Inline(reader.bytes("page")?.into())),
            other => Err(DecodeError::Invalid { what: "place of a page", found: u64::from(other) }),
        }
    }

    fn name(&self) -> Option<PageName> {
        match self {
            Self::Stored(name) => Some(*name),
            Self::Inline(_) => None,
        }
    }
}

impl Head {
    /// Reads a head made under any version up to the plan's.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no head, or of a layout this version does not know.
    pub fn decode(plan: &KindPlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("head version")?;
        if !matches!(version, VERSION_1 | VERSION_2 | VERSION_3 | VERSION_4) {
            return Err(DecodeError::Invalid { what: "head version", found: u64::from(version) });
        }
        let catalog_version = reader.u32("catalog version")?;
        let applied =
            Position { epoch: reader.varint("epoch")?, sequence: reader.varint("sequence")? };
        let known_at = KnownAt(reader.signed("known_at")?);
        let horizon = Micros(reader.signed("horizon")?);
        let streams = read_list(&mut reader, "streams", |r| HeadStream::decode(version, r))?;
        let mut sealed = Vec::new();
        for _ in 0..reader.count("series")? {
            sealed.extend(SealedSeries::decode(plan, &mut reader)?);
        }
        let boundaries = match version {
            VERSION_3 | VERSION_4 => Boundaries::decode(&mut reader)?,
            _ => Boundaries::default(),
        };
        Ok(Self { catalog_version, applied, known_at, horizon, streams, sealed, boundaries })
    }

    /// The names of its pages, then of its id parts, in the order [`Head::assemble`] wants them.
    #[must_use]
    pub fn part_names(&self) -> (Vec<PageName>, Vec<PageName>) {
        let pages = self.streams.iter().flat_map(|s| s.pages.names()).collect();
        let ids = self.streams.iter().flat_map(|s| s.ids.iter().copied()).collect();
        (pages, ids)
    }

    /// Puts the state together from the bytes of its pages and id parts.
    ///
    /// # Errors
    /// [`DecodeError`] when a part does not decode or their number does not fit.
    pub fn assemble<B: AsRef<[u8]>>(
        mut self,
        plan: Arc<KindPlan>,
        pages: &[B],
        ids: &[B],
    ) -> Result<EntityState, DecodeError> {
        let streams = std::mem::take(&mut self.streams);
        let sealed = std::mem::take(&mut self.sealed);
        let mut state = self.state(&plan);
        let (mut pages, mut ids) = (pages.iter(), ids.iter());
        for stream in streams {
            let index = plan.stream_index(stream.id);
            // Of a stream that the plan does not know the pages are passed over.
            let types = index.map_or(&[][..], |index| &plan.streams[index].types);
            let mut facts = stream.pages.facts(&mut pages, types)?;
            let mut left = LeftIds { parts: Vec::new(), recent: stream.recent };
            for name in &stream.ids {
                let bytes = ids.next().ok_or(DecodeError::Truncated("id parts"))?;
                left.parts.push(IdPart::decode(bytes.as_ref(), *name)?);
            }
            let Some(index) = index else { continue };
            for column in &stream.columns {
                if let Some(series) = column.series(&plan, index) {
                    column.install(series, &mut facts)?;
                }
            }
            state.streams[index] = facts;
            state.left[index] = left;
            state.live_left[index] = stream.live_left;
        }
        state.adopt_sealed(sealed);
        state.count_left();
        Ok(state)
    }

    /// Opens it for reads of these features of this view: no page is read yet, and those that a read
    /// needs can be asked for.
    ///
    /// # Errors
    /// [`DecodeError`] when what the read needs of the head does not decode.
    ///
    /// # Panics
    /// When an index is not one of the plan.
    pub fn open(
        mut self,
        plan: Arc<KindPlan>,
        view: usize,
        features: &[usize],
    ) -> Result<PartlyLoaded, DecodeError> {
        let streams = std::mem::take(&mut self.streams);
        let sealed = std::mem::take(&mut self.sealed);
        let mut state = self.state(&plan);
        let (mut named, mut inline) = (Vec::new(), InlinePages::default());
        let of_view = &plan.views[view];
        for stream in streams {
            let Some(index) = plan.stream_index(stream.id) else { continue };
            state.live_left[index] = stream.live_left;
            if of_view.events != index && !of_view.joins.contains(&index) {
                continue;
            }
            let pages = match stream.pages {
                Pages::Named(names) if names.is_empty() => Vec::new(),
                Pages::Named(names) => {
                    named.push(NamedPages::new(index, names));
                    continue;
                }
                // Nor is one that stands here needed, where no window reaches it.
                Pages::Summed(pages) => pages
                    .into_iter()
                    .map(|(place, summary)| match place {
                        Place::Stored(name) => summary.absent(name),
                        Place::Inline(bytes) => summary.absent(inline.add(bytes)),
                    })
                    .collect(),
            };
            let mut facts = StreamFacts::from_settled(pages);
            for column in &stream.columns {
                if let Some(series) = column.series(&plan, index)
                    && of_view.events == index
                    && features.iter().any(|f| of_view.folds(&plan, *f) == Some(series.fold))
                {
                    column.install(series, &mut facts)?;
                }
            }
            state.streams[index] = facts;
        }
        state.adopt_sealed(sealed);
        Ok(PartlyLoaded::new(state, view, features, named, inline))
    }

    /// A state with what it says of the entity as a whole.
    fn state(self, plan: &Arc<KindPlan>) -> EntityState {
        let mut state = EntityState::new(plan.clone());
        state.horizon = self.horizon;
        state.applied = self.applied;
        state.known_at = self.known_at;
        if !self.boundaries.is_empty() {
            state.boundaries = Arc::new(self.boundaries);
        }
        state
    }
}

/// Decodes a page of a stream with fields of these types.
fn page_of(
    bytes: &[u8],
    stored: Option<PageName>,
    types: &[FieldType],
) -> Result<Page, DecodeError> {
    let (page, seen) = Page::decode(bytes, stored)?;
    seen.check(types)?;
    Ok(page)
}
