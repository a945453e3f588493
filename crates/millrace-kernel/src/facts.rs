//! The facts of one entity and stream that are at hand: a set with revisions.
//!
//! The set decides which fact of an id is live (design §2): the ASSERT or END with the greatest
//! `(revision, at, seq, op, row)` whose revision exceeds that of every RETRACT. Nothing depends on
//! the order in which facts came.

mod ids;

use hashbrown::HashTable;
use millrace_types::{FactView, Micros, Op, OrderKey};

use crate::aggregate::Partial;
use crate::folds::{Block, GroupFolds, RUN_FACTS};
use crate::page::{MissingPage, Page, PageLimits, RUNS, id_hash};
use ids::{IdAt, spread};

/// Where a fact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) page: usize,
    pub(crate) index: usize,
}

/// What a stream's facts look like with and without one more fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// No fact of this id is at hand.
    NewId,
    /// This very fact is at hand.
    Same,
    /// Other facts of this id are at hand; `conflict` when one has the same revision.
    Others { conflict: bool },
}

/// The index of the live fact among all facts of one id: the ASSERT or END with the greatest
/// `(revision, at, seq, op, row)` whose revision exceeds that of every RETRACT.
pub(crate) fn live_among<'a>(facts: impl Iterator<Item = FactView<'a>> + Clone) -> Option<usize> {
    let retracts = facts.clone().filter(|f| f.op == Op::Retract);
    let retracted = retracts.map(|f| f.revision).max();
    let says = |f: &FactView<'_>| {
        f.op != Op::Retract && retracted.is_none_or(|retracted| f.revision > retracted)
    };
    let live = facts.enumerate().filter(|(_, f)| says(f));
    live.max_by(|(_, a), (_, b)| a.live_cmp(b)).map(|(index, _)| index)
}

/// The facts at hand of one entity and stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamFacts {
    pages: Vec<Page>,
    len: usize,
    /// What the pages hold, in bytes.
    page_bytes: usize,
    ids: Option<HashTable<IdAt>>,
    /// Partials that reads left, beside those of the pages.
    groups: GroupFolds,
    /// Whether reads left any.
    folded: bool,
    /// Folds whose partials were too large to be kept for the head, until all are forgotten.
    pub(crate) given_up: Vec<u32>,
}

impl StreamFacts {
    pub(crate) fn pages(&self) -> &[Page] {
        &self.pages
    }

    pub(crate) fn pages_mut(&mut self) -> &mut [Page] {
        &mut self.pages
    }

    /// Memory of the facts themselves and of the partials beside them: what is gone once they left.
    pub(crate) fn fact_bytes(&self) -> usize {
        self.page_bytes
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.page_bytes
            + self.pages.capacity() * size_of::<Page>()
            + self.ids.as_ref().map_or(0, |t| t.capacity() * (size_of::<IdAt>() + 1))
            + self.groups.heap_bytes()
    }

