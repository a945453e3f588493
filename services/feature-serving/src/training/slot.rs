//! The rows of one slot: its log is read once, page by page, while the page before is gathered; then
//! each entity is swept. Where the facts do not fit in memory together, entities take turns by hash.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use millrace_client::port::StorePort;
use millrace_kernel::training::{GatheredSlot, SlotFacts, Sweeper, Swept};
use millrace_store::{LogPage, StoreError};
use millrace_types::{EntityKey, Micros, Position, SlotId};

use super::columns::{Part, ViewRows};
use super::kept::{Kept, check_read};
use super::question::{AskedKind, Resolved};
use super::routed::Routed;
use super::spine::Section;
use crate::error::ReadError;
use crate::metrics::TrainingInstruments;

/// Bytes of the log read at a time.
const PAGE_BYTES: usize = 4 << 20;

/// What the slots of a training set share.
pub(super) struct Slots {
    pub(super) store: Arc<dyn StorePort>,
    pub(super) resolved: Arc<Resolved>,
    /// By slot, up to where its log is read.
    pub(super) ends: Vec<Position>,
    pub(super) placement: millrace_placement::Slots,
    /// Bytes that the facts of a slot may take.
    pub(super) facts_bytes: usize,
    /// Bytes that rows may take, and do.
    pub(super) rows_bytes: usize,
    pub(super) rows_taken: AtomicUsize,
    /// Facts looked at.
    pub(super) facts: AtomicU64,
    pub(super) instruments: TrainingInstruments,
    /// What slots keep, as far as they said.
    pub(super) kept: Kept,
}

/// Why the rows of a slot did not come about.
#[derive(Debug)]
pub(super) enum SlotError {
    Read(ReadError),
    /// The rows take more memory than there is for them: fewer have to be asked for.
    TooMuch,
}

impl From<ReadError> for SlotError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// The rows of a slot: for each view of the kind, its parts, whose rows stand one after another in the
/// order of `rows`.
#[derive(Debug)]
pub(super) struct SlotRows {
    pub(super) rows: Vec<u32>,
    pub(super) views: Vec<Vec<Part>>,
    pub(super) swept: Swept,
}

/// Facts of a slot, or where to divide its entities because they are too many.
pub(super) enum Gathered {
    Whole(Box<GatheredSlot<Bytes>>),
    DivideAt(u64),
}

impl Slots {
    /// Gathers the facts of a slot, of the entities that `facts` was told of. `first` is the first page of
    /// the slot's log, where it was read before.
    pub(super) async fn gather(
        &self,
        slot: SlotId,
        mut facts: SlotFacts<Bytes>,
        first: Option<LogPage>,
    ) -> Result<Gathered, ReadError> {
        let up_to = self.ends[slot.0 as usize];
        let mut page = match first {
            Some(page) => page,
            None => self.page(slot, Position::START, up_to).await?,
        };
        loop {
            let last = page.chunks.last().map(|(position, _)| *position);
            let ended = page.complete || last.is_none();
            let gather = blocking(move || take_in(slot, facts, page));
            let ahead = async {
                match last {
                    Some(last) if !ended => self.page(slot, last, up_to).await.map(Some),
                    Some(_) | None => Ok(None),
                }
            };
            let (gathered, next) = tokio::join!(gather, ahead);
            facts = gathered??;
            if facts.heap_bytes() > self.facts_bytes {
                self.looked_at(&facts, false);
                return match facts.middle() {
                    Some(middle) => Ok(Gathered::DivideAt(middle)),
                    None => Err(ReadError::BudgetSpent {
                        limit: format!(
                            "{} bytes for the facts of one entity (training_bytes)",
                            self.facts_bytes
                        ),
                    }),
                };
            }
            match next? {
                Some(next) => page = next,
                None => break,
            }
        }
        self.looked_at(&facts, true);
        Ok(Gathered::Whole(Box::new(blocking(move || facts.finish()).await?)))
    }

    /// Counts a read of a slot's log.
    fn looked_at(&self, facts: &SlotFacts<Bytes>, is_whole: bool) {
        self.facts.fetch_add(facts.looked_at(), Ordering::Relaxed);
        self.instruments.slot_read(is_whole, facts.looked_at());
    }

    /// The first page of a slot's log.
    pub(super) async fn first_page(&self, slot: SlotId) -> Result<LogPage, ReadError> {
        self.page(slot, Position::START, self.ends[slot.0 as usize]).await
    }

    async fn page(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
    ) -> Result<LogPage, ReadError> {
        self.store.read_log(slot, after, up_to, PAGE_BYTES).await.map_err(ReadError::Store)
    }

    /// An empty gathering of a kind's facts.
    pub(super) fn facts_of(&self, kind: &AskedKind) -> Result<SlotFacts<Bytes>, ReadError> {
        let Resolved { plan, known, include_late, .. } = &*self.resolved;
        let asked = kind.views.iter().map(|view| &self.resolved.views[*view]);
        let read: Vec<_> = asked.map(|view| (view.name.as_str(), &*view.features)).collect();
        let facts = SlotFacts::new(plan, kind.kind, &kind.streams, *known, *include_late);
        facts.and_then(|facts| facts.for_features(&read)).ok_or_else(|| {
            let (field, rule) = ("start.views".to_owned(), "of kinds of the catalog".to_owned());
            ReadError::Invalid { field, rule }
        })
    }

