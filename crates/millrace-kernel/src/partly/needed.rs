//! Which pages a read needs.

use std::collections::BTreeSet;

use millrace_types::Micros;

use crate::entity::EntityState;
use crate::facts::StreamFacts;
use crate::folds::{Block, GROUP_PAGES};
use crate::page::PageName;
use crate::plan::Series;
use crate::windows::Windows;

/// The absent pages that an evaluation of these features at `t` needs, and perhaps a few more.
pub(super) fn pages(
    state: &EntityState,
    view: usize,
    features: &[usize],
    t: Micros,
) -> Vec<PageName> {
    let plan = &state.plan;
    let view = &plan.views[view];
    if state.horizon > Micros::MIN && t < state.horizon {
        return Vec::new();
    }
    let Some(left) = state.left_of(plan, view, features, t) else { return Vec::new() };
    let windows = Windows::new(plan, view, features, t, &left);
    let mut wanted = BTreeSet::new();
    let events = &state.streams[view.events];
    let mut end = t;
    for same in windows.asked.chunk_by(|a, b| a.start == b.start) {
        let start = same[0].start;
        let folds = windows.reaching(start);
        let rows = pages_of_rows(events, start, end, folds);
        wanted.extend(rows.iter().map(|page| (view.events, *page)));
        if folds.iter().any(|fold| fold.reads_joins) {
            for page in rows {
                let page = &events.pages()[page];
                let from = page.first_at().max(start.0);
                let to = page.last_at().min(end.0);
                for join in &view.joins {
                    let pages = state.streams[*join].pages_in_force(Micros(from), Micros(to));
                    wanted.extend(pages.map(|page| (*join, page)));
                }
            }
        }
        end = start;
    }
    for join in &view.joins {
        // Those that hold the version at the instant itself.
        wanted.extend(state.streams[*join].pages_in_force(t, t).map(|page| (*join, page)));
    }
    let absent = |(stream, page): (usize, usize)| {
        state.streams[stream].pages()[page].present().err().map(|missing| missing.0)
    };
    wanted.into_iter().filter_map(absent).collect()
}

/// The pages of which a fold of the events with `start ≤ at < end` looks at facts, as
/// [`crate::fold::Folder::window`] goes through them.
fn pages_of_rows(
    events: &StreamFacts,
    start: Micros,
    end: Micros,
    folds: &[&Series],
) -> Vec<usize> {
    let (from, cut_from) = events.page_at(start);
    let (to, cut_to) = events.page_at(end);
    let past_from = from + usize::from(cut_from);
    let past_to = (to + usize::from(cut_to)).min(events.pages().len());
    if !events.is_large() {
        return (from..past_to).collect();
    }
    let mut rows = Vec::new();
    if cut_from {
        rows.push(from);
    }
    if cut_to && !(cut_from && from == to) {
        rows.push(to);
    }
    let kept = |block, fold: &Series| events.fold_of(block, fold.fold).is_some();
    let mut page = past_from;
    while page < to {
        let whole_group = page.is_multiple_of(GROUP_PAGES) && page + GROUP_PAGES <= to;
        let group = Block::Group(page / GROUP_PAGES);
        let mut beside: Vec<&Series> = folds.to_vec();
        beside.retain(|fold| !(whole_group && kept(group, fold)));
        let past = page + if whole_group { GROUP_PAGES } else { 1 };
        let lacks = |page: &usize| beside.iter().any(|fold| !kept(Block::Page(*page), fold));
        rows.extend((page..past).filter(lacks));
        page = past;
    }
    rows
}