    #[inline]
    pub(crate) fn fact(&self, place: Place) -> FactView<'_> {
        self.pages[place.page].fact(place.index)
    }

    /// All places of facts with this id.
    pub(crate) fn find(&self, id: &[u8], hash: u64) -> Vec<Place> {
        let low = hash as u32;
        let mut found = Vec::new();
        match &self.ids {
            None => {
                for (page, p) in self.pages.iter().enumerate() {
                    for (index, r) in p.refs().iter().enumerate() {
                        if r.id_hash == low && p.fact(index).id == id {
                            found.push(Place { page, index });
                        }
                    }
                }
            }
            Some(table) => {
                let mut ats: Vec<i64> = table
                    .iter_hash(spread(low))
                    .filter(|e| e.id_hash == low)
                    .map(|e| e.at)
                    .collect();
                ats.sort_unstable();
                ats.dedup();
                for at in ats {
                    self.find_at(id, low, at, &mut found);
                }
            }
        }
        found
    }

    fn find_at(&self, id: &[u8], low: u32, at: i64, found: &mut Vec<Place>) {
        let first = self.pages.partition_point(|p| p.last_at() < at);
        for (page, p) in self.pages.iter().enumerate().skip(first) {
            if p.first_at() > at {
                break;
            }
            let start = p.lower_bound_at(Micros(at));
            for (index, r) in p.refs().iter().enumerate().skip(start) {
                if r.at != at {
                    break;
                }
                if r.id_hash == low && p.fact(index).id == id {
                    found.push(Place { page, index });
                }
            }
        }
    }

    /// How this fact relates to those of its id, given their places.
    pub(crate) fn known(&self, fact: &FactView<'_>, same_id: &[Place]) -> Known {
        if same_id.is_empty() {
            return Known::NewId;
        }
        let mut conflict = false;
        for place in same_id {
            let other = self.fact(*place);
            if other.same_payload(fact) {
                return Known::Same;
            }
            let both_say = other.op != Op::Retract && fact.op != Op::Retract;
            conflict |= both_say && other.revision == fact.revision;
        }
        Known::Others { conflict }
    }

    /// The place of the live fact among these, which are all facts of one id.
    pub(crate) fn live_of(&self, same_id: &[Place]) -> Option<Place> {
        same_id.iter().copied().find(|p| self.pages[p.page].refs()[p.index].live)
    }

    /// True when `fact` would be its id's live fact beside these.
    pub(crate) fn would_live(&self, fact: &FactView<'_>, same_id: &[Place]) -> bool {
        if fact.op == Op::Retract {
            return false;
        }
        same_id.iter().all(|place| {
            let other = self.fact(*place);
            match other.op {
                Op::Retract => fact.revision > other.revision,
                Op::Assert | Op::End => other.live_cmp(fact).is_lt(),
            }
        })
    }

    /// True when `fact`, a RETRACT, takes back the fact at this place.
    pub(crate) fn retracts(&self, fact: &FactView<'_>, live: Place) -> bool {
        fact.op == Op::Retract && self.fact(live).revision <= fact.revision
    }

    /// Inserts a fact that is not at hand yet; liveness of its id is settled by the caller.
    pub(crate) fn insert(
        &mut self,
        fact: &FactView<'_>,
        hash: u64,
        live: bool,
        limits: PageLimits,
    ) {
        let key = fact.order_key();
        let mut page = self.page_for(&key);
        if self.pages.is_empty() {
            self.pages.push(Page::default());
        }
        if self.pages[page].is_full_for(fact.bytes.len(), limits) {
            page = self.make_room(page, &key, fact.bytes.len(), limits);
        } else if self.pages[page].stored.is_some() && self.comes_last(page, &key) {
            // The store has the page: what comes after it need not be put together with it.
            self.pages.push(Page::default());
            page += 1;
        }
        let index = self.pages[page].upper_bound(&key);
        self.change(page, |p| p.insert(index, fact, hash as u32, live));
        self.groups.changed(page);
        self.len += 1;
        self.remember(fact.at.0, hash as u32);
    }

    fn page_for(&self, key: &OrderKey<'_>) -> usize {
        // The last page that starts at or before the key, in the full order.
        let after = self.pages.partition_point(|p| {
            p.first_at() < key.at.0
                || (p.first_at() == key.at.0 && p.len() > 0 && p.fact(0).order_key() <= *key)
        });
        after.saturating_sub(1)
    }

    /// True when a fact of this key stands after all others, which end with this page.
    fn comes_last(&self, page: usize, key: &OrderKey<'_>) -> bool {
        let last = page + 1 == self.pages.len();
        last && self.pages[page].upper_bound(key) == self.pages[page].len()
    }

    /// Puts the last page, if it changed, together with those before it of its class, once they are
    /// enough: so each fact is put once for each class, however often heads are put, and few pages are
    /// small.
    pub(crate) fn merge_last(&mut self, limits: PageLimits) {
        loop {
            let Some(last) = self.pages.last().filter(|last| last.stored.is_none()) else { return };
            let class = limits.class(last.fact_bytes());
            let alike = |page: &&Page| limits.class(page.fact_bytes()) <= class;
            let alike = self.pages.iter().rev().take(RUNS).take_while(alike).count();
            if alike < RUNS {
                return;
            }
            let mut merged = 1;
            while merged < alike
                && let [.., before, last] = &mut *self.pages
                && before.has_room_for(last, limits)
            {
                let held = before.heap_bytes() + last.heap_bytes();
                before.append(last);
                self.page_bytes = self.page_bytes + before.heap_bytes() - held;
                self.pages.pop();
                merged += 1;
            }
            if merged == 1 {
                return;
            }
            self.groups.moved_from(self.pages.len() - 1);
        }
    }

    fn make_room(
        &mut self,
        page: usize,
        key: &OrderKey<'_>,
        body: usize,
        limits: PageLimits,
    ) -> usize {
        if self.comes_last(page, key) {
            // Facts mostly come in order: a full page stays full, the next one starts empty.
            self.pages.push(Page::default());
            return page + 1;
        }
        if self.pages[page].len() < 2 {
            // A page with one huge fact: the new one gets a page of its own beside it.
            let at = page + usize::from(self.pages[page].upper_bound(key) > 0);
            self.pages.insert(at, Page::default());
            self.groups.moved_from(at);
            return at;
        }
        let upper = self.pages[page].split();
        self.pages.insert(page + 1, upper);
        self.count_pages();
        self.groups.moved_from(page);
        let target = self.page_for(key);
        if self.pages[target].is_full_for(body, limits) {
            return self.make_room(target, key, body, limits);
        }
        target
    }

    pub(crate) fn set_live(&mut self, place: Place, live: bool) {
        self.change(place.page, |p| p.set_live(place.index, live));
        self.groups.changed(place.page);
    }

    /// Settles which fact of this id is live, from scratch. Gives the places.
    pub(crate) fn settle(&mut self, id: &[u8], hash: u64) -> Vec<Place> {
        let places = self.find(id, hash);
        let live = live_among(places.iter().map(|p| self.fact(*p)));
        let best = live.map(|index| places[index]);
        for place in &places {
            self.set_live(*place, Some(*place) == best);
        }
        places
    }

    /// Keeps the facts for which `keep` is true; empty pages go. `keep` may be asked twice.
    pub(crate) fn retain(&mut self, keep: impl Fn(Place, &FactView<'_>) -> bool) {
        for (page, p) in self.pages.iter_mut().enumerate() {
            let doomed = (0..p.len()).any(|index| !keep(Place { page, index }, &p.fact(index)));
            if doomed {
                p.retain(|index, fact| keep(Place { page, index }, fact));
            }
        }
        self.pages.retain(|p| p.len() > 0);
        self.count_pages();
        self.groups = GroupFolds::default();
        self.len = self.pages.iter().map(Page::len).sum();
        self.index_ids();
    }

    /// Removes the facts at these places, which are in order.
    pub(crate) fn remove(&mut self, doomed: &[Place]) {
        self.retain(|place, _| {
            doomed.binary_search_by_key(&(place.page, place.index), |p| (p.page, p.index)).is_err()
        });
    }

    /// Lets go of facts for which `keep` is false, and settles the ids of those that are left.
    pub(crate) fn scrub(&mut self, keep: impl Fn(&FactView<'_>) -> bool) {
        let before = self.len;
        self.retain(|_, fact| keep(fact));
        if self.len < before {
            self.settle_all();
        }
    }

    /// Takes pages read from the store, in order, and settles every id.
    pub(crate) fn from_pages(pages: Vec<Page>) -> Self {
        let len = pages.iter().map(Page::len).sum();
        let mut facts = Self { len, pages, ..Self::default() };
        facts.pages.retain(|p| p.len() > 0);
        facts.count_pages();
        facts.index_ids();
        facts.settle_all();
        facts
    }

    /// Takes pages in order whose facts are settled, or not in memory. Good for reads alone: ids
    /// are not looked for.
    pub(crate) fn from_settled(pages: Vec<Page>) -> Self {
        let len = pages.iter().map(Page::len).sum();
        let mut facts = Self { len, pages, ..Self::default() };
        facts.count_pages();
        facts
    }

    fn settle_all(&mut self) {
        // Ids with one fact are settled at once; only the few others need a look at their group.
        let mut by_hash: Vec<(u32, Place)> = Vec::with_capacity(self.len);
        for (page, p) in self.pages.iter().enumerate() {
            by_hash.extend(
                p.refs().iter().enumerate().map(|(index, r)| (r.id_hash, Place { page, index })),
            );
        }
        by_hash.sort_unstable_by_key(|(hash, place)| (*hash, place.page, place.index));
        let mut start = 0;
        while start < by_hash.len() {
            let hash = by_hash[start].0;
            let end = start + by_hash[start..].partition_point(|(h, _)| *h == hash);
            if end - start == 1 {
                let place = by_hash[start].1;
                let live = self.fact(place).op != Op::Retract;
                self.set_live(place, live);
            } else {
                for (_, place) in &by_hash[start..end] {
                    let id: Box<[u8]> = self.fact(*place).id.into();
                    self.settle(&id, id_hash(&id));
                }
            }
            start = end;
        }
    }

    /// The place of the first fact with `at` not before `at`: one page past the end when there is none.
    ///
    /// # Errors
    /// [`MissingPage`] when it lies inside a page that is not in memory.
    pub(crate) fn place_at(&self, at: Micros) -> Result<Place, MissingPage> {
        let (page, cut) = self.page_at(at);
        if !cut {
            return Ok(Place { page, index: 0 });
        }
        self.pages[page].present()?;
        Ok(Place { page, index: self.pages[page].lower_bound_at(at) })
    }

    /// The page with the first fact with `at` not before `at`, and whether one before it lies there too.
    pub(crate) fn page_at(&self, at: Micros) -> (usize, bool) {
        let page = self.pages.partition_point(|p| p.last_at() < at.0);
        (page, self.pages.get(page).is_some_and(|p| p.first_at() < at.0))
    }

    /// The pages that tell which versions are in force at the instants `from..=to`, newest first.
    pub(crate) fn pages_in_force(&self, from: Micros, to: Micros) -> impl Iterator<Item = usize> {
        let pages = self.pages.partition_point(|p| p.first_at() <= to.0);
        let live = (0..pages).rev().filter_map(move |page| {
            let first = self.pages[page].first_live_at()?;
            (first <= to.0).then_some((page, first))
        });
        let mut found = false;
        live.map_while(move |(page, first)| {
            (!found).then(|| {
                found = first <= from.0;
                page
            })
        })
    }

    /// True when there are so many facts that partials of them are worth their memory.
    pub(crate) fn is_large(&self) -> bool {
        self.len > RUN_FACTS
    }

    /// What is kept of a fold beside a block.
    #[inline]
    pub(crate) fn fold_of(&self, block: Block, fold: u32) -> Option<&Partial> {
        match block {
            Block::Group(group) => self.groups.get(group, fold),
            Block::Page(page) => self.pages[page].fold_of(None, fold),
            Block::Run { page, run } => self.pages[page].fold_of(Some(run), fold),
        }
    }

    /// Keeps a partial beside a block.
    pub(crate) fn keep_fold(&mut self, block: Block, fold: u32, partial: Partial) {
        self.folded = true;
        match block {
            Block::Group(group) => self.groups.keep(group, fold, partial),
            Block::Page(page) => self.change(page, |p| p.keep_fold(None, fold, partial)),
            Block::Run { page, run } => {
                self.change(page, |p| p.keep_fold(Some(run), fold, partial));
            }
        }
    }

    /// Changes a page and counts what it then holds.
    #[inline]
    fn change<T>(&mut self, page: usize, change: impl FnOnce(&mut Page) -> T) -> T {
        let page = &mut self.pages[page];
        let before = page.heap_bytes();
        let result = change(page);
        self.page_bytes = self.page_bytes + page.heap_bytes() - before;
        result
    }

    pub(crate) fn count_pages(&mut self) {
        self.page_bytes = self.pages.iter().map(Page::heap_bytes).sum();
    }

    /// Whether reads left any partials.
    pub(crate) fn is_folded(&self) -> bool {
        self.folded
    }

    /// Forgets some partials over facts with `from ≤ at < to`.
    pub(crate) fn forget_between(
        &mut self,
        from: Micros,
        to: Micros,
        forgets: &impl Fn(u32) -> bool,
    ) {
        let first = self.pages.partition_point(|p| p.last_at() < from.0);
        for page in first..self.pages.len() {
            if self.pages[page].first_at() >= to.0 {
                break;
            }
            self.change(page, |p| p.forget_between(from, to, forgets));
            self.groups.forget(page, forgets);
        }
    }

    /// Forgets all partials.
    pub(crate) fn forget(&mut self) {
        self.given_up.clear();
        if std::mem::take(&mut self.folded) {
            self.pages.iter_mut().for_each(Page::forget);
            self.count_pages();
            self.groups = GroupFolds::default();
        }
    }

    /// The number of live facts with `from ≤ at < to`.
    pub(crate) fn live_between(&self, from: Micros, to: Micros) -> u64 {
        let first = self.pages.partition_point(|p| p.last_at() < from.0);
        let mut count = 0;
        for p in &self.pages[first..] {
            if p.first_at() >= to.0 {
                break;
            }
            if p.first_at() >= from.0 && p.last_at() < to.0 {
                count += p.live_len();
            } else {
                let (a, b) = (p.lower_bound_at(from), p.lower_bound_at(to));
                count += p.refs()[a..b].iter().filter(|r| r.live).count() as u64;
            }
        }
        count
    }

    /// The live facts with `from ≤ at < to`, in order.
    pub(crate) fn live_range(
        &self,
        from: Micros,
        to: Micros,
    ) -> impl Iterator<Item = FactView<'_>> {
        let first = self.pages.partition_point(|p| p.last_at() < from.0);
        self.pages[first..].iter().take_while(move |p| p.first_at() < to.0).flat_map(move |p| {
            let (a, b) = (p.lower_bound_at(from), p.lower_bound_at(to).max(p.lower_bound_at(from)));
            (a..b).filter(|i| p.refs()[*i].live).map(|i| p.fact(i))
        })
    }

    /// The last live fact with `at ≤ at`, in `(at, seq, id)`: the version in force.
    pub(crate) fn live_at_or_before(&self, at: Micros) -> Option<FactView<'_>> {
        let pages = self.pages.partition_point(|p| p.first_at() <= at.0);
        let mut pages = self.pages[..pages].iter().rev().filter(|p| p.live_len() > 0);
        pages.find_map(|p| p.last_live_until(at))
    }

    /// As [`StreamFacts::live_at_or_before`], where pages may not be in memory.
    ///
    /// # Errors
    /// [`MissingPage`] when it stands in one of them.
    pub(crate) fn in_force(&self, at: Micros) -> Result<Option<FactView<'_>>, MissingPage> {
        let pages = self.pages.partition_point(|p| p.first_at() <= at.0);
        for page in self.pages[..pages].iter().rev().filter(|p| p.live_len() > 0) {
            if page.begins_after(at) {
                continue;
            }
            page.present()?;
            if let Some(found) = page.last_live_until(at) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The last live fact before this place in the order `(at, seq, id)`.
    pub(crate) fn live_before(&self, key: &OrderKey<'_>) -> Option<FactView<'_>> {
        let pages = self.pages.partition_point(|p| p.first_at() <= key.at.0);
        self.pages[..pages].iter().rev().filter(|p| p.live_len() > 0).find_map(|p| {
            let end = p.upper_bound(key);
            (0..end)
                .rev()
                .filter(|i| p.refs()[*i].live)
                .map(|i| p.fact(i))
                .find(|f| f.order_key() < *key)
        })
    }

    /// The `at` of the first live fact after `at`.
    pub(crate) fn next_live_after(&self, at: Micros) -> Option<Micros> {
        let from = Micros(at.0.checked_add(1)?);
        let first = self.pages.partition_point(|p| p.last_at() < from.0);
        self.pages[first..].iter().filter(|p| p.live_len() > 0).find_map(|p| {
            let start = p.lower_bound_at(from);
            p.refs()[start..].iter().find(|r| r.live).map(|r| Micros(r.at))
        })
    }

    /// The `at` of the first live fact.
    pub(crate) fn first_live(&self) -> Option<Micros> {
        let first = self.pages.iter().find(|p| p.live_len() > 0)?;
        first.first_live_at().map(Micros)
    }
}
