//! Partials of the pages of a stream in a head: with them a read needs only the pages that its windows
//! cut.
//!
//! A column is one fold over all pages. Layout (persisted): `key of the fold u64 · level u8 · partials`,
//! the last as length-prefixed bytes: one a page, or one a group of 16 pages and one a page of the last
//! pages that make no group.

use millrace_types::DecodeError;
use millrace_types::codec::{Reader, put_bytes};

use crate::aggregate::Partial;
use crate::entity::EntityState;
use crate::facts::StreamFacts;
use crate::fold::Folder;
use crate::folds::{Block, GROUP_PAGES};
use crate::plan::{KindPlan, Series};

/// Bytes of partials of pages in one head: about the one page that a save of a changed entity puts
/// anyway. A column of counts or sums takes 5 to 15 bytes a page.
const PARTIAL_BYTES_MAX: usize = 64 * 1024;
/// Memory of a partial of one page, in bytes: an eighth of what the facts of a full page take. The tallies
/// of many values that are larger would hardly fit into a head as partials of groups either.
const PAGE_PARTIAL_BYTES_MAX: usize = 8 * 1024;

/// What a column has a partial of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Level {
    Pages = 1,
    Groups = 2,
}

/// The partials of one fold over the pages of a stream, encoded.
#[derive(Debug, Clone)]
pub(super) struct Column {
    key: u64,
    level: Level,
    body: Vec<u8>,
}

impl Column {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        out.push(self.level as u8);
        put_bytes(out, &self.body);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut raw = [0; 8];
        raw.copy_from_slice(reader.take(8, "key of a column")?);
        let level = match reader.u8("level of a column")? {
            1 => Level::Pages,
            2 => Level::Groups,
            other => {
                let found = u64::from(other);
                return Err(DecodeError::Invalid { what: "level of a column", found });
            }
        };
        let body = reader.bytes("column")?.to_vec();
        Ok(Self { key: u64::from_le_bytes(raw), level, body })
    }

    /// What it folds, among the folds of the stream with this index; `None` when this version of the
    /// catalog has no such fold.
    pub(super) fn series<'p>(&self, plan: &'p KindPlan, stream: usize) -> Option<&'p Series> {
        let fold = plan.fold_keys.iter().position(|key| *key == self.key)?;
        let found = plan.series.iter().find(|s| s.fold as usize == fold);
        found.filter(|s| plan.views[s.view].events == stream)
    }

    /// Keeps its partials beside the pages, which are those of the head.
    pub(super) fn install(
        &self,
        series: &Series,
        facts: &mut StreamFacts,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(&self.body);
        for block in blocks(self.level, facts.pages().len()) {
            let partial = Partial::decode(&series.feature, &mut reader)?;
            facts.keep_fold(block, series.fold, partial);
        }
        match reader.rest().len() {
            0 => Ok(()),
            more => Err(DecodeError::Invalid { what: "end of a column", found: more as u64 }),
        }
    }
}

/// The blocks of which a column has partials, in order.
fn blocks(level: Level, pages: usize) -> impl Iterator<Item = Block> {
    let groups = match level {
        Level::Pages => 0,
        Level::Groups => pages / GROUP_PAGES,
    };
    (0..groups).map(Block::Group).chain((groups * GROUP_PAGES..pages).map(Block::Page))
}

impl EntityState {
    /// The columns of all streams, each with the index of its stream, within their budget. A stream of
    /// one page has none: its windows mostly cut that page.
    pub(super) fn columns(&mut self) -> Vec<(usize, Column)> {
        let plan = self.plan.clone();
        let mut columns = Vec::new();
        for stream in 0..self.streams.len() {
            if self.streams[stream].pages().len() < 2 {
                continue;
            }
            for (view, mut folds) in plan.folds_of(stream) {
                folds.retain(|fold| !self.streams[stream].given_up.contains(&fold.fold));
                self.fold_pages(&plan, stream, view, &mut folds);
                for series in folds {
                    columns.push((
                        stream,
                        series,
                        self.column(&plan, stream, series, Level::Pages),
                    ));
                }
            }
        }
        self.fit(&plan, &mut columns);
        columns.into_iter().map(|(stream, _, column)| (stream, column)).collect()
    }

    /// Folds the pages of which partials are not kept, and keeps them; folds that grow too large go.
    fn fold_pages(
        &mut self,
        plan: &KindPlan,
        stream: usize,
        view: usize,
        folds: &mut Vec<&Series>,
    ) {
        // Folding looks up versions beside the events.
        let mut events = std::mem::take(&mut self.streams[stream]);
        let folder = Folder::new(self, &plan.views[view], folds);
        for page in 0..events.pages().len() {
            let mut lacking = folds.clone();
            lacking.retain(|s| events.fold_of(Block::Page(page), s.fold).is_none());
            if lacking.is_empty() {
                continue;
            }
            // All pages of a state that is saved are in memory.
            let Ok(partials) = folder.page(&events, page, &lacking) else { continue };
            for (series, partial) in lacking.into_iter().zip(partials) {
                if partial.heap_bytes() > PAGE_PARTIAL_BYTES_MAX {
                    events.given_up.push(series.fold);
                    folds.retain(|s| s.fold != series.fold);
                } else {
                    events.keep_fold(Block::Page(page), series.fold, partial);
                }
            }
        }
        self.streams[stream] = events;
    }

    /// The column of a fold of which all pages have partials.
    fn column(&mut self, plan: &KindPlan, stream: usize, series: &Series, level: Level) -> Column {
        let events = &mut self.streams[stream];
        let mut body = Vec::new();
        for block in blocks(level, events.pages().len()) {
            if let Some(kept) = events.fold_of(block, series.fold) {
                kept.encode(&mut body);
                continue;
            }
            let mut partial = Partial::new(&series.feature);
            if let Block::Group(group) = block {
                for page in (group * GROUP_PAGES..(group + 1) * GROUP_PAGES).rev() {
                    if let Some(kept) = events.fold_of(Block::Page(page), series.fold) {
                        partial.merge(kept);
                    }
                }
            }
            partial.encode(&mut body);
            events.keep_fold(block, series.fold, partial);
        }
        Column { key: plan.fold_keys[series.fold as usize], level, body }
    }

    /// Makes the largest columns coarser, and gives those up that are coarse, until all fit.
    fn fit(&mut self, plan: &KindPlan, columns: &mut Vec<(usize, &Series, Column)>) {
        loop {
            let total: usize = columns.iter().map(|(_, _, column)| column.body.len()).sum();
            if total <= PARTIAL_BYTES_MAX {
                return;
            }
            let by_size = columns.iter().enumerate().max_by_key(|(_, (_, _, c))| c.body.len());
            let Some((largest, (stream, series, column))) = by_size else { return };
            let (stream, series) = (*stream, *series);
            if column.level == Level::Pages && self.streams[stream].pages().len() >= GROUP_PAGES {
                columns[largest].2 = self.column(plan, stream, series, Level::Groups);
            } else {
                // Until all partials are forgotten: what was too large mostly stays so.
                self.streams[stream].given_up.push(series.fold);
                columns.swap_remove(largest);
            }
        }
    }
}