    /// The name of the kind whose events are the rows.
    pub(super) fn kind_name(&self) -> String {
        let kind = self.resolved.kinds.first().map(|kind| kind.kind);
        let kind = kind.and_then(|kind| self.resolved.plan.catalog.kind(kind));
        kind.map(|kind| kind.name.clone()).unwrap_or_default()
    }

    /// The rows of a spine that fall to a slot, whose log begins with this page: those of the entities at
    /// these places.
    pub(super) async fn rows(
        self: &Arc<Self>,
        slot: SlotId,
        spine: SpineRows,
        places: Range<u32>,
        first: LogPage,
    ) -> Result<Vec<SlotRows>, SlotError> {
        let mut first = Some(first);
        let mut pending: Vec<Vec<u32>> = vec![places.collect()];
        let mut out = Vec::new();
        while let Some(places) = pending.pop() {
            let (slots, named) = (Arc::clone(self), spine.clone());
            let (facts, places) =
                blocking(move || slots.name(&named, &places).map(|facts| (facts, places)))
                    .await??;
            match self.gather(slot, facts, first.take()).await? {
                Gathered::Whole(facts) => {
                    let (slots, spine) = (Arc::clone(self), spine.clone());
                    let sweep = move || slots.sweep(slot, &facts, &spine, &places);
                    out.push(blocking(sweep).await??);
                }
                Gathered::DivideAt(middle) => {
                    let below = |place: &u32| spine.entity(*place).0 <= middle;
                    let (first, second) = places.into_iter().partition(below);
                    pending.extend([second, first]);
                }
            }
        }
        Ok(out)
    }

    /// Names the entities at these places: they get the numbers of their places among them.
    fn name(&self, spine: &SpineRows, places: &[u32]) -> Result<SlotFacts<Bytes>, ReadError> {
        let mut facts = self.facts_of(&self.resolved.kinds[spine.kind])?;
        for place in places {
            let (_, key) = spine.entity(*place);
            facts.name(key.as_bytes());
        }
        Ok(facts)
    }

    /// Sweeps the entities at these places, which were named.
    fn sweep(
        &self,
        slot: SlotId,
        facts: &GatheredSlot<Bytes>,
        spine: &SpineRows,
        places: &[u32],
    ) -> Result<SlotRows, SlotError> {
        let routed = &spine.routed;
        let mut out = SlotRows { rows: Vec::new(), views: Vec::new(), swept: Swept::default() };
        let count = places.iter().map(|place| routed.count(*place)).sum();
        let mut ats: Vec<Micros> = Vec::with_capacity(count);
        out.rows.reserve_exact(count);
        for place in places {
            routed.append(*place, &mut ats, &mut out.rows);
        }
        let least = ats.iter().copied().min();
        for view in &self.resolved.kinds[spine.kind].views {
            let asked = &self.resolved.views[*view];
            check_read(&self.resolved, asked, slot, least, facts.boundaries())?;
            let sweeper = sweeper(facts, &asked.name, &asked.features)?;
            let mut rows = ViewRows::new(&asked.types, count);
            let (mut counted, mut first) = (0, 0);
            for (entity, place) in places.iter().enumerate() {
                let behind = first + routed.count(*place);
                let entity = facts.entity(entity as u32);
                let swept = sweeper.sweep(&entity, &ats[first..behind], &mut rows);
                first = behind;
                out.swept.missing += swept.missing;
                out.swept.unknown += swept.unknown;
                self.take(rows.bytes() - counted)?;
                counted = rows.bytes();
            }
            out.views.push(rows.finish());
        }
        Ok(out)
    }

    fn take(&self, bytes: usize) -> Result<(), SlotError> {
        let before = self.rows_taken.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.rows_bytes { Err(SlotError::TooMuch) } else { Ok(()) }
    }
}

/// Rows of a spine, with the kind whose entities they name.
#[derive(Debug, Clone)]
pub(super) struct SpineRows {
    pub(super) section: Arc<Section>,
    /// Its place among the kinds.
    pub(super) kind: usize,
    pub(super) routed: Arc<Routed>,
}

impl SpineRows {
    /// The hash and the key of the entity at a place.
    fn entity(&self, place: u32) -> (u64, &EntityKey) {
        self.section.kinds[self.kind].entities.get(self.routed.entity(place))
    }
}

/// All hashes.
pub(super) const ALL: RangeInclusive<u64> = 0..=u64::MAX;

pub(super) fn sweeper(
    facts: &GatheredSlot<Bytes>,
    view: &str,
    features: &[usize],
) -> Result<Sweeper, ReadError> {
    Sweeper::new(facts, view, features).ok_or_else(|| ReadError::Invalid {
        field: "start.views".to_owned(),
        rule: "of views of the catalog".to_owned(),
    })
}

fn take_in(
    slot: SlotId,
    mut facts: SlotFacts<Bytes>,
    page: LogPage,
) -> Result<SlotFacts<Bytes>, ReadError> {
    for (position, bytes) in page.chunks {
        facts.chunk(bytes).map_err(|error| {
            ReadError::Store(StoreError::Damaged {
                what: format!("chunk {position} of slot {}", slot.0),
                reason: error.to_string(),
            })
        })?;
    }
    Ok(facts)
}

/// Runs work that takes a while on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| {
        tracing::error!(error = %panic, "a part of a training set failed");
        ReadError::Failed
    })
}
