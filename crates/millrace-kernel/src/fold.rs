//! Folding the joined rows of windows from facts at hand.
//!
//! Facts are sorted, so a window is a contiguous range of them. Runs of facts, pages and groups of
//! pages that lie whole inside it are merged from partials that earlier reads left beside them
//! ([`crate::folds`]); only what the window's bounds cut is folded row by row. How the rows are
//! grouped does not show in the result: every partial is exact and order-free. Going from the newest
//! fact back, a read touches O(log n) blocks of n facts, as in a tree of partials
//! (Tangwongsan et al., "General Incremental Sliding-Window Aggregation", VLDB 2015).

use std::ops::Range;

use millrace_types::{Micros, Op, RowView};

use crate::aggregate::Partial;
use crate::entity::EntityState;
use crate::facts::StreamFacts;
use crate::folds::{Block, GROUP_PAGES, RUN_FACTS};
use crate::page::MissingPage;
use crate::plan::{Series, ViewPlan};
use crate::row::{JoinedRow, mark_fields};

/// Folds events of one entity for one view.
pub(crate) struct Folder<'a> {
    state: &'a EntityState,
    view: &'a ViewPlan,
    /// The fields of an event that are read.
    fields: Vec<bool>,
}

impl<'a> Folder<'a> {
    /// Folds these series over events joined with the versions of this state. The events themselves are
    /// passed beside it, since folding leaves partials among them.
    pub(crate) fn new(state: &'a EntityState, view: &'a ViewPlan, series: &[&Series]) -> Self {
        Self { state, view, fields: mark_fields(series.iter().copied()) }
    }

    /// Folds the live events with `start ≤ at < t` into `out`, one partial for each of `wanted`, which
    /// are among the folder's series. Events are folded newest first: `out` holds newer ones at most.
    ///
    /// # Errors
    /// [`MissingPage`] when a page is needed that is not in memory; `out` is then of no use.
    pub(crate) fn window(
        &self,
        events: &mut StreamFacts,
        start: Micros,
        t: Micros,
        wanted: &[&Series],
        out: &mut [Partial],
    ) -> Result<(), MissingPage> {
        let (from, to) = (events.place_at(start)?, events.place_at(t)?);
        if (from.page, from.index) >= (to.page, to.index) {
            return Ok(());
        }
        if !events.is_large() {
            // A few, but perhaps what stayed of several pages.
            for page in (from.page..=to.page).rev() {
                let start = if page == from.page { from.index } else { 0 };
                let end = if page == to.page { to.index } else { events.pages()[page].len() };
                if start < end {
                    self.rows(events, page, start..end, wanted, out)?;
                }
            }
            return Ok(());
        }
        if from.page == to.page {
            return self.part(events, from.page, from.index..to.index, wanted, out);
        }
        if to.index > 0 {
            self.part(events, to.page, 0..to.index, wanted, out)?;
        }
        let first = from.page + usize::from(from.index > 0);
        let mut page = to.page;
        while page > first {
            if page.is_multiple_of(GROUP_PAGES) && page - GROUP_PAGES >= first {
                page -= GROUP_PAGES;
                self.block(events, Block::Group(page / GROUP_PAGES), wanted, out)?;
            } else {
                page -= 1;
                self.block(events, Block::Page(page), wanted, out)?;
            }
        }
        if from.index > 0 {
            let end = events.pages()[from.page].len();
            self.part(events, from.page, from.index..end, wanted, out)?;
        }
        Ok(())
    }

    /// Folds a part of a page: whole runs as blocks, the rest row by row.
    fn part(
        &self,
        events: &mut StreamFacts,
        page: usize,
        range: Range<usize>,
        wanted: &[&Series],
        out: &mut [Partial],
    ) -> Result<(), MissingPage> {
        let len = events.pages()[page].len();
        if range == (0..len) {
            return self.block(events, Block::Page(page), wanted, out);
        }
        let first = range.start.div_ceil(RUN_FACTS);
        let last = if range.end == len { len.div_ceil(RUN_FACTS) } else { range.end / RUN_FACTS };
        if first >= last {
            return self.rows(events, page, range, wanted, out);
        }
        self.rows(events, page, (last * RUN_FACTS).min(range.end)..range.end, wanted, out)?;
        for run in (first..last).rev() {
            self.block(events, Block::Run { page, run }, wanted, out)?;
        }
        self.rows(events, page, range.start..first * RUN_FACTS, wanted, out)
    }

