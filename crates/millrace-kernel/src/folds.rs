//! Partials kept beside the facts they fold, so that reads need not fold them again.
//!
//! They are a cache: a change among the facts of a block, or of a version they meet, forgets them,
//! and nothing of them is stored.

use crate::aggregate::Partial;

/// Facts in a run, the smallest block. A window cuts two runs, whose rows are folded one by one.
pub(crate) const RUN_FACTS: usize = 32;
/// Pages in a group, the largest block.
pub(crate) const GROUP_PAGES: usize = 16;

/// Facts that lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// Facts `run * RUN_FACTS` and on of a page.
    Run { page: usize, run: usize },
    /// The facts of a page.
    Page(usize),
    /// Pages `group * GROUP_PAGES` and on, all of them there.
    Group(usize),
}

/// The partials of blocks of one kind for one fold, by block: side by side, so that merging blocks one
/// after another reads memory in order.
#[derive(Debug, Clone)]
struct Column {
    fold: u32,
    partials: Vec<Option<Partial>>,
}

/// The partials of blocks of one kind, by what is folded, ascending.
#[derive(Debug, Clone, Default)]
struct Columns {
    columns: Vec<Column>,
    /// What the partials hold beyond themselves, in bytes.
    inner_bytes: usize,
}

impl Columns {
    #[inline]
    fn get(&self, block: usize, fold: u32) -> Option<&Partial> {
        let found = self.columns.binary_search_by_key(&fold, |c| c.fold).ok()?;
        self.columns[found].partials.get(block)?.as_ref()
    }

    fn keep(&mut self, block: usize, fold: u32, partial: Partial) {
        let found = self.columns.binary_search_by_key(&fold, |c| c.fold);
        let place = found.unwrap_or_else(|place| {
            self.columns.insert(place, Column { fold, partials: Vec::new() });
            place
        });
        let partials = &mut self.columns[place].partials;
        if partials.len() <= block {
            partials.resize(block + 1, None);
        }
        self.inner_bytes += partial.heap_bytes();
        if let Some(before) = partials[block].replace(partial) {
            self.inner_bytes -= before.heap_bytes();
        }
    }

    #[inline]
    fn truncate(&mut self, blocks: usize) {
        for column in &mut self.columns {
            for gone in column.partials.drain(blocks.min(column.partials.len())..).flatten() {
                self.inner_bytes -= gone.heap_bytes();
            }
        }
    }

    /// Forgets what is kept of some folds of one block.
    #[inline]
    fn forget(&mut self, block: usize, forgets: impl Fn(u32) -> bool) {
        for column in &mut self.columns {
            if let Some(kept) = column.partials.get_mut(block)
                && forgets(column.fold)
                && let Some(gone) = kept.take()
            {
                self.inner_bytes -= gone.heap_bytes();
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|c| c.partials.capacity());
        self.inner_bytes
            + self.columns.capacity() * size_of::<Column>()
            + columns.sum::<usize>() * size_of::<Option<Partial>>()
    }
}

/// The partials beside one page.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageFolds {
    /// Those of the whole page, as one block.
    whole: Columns,
    runs: Columns,
}

impl PageFolds {
    #[inline]
    pub(crate) fn get(&self, run: Option<usize>, fold: u32) -> Option<&Partial> {
        match run {
            None => self.whole.get(0, fold),
            Some(run) => self.runs.get(run, fold),
        }
    }

    pub(crate) fn keep(&mut self, run: Option<usize>, fold: u32, partial: Partial) {
        match run {
            None => self.whole.keep(0, fold, partial),
            Some(run) => self.runs.keep(run, fold, partial),
        }
    }

    /// A fact came before the one with this index: it and all after it moved.
    #[inline]
    pub(crate) fn moved_from(&mut self, index: usize) {
        self.whole.truncate(0);
        self.runs.truncate(index / RUN_FACTS);
    }

    /// The fact with this index became live or ceased to be.
    pub(crate) fn changed(&mut self, index: usize) {
        self.whole.truncate(0);
        self.runs.forget(index / RUN_FACTS, |_| true);
    }

    /// Forgets some folds of the facts with indexes `first..end`.
    pub(crate) fn forget(&mut self, first: usize, end: usize, forgets: &impl Fn(u32) -> bool) {
        self.whole.forget(0, forgets);
        for run in first / RUN_FACTS..end.div_ceil(RUN_FACTS) {
            self.runs.forget(run, forgets);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.whole.heap_bytes() + self.runs.heap_bytes()
    }
}

/// The partials beside groups of pages.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupFolds(Columns);

impl GroupFolds {
    #[inline]
    pub(crate) fn get(&self, group: usize, fold: u32) -> Option<&Partial> {
        self.0.get(group, fold)
    }

    pub(crate) fn keep(&mut self, group: usize, fold: u32, partial: Partial) {
        self.0.keep(group, fold, partial);
    }

    /// A page came before the one with this index, or went.
    pub(crate) fn moved_from(&mut self, page: usize) {
        self.0.truncate(page / GROUP_PAGES);
    }

    /// Something in the page with this index changed.
    #[inline]
    pub(crate) fn changed(&mut self, page: usize) {
        self.0.forget(page / GROUP_PAGES, |_| true);
    }

    /// Forgets some folds of the page with this index.
    pub(crate) fn forget(&mut self, page: usize, forgets: &impl Fn(u32) -> bool) {
        self.0.forget(page / GROUP_PAGES, forgets);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}
