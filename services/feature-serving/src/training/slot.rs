//! The rows of one slot: its log is read once, page by page, while the page before is gathered; then
//! each entity is swept. Where the facts do not fit in memory together, entities take turns by hash.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use millrace_client::port::StorePort;
use millrace_kernel::training::{GatheredSlot, SlotFacts, Sweeper, Swept};
use millrace_store::{LogPage, StoreError};
use millrace_types::entity::entity_hash;
use millrace_types::{Micros, Position, SlotId};

use super::columns::{Part, ViewColumns};
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
    /// Bytes that the facts of a slot may take.
    pub(super) facts_bytes: usize,
    /// Bytes that rows may take, and do.
    pub(super) rows_bytes: usize,
    pub(super) rows_taken: AtomicUsize,
    /// Facts looked at.
    pub(super) facts: AtomicU64,
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

    /// The rows of a spine that fall to a slot, given with the hashes of their entities, which ascend.
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
            let (facts, numbered) = blocking(move || slots.name(kind, &spine, &rows)).await??;
            match self.gather(slot, facts).await? {
                Gathered::Whole(facts) => {
                    let slots = Arc::clone(self);
                    let views = self.resolved.kinds[kind].views.clone();
                    let swept = blocking(move || slots.sweep(&facts, &views, numbered.0)).await?;
                    out.push(swept?);
                }
                Gathered::DivideAt(middle) => {
                    let mut first = numbered.1;
                    let second = first.split_off(first.partition_point(|(h, _)| *h <= middle));
                    pending.extend([second, first]);
                }
            }
        }
        Ok(out)
    }

    /// Names the entities of rows. Gives each row's entity, instant and number, and the rows back.
    #[expect(clippy::type_complexity, reason = "handed on at once")]
    fn name(
        &self,
        kind: usize,
        section: &Section,
        rows: &[(u64, u32)],
    ) -> Result<(SlotFacts<Bytes>, (Vec<Row>, Vec<(u64, u32)>)), ReadError> {
        let mut facts = self.facts_of(&self.resolved.kinds[kind])?;
        let mut key = Vec::new();
        let named = rows.iter().map(|(_, row)| {
            section.key(kind, *row as usize, &mut key);
            Row { entity: facts.name(&key), at: section.ats[*row as usize], row: *row }
        });
        let named = named.collect();
        Ok((facts, (named, rows.to_vec())))
    }

    /// Sweeps the entities of rows.
    fn sweep(
        &self,
        facts: &GatheredSlot<Bytes>,
        views: &[usize],
        mut rows: Vec<Row>,
    ) -> Result<SlotRows, SlotError> {
        rows.sort_unstable();
        let mut out = SlotRows { rows: Vec::new(), views: Vec::new(), swept: Swept::default() };
        let mut instants: Vec<Micros> = Vec::new();
        for view in views {
            let asked = &self.resolved.views[*view];
            let sweeper = sweeper(facts, &asked.name, &asked.features)?;
            let mut columns = ViewColumns::new(asked.types.iter().cloned());
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

/// A row of a spine. Rows order by entity, then instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    entity: u32,
    at: i64,
    row: u32,
}

/// The hash of an entity, by the name of its kind.
pub(super) fn hash(kind: &AskedKind, key: &[u8]) -> u64 {
    entity_hash(&kind.name, key)
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
