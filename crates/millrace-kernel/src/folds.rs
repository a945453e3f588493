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

/// The partials of one block, ascending by what is folded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folds(Vec<(u32, Partial)>);

impl Folds {
    /// What is kept of the fold with this number ([`crate::plan::Series::fold`]).
    #[inline]
    pub(crate) fn get(&self, fold: u32) -> Option<&Partial> {
        let found = self.0.binary_search_by_key(&fold, |(have, _)| *have).ok()?;
        Some(&self.0[found].1)
    }

    fn keep(&mut self, fold: u32, partial: Partial) {
        if let Err(place) = self.0.binary_search_by_key(&fold, |(have, _)| *have) {
            self.0.insert(place, (fold, partial));
        }
    }

    fn forget(&mut self, forgets: &impl Fn(u32) -> bool) {
        self.0.retain(|(fold, _)| !forgets(*fold));
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u32, Partial)>()
            + self.0.iter().map(|(_, partial)| partial.heap_bytes()).sum::<usize>()
    }
}

/// A list of partials, one for each block of a kind.
#[derive(Debug, Clone, Default)]
struct List {
    blocks: Vec<Folds>,
    /// What the partials hold, in bytes.
    bytes: usize,
}

impl List {
    fn take(&mut self, index: usize) -> Folds {
        let taken = self.blocks.get_mut(index).map(std::mem::take).unwrap_or_default();
        self.bytes -= taken.heap_bytes();
        taken
    }

    fn put(&mut self, index: usize, folds: Folds) {
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, Folds::default);
        }
        self.bytes += folds.heap_bytes();
        self.blocks[index] = folds;
    }

    fn keep(&mut self, index: usize, kept: impl Iterator<Item = (u32, Partial)>) {
        let mut folds = self.take(index);
        kept.for_each(|(fold, partial)| folds.keep(fold, partial));
        self.put(index, folds);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        for gone in self.blocks.drain(len.min(self.blocks.len())..) {
            self.bytes -= gone.heap_bytes();
        }
    }

    fn forget(&mut self, index: usize, forgets: &impl Fn(u32) -> bool) {
        if index < self.blocks.len() {
            let mut folds = self.take(index);
            folds.forget(forgets);
            self.put(index, folds);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.bytes + self.blocks.capacity() * size_of::<Folds>()
    }
}

/// The partials beside one page.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageFolds {
    /// Those of the whole page, as a list of one.
    whole: List,
    runs: List,
}

impl PageFolds {
    #[inline]
    pub(crate) fn get(&self, run: Option<usize>) -> Option<&Folds> {
        match run {
            None => self.whole.blocks.first(),
            Some(run) => self.runs.blocks.get(run),
        }
    }

    pub(crate) fn keep(&mut self, run: Option<usize>, folds: impl Iterator<Item = (u32, Partial)>) {
        match run {
            None => self.whole.keep(0, folds),
            Some(run) => self.runs.keep(run, folds),
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
        drop(self.runs.take(index / RUN_FACTS));
    }

    /// Forgets some folds of the facts with indexes `first..end`.
    pub(crate) fn forget(&mut self, first: usize, end: usize, forgets: &impl Fn(u32) -> bool) {
        self.whole.forget(0, forgets);
        for run in first / RUN_FACTS..end.div_ceil(RUN_FACTS).min(self.runs.blocks.len()) {
            self.runs.forget(run, forgets);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.whole.heap_bytes() + self.runs.heap_bytes()
    }
}

/// The partials beside groups of pages.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupFolds(List);

impl GroupFolds {
    #[inline]
    pub(crate) fn get(&self, group: usize) -> Option<&Folds> {
        self.0.blocks.get(group)
    }

    pub(crate) fn keep(&mut self, group: usize, folds: impl Iterator<Item = (u32, Partial)>) {
        self.0.keep(group, folds);
    }

    /// A page came before the one with this index, or went.
    pub(crate) fn moved_from(&mut self, page: usize) {
        self.0.truncate(page / GROUP_PAGES);
    }

    /// Something in the page with this index changed.
    #[inline]
    pub(crate) fn changed(&mut self, page: usize) {
        drop(self.0.take(page / GROUP_PAGES));
    }

    /// Forgets some folds of the page with this index.
    pub(crate) fn forget(&mut self, page: usize, forgets: &impl Fn(u32) -> bool) {
        self.0.forget(page / GROUP_PAGES, forgets);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}