    /// Merges what is kept beside a block, and folds and keeps what is not.
    fn block(
        &self,
        events: &mut StreamFacts,
        block: Block,
        wanted: &[&Series],
        out: &mut [Partial],
    ) -> Result<(), MissingPage> {
        let mut lacking = Vec::new();
        for (index, (one, partial)) in wanted.iter().zip(out.iter_mut()).enumerate() {
            if partial.is_settled() {
                continue;
            }
            match events.fold_of(block, one.fold) {
                Some(kept) => partial.merge(kept),
                None => lacking.push(index),
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let inner: Vec<&Series> = lacking.iter().map(|i| wanted[*i]).collect();
        let mut fresh: Vec<Partial> = inner.iter().map(|w| Partial::new(&w.feature)).collect();
        self.inside(events, block, &inner, &mut fresh)?;
        for ((index, one), partial) in lacking.into_iter().zip(inner).zip(fresh) {
            out[index].merge(&partial);
            events.keep_fold(block, one.fold, partial);
        }
        Ok(())
    }

    /// The partials of a page, one for each of `wanted`, from those of its runs that are kept and from
    /// rows otherwise. Keeps none: those of runs take about as much memory as the facts.
    ///
    /// # Errors
    /// [`MissingPage`] when a page is needed that is not in memory.
    pub(crate) fn page(
        &self,
        events: &StreamFacts,
        page: usize,
        wanted: &[&Series],
    ) -> Result<Vec<Partial>, MissingPage> {
        let mut out: Vec<Partial> = wanted.iter().map(|w| Partial::new(&w.feature)).collect();
        let len = events.pages()[page].len();
        for run in (0..len.div_ceil(RUN_FACTS)).rev() {
            let kept = |w: &&Series| events.fold_of(Block::Run { page, run }, w.fold);
            let kept: Option<Vec<&Partial>> = wanted.iter().map(kept).collect();
            match kept {
                Some(kept) => out.iter_mut().zip(kept).for_each(|(out, kept)| out.merge(kept)),
                None => {
                    let end = ((run + 1) * RUN_FACTS).min(len);
                    self.rows(events, page, run * RUN_FACTS..end, wanted, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    /// Folds all of a block from the blocks or rows inside it.
    fn inside(
        &self,
        events: &mut StreamFacts,
        block: Block,
        wanted: &[&Series],
        out: &mut [Partial],
    ) -> Result<(), MissingPage> {
        match block {
            Block::Group(group) => {
                let first = group * GROUP_PAGES;
                for page in (first..first + GROUP_PAGES).rev() {
                    self.block(events, Block::Page(page), wanted, out)?;
                }
                Ok(())
            }
            Block::Page(page) => {
                events.pages()[page].present()?;
                let len = events.pages()[page].len();
                if len <= RUN_FACTS {
                    return self.rows(events, page, 0..len, wanted, out);
                }
                for run in (0..len.div_ceil(RUN_FACTS)).rev() {
                    self.block(events, Block::Run { page, run }, wanted, out)?;
                }
                Ok(())
            }
            Block::Run { page, run } => {
                let end = ((run + 1) * RUN_FACTS).min(events.pages()[page].len());
                self.rows(events, page, run * RUN_FACTS..end, wanted, out)
            }
        }
    }

    /// Folds the live events with these indexes of a page, the newest first: a `last` is then found
    /// at once, and a version stays in force until an event lies before it.
    fn rows(
        &self,
        events: &StreamFacts,
        page: usize,
        range: Range<usize>,
        wanted: &[&Series],
        out: &mut [Partial],
    ) -> Result<(), MissingPage> {
        let page = &events.pages()[page];
        page.present()?;
        let joins = wanted.iter().any(|w| w.reads_joins);
        let mut versions = Versions::new(self.state, self.view);
        let mut values = Vec::new();
        for index in range.rev().filter(|i| page.refs()[*i].live) {
            let event = page.fact(index);
            if joins {
                versions.go_back_to(event.at)?;
            }
            event.row.pick(&self.fields, &mut values);
            let row = JoinedRow { event: &values, versions: &versions.rows };
            for (one, partial) in wanted.iter().zip(out.iter_mut()) {
                if !partial.is_settled()
                    && let Some(value) = row.value_for(one)
                {
                    partial.add(event.order_key(), value);
                }
            }
        }
        Ok(())
    }
}

/// The versions in force while instants go back.
struct Versions<'a> {
    state: &'a EntityState,
    view: &'a ViewPlan,
    rows: Vec<Option<RowView<'a>>>,
    /// By changelog: since when its version is in force. Beyond every instant at first.
    since: Vec<Option<Micros>>,
}

impl<'a> Versions<'a> {
    fn new(state: &'a EntityState, view: &'a ViewPlan) -> Self {
        Self { state, view, rows: Vec::new(), since: Vec::new() }
    }

    fn go_back_to(&mut self, at: Micros) -> Result<(), MissingPage> {
        self.rows.resize(self.view.joins.len(), None);
        self.since.resize(self.view.joins.len(), None);
        for (index, stream) in self.view.joins.iter().enumerate() {
            if self.since[index].is_some_and(|since| since <= at) {
                continue;
            }
            let version = self.state.streams[*stream].in_force(at)?;
            self.since[index] = Some(version.map_or(Micros::MIN, |v| v.at));
            self.rows[index] = version.filter(|v| v.op == Op::Assert).map(|v| v.row);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
