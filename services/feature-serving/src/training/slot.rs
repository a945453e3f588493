//! The rows of one slot: its log is read once, page by page, while the page before is gathered; then
//! each entity is swept. Where the facts do not fit in memory together, entities take turns by hash.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use millrace_client::port::StorePort;
use millrace_kernel::training::{GatheredSlot, SlotFacts, Sweeper, Swept};
use millrace_store::{LogPage, StoreError};
use millrace_types::{Micros, Position, SlotId};

use super::columns::{Part, ViewColumns};
use super::kept::{Kept, check_read};
use super::question::{AskedKind, Resolved};
use super::spine::Section;
use crate::error::ReadError;

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
    Whole(GatheredSlot<Bytes>),
    DivideAt(u64),
}

impl Slots {
    /// Gathers the facts of a slot, of the entities that `slot` was told of.
    pub(super) async fn gather(
        &self,
        slot: SlotId,
        mut facts: SlotFacts<Bytes>,
    ) -> Result<Gathered, ReadError> {
        let up_to = self.ends[slot.0 as usize];
        let mut page = self.page(slot, Position::START, up_to).await?;
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
                self.facts.fetch_add(facts.looked_at(), Ordering::Relaxed);
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
        self.facts.fetch_add(facts.looked_at(), Ordering::Relaxed);
        Ok(Gathered::Whole(blocking(move || facts.finish()).await?))
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
        SlotFacts::new(plan, kind.kind, &kind.streams, *known, *include_late).ok_or_else(|| {
            let (field, rule) = ("start.views".to_owned(), "of kinds of the catalog".to_owned());
            ReadError::Invalid { field, rule }
        })
    }

    /// The rows of a spine that fall to a slot, given with the hashes of their entities.
    pub(super) async fn rows(
        self: &Arc<Self>,
        slot: SlotId,
        kind: usize,
        section: &Arc<Section>,
        rows: Vec<(u64, u32)>,
    ) -> Result<Vec<SlotRows>, SlotError> {
        let mut pending = vec![rows];
        let mut out = Vec::new();
        while let Some(rows) = pending.pop() {
            let (slots, spine) = (Arc::clone(self), Arc::clone(section));
            let named = blocking(move || slots.name(kind, &spine, rows)).await??;
            match self.gather(slot, named.facts).await? {
                Gathered::Whole(facts) => {
                    let slots = Arc::clone(self);
                    let views = self.resolved.kinds[kind].views.clone();
                    let sweep = move || slots.sweep(slot, &facts, &views, &named.rows);
                    let swept = blocking(sweep).await?;
                    out.push(swept?);
                }
                Gathered::DivideAt(middle) => {
                    let below = |(hash, _): &(u64, u32)| *hash <= middle;
                    let (first, second) = named.hashed.into_iter().partition(below);
                    pending.extend([second, first]);
                }
            }
        }
        Ok(out)
    }

    /// Names the entities of rows.
    fn name(
        &self,
        kind: usize,
        section: &Section,
        hashed: Vec<(u64, u32)>,
    ) -> Result<Named, ReadError> {
        let mut facts = self.facts_of(&self.resolved.kinds[kind])?;
        let mut key = Vec::new();
        let named = hashed.iter().map(|(hash, row)| {
            section.key(kind, *row as usize, &mut key);
            let entity = facts.name_hashed(*hash, &key);
            Row { entity, at: section.ats[*row as usize], row: *row }
        });
        let rows = named.collect();
        Ok(Named { facts, rows, hashed })
    }

    /// Sweeps the entities of rows.
    fn sweep(
        &self,
        slot: SlotId,
        facts: &GatheredSlot<Bytes>,
        views: &[usize],
        rows: &[Row],
    ) -> Result<SlotRows, SlotError> {
        let least = rows.iter().map(|row| Micros(row.at)).min();
        let rows = by_entity(facts.entities(), rows);
        let mut out = SlotRows { rows: Vec::new(), views: Vec::new(), swept: Swept::default() };
        let mut instants: Vec<Micros> = Vec::new();
        for view in views {
            let asked = &self.resolved.views[*view];
            check_read(&self.resolved, asked, slot, least, facts.boundaries())?;
            let sweeper = sweeper(facts, &asked.name, &asked.features)?;
            let mut columns = ViewColumns::new(asked.types.iter().cloned(), rows.len());
            let mut counted = 0;
            for of_entity in rows.chunk_by(|a, b| a.entity == b.entity) {
                instants.clear();
                instants.extend(of_entity.iter().map(|row| Micros(row.at)));
                let entity = facts.entity(of_entity[0].entity);
                let swept = sweeper.sweep(&entity, &instants, &mut columns);
                out.swept.missing += swept.missing;
                out.swept.unknown += swept.unknown;
                self.take(columns.bytes() - counted)?;
                counted = columns.bytes();
            }
            out.views.push(columns.finish());
        }
        out.rows = rows.into_iter().map(|row| row.row).collect();
        Ok(out)
    }

    fn take(&self, bytes: usize) -> Result<(), SlotError> {
        let before = self.rows_taken.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.rows_bytes { Err(SlotError::TooMuch) } else { Ok(()) }
    }
}

/// Rows with their entities named.
struct Named {
    facts: SlotFacts<Bytes>,
    rows: Vec<Row>,
    /// As they were given.
    hashed: Vec<(u64, u32)>,
}

/// A row of a spine.
#[derive(Debug, Clone, Copy)]
struct Row {
    entity: u32,
    at: i64,
    row: u32,
}

/// The rows of each entity together, in the order of their instants. A spine mostly comes in that order,
/// so rows are spread over their entities and seldom sorted.
fn by_entity(entities: u32, rows: &[Row]) -> Vec<Row> {
    let mut starts = vec![0usize; entities as usize + 1];
    rows.iter().for_each(|row| starts[row.entity as usize + 1] += 1);
    for entity in 1..starts.len() {
        starts[entity] += starts[entity - 1];
    }
    let mut spread = rows.to_vec();
    for row in rows {
        let place = &mut starts[row.entity as usize];
        spread[*place] = *row;
        *place += 1;
    }
    for of_entity in spread.chunk_by_mut(|a, b| a.entity == b.entity) {
        if !of_entity.is_sorted_by_key(|row| row.at) {
            of_entity.sort_by_key(|row| row.at);
        }
    }
    spread
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
