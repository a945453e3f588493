//! A feature's window as it slides over a column.

use std::collections::VecDeque;

use millrace_catalog::{Aggregate, Feature, Window};
use millrace_types::{Micros, OrderKey, Status, ValueRef};

use super::Cell;
use super::column::{Column, has_totals};
use crate::aggregate::{Partial, count, int_mean, int_sum};
use crate::plan::Series;

/// Whether windows of this feature can slide. Sets of distinct values cannot: what leaves a window
/// says nothing of whether it is there another time.
pub(super) fn slides(feature: &Feature) -> bool {
    match feature.aggregate {
        Aggregate::Count
        | Aggregate::Sum
        | Aggregate::Mean
        | Aggregate::Min
        | Aggregate::Max
        | Aggregate::Variance
        | Aggregate::Stddev
        | Aggregate::First
        | Aggregate::Last
        | Aggregate::FirstN { .. }
        | Aggregate::LastN { .. } => true,
        Aggregate::CountDistinct { .. }
        | Aggregate::TopK { .. }
        | Aggregate::ApproxPercentile { .. }
        | Aggregate::Latest => false,
    }
}

/// The places of a column's values that are in a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// Goes on to an instant that is not before the last one.
    #[inline]
    pub(super) fn go_on_to(&mut self, t: Micros, window: Window, ats: &[i64]) {
        while ats.get(self.end).is_some_and(|at| *at < t.0) {
            self.end += 1;
        }
        // Where a window starts takes a division, and mostly nothing is old enough to leave it.
        if self.start < self.end && may_leave(ats[self.start], t, window) {
            let first = window.start(t);
            while self.start < self.end && ats[self.start] < first.0 {
                self.start += 1;
            }
        }
    }
}

/// The places of a column's values that are in a window, of events that are known and not superseded.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Those that happened.
    pub(super) span: Span,
    /// The row that was gone on to last.
    t: i64,
    /// How many of the column's late ones were known by then, and how many were superseded.
    late: usize,
    superseded: usize,
    /// How many in the window are seen, where that is not all.
    rows: u64,
    /// What of them came in since the row before, what the window left behind, and what was superseded.
    entered: Vec<usize>,
    left: Vec<usize>,
    gone: Vec<usize>,
}

impl Reach {
    /// Goes on to an instant that is not before the last one.
    #[inline]
    pub(super) fn go_on_to(&mut self, t: Micros, window: Window, column: &Column<'_>) {
        if column.known.is_empty() {
            return self.span.go_on_to(t, window, &column.ats);
        }
        let (before, row_before) = (self.span, std::mem::replace(&mut self.t, t.0));
        self.span.go_on_to(t, window, &column.ats);
        let Span { start, end } = self.span;
        let was_in = |place: &usize| {
            (before.start..before.end).contains(place) && column.is_live(*place, row_before)
        };
        self.left.clear();
        self.left.extend((before.start..start.min(before.end)).filter(was_in));
        self.gone.clear();
        while let Some(place) = column.superseded.get(self.superseded).copied() {
            if column.until[place] > t.0 {
                break;
            }
            self.superseded += 1;
            if place >= start && was_in(&place) {
                self.gone.push(place);
            }
        }
        self.entered.clear();
        let is_seen = |place: &usize| !column.is_late(*place) && column.is_live(*place, t.0);
        self.entered.extend((start.max(before.end)..end).filter(is_seen));
        while let Some(place) = column.late.get(self.late).copied() {
            // Known after its instant and by this one, it has happened; it may have left before.
            if column.known[place] > t.0 {
                break;
            }
            self.late += 1;
            if place >= start && column.is_live(place, t.0) {
                self.entered.push(place);
            }
        }
        self.rows += self.entered.len() as u64;
        self.rows -= (self.left.len() + self.gone.len()) as u64;
    }

    /// How many are in the window.
    #[inline]
    fn rows(&self, column: &Column<'_>) -> u64 {
        match column.known.is_empty() {
            true => (self.span.end - self.span.start) as u64,
            false => self.rows,
        }
    }

    /// Whether a place is in the window, which it was before.
    #[inline]
    fn has(&self, place: usize, column: &Column<'_>) -> bool {
        place >= self.span.start && column.is_live(place, self.t)
    }

    /// The places that are in the window, in order.
    #[inline]
    fn places<'c>(&self, column: &'c Column<'_>) -> impl DoubleEndedIterator<Item = usize> + 'c {
        let t = self.t;
        (self.span.start..self.span.end).filter(move |place| column.is_live(*place, t))
    }
}

/// Whether an instant may lie before the window at `t`: a window starts a hop early at most.
#[inline]
fn may_leave(at: i64, t: Micros, window: Window) -> bool {
    match window {
        Window::Unbounded => false,
        Window::Sliding { width_us, .. } | Window::Exact { width_us } => at < t.minus(width_us).0,
    }
}

/// What is kept of the values in the window.
#[derive(Debug)]
enum Kept {
    /// Nothing: where they stand says it all.
    Nothing,
    /// The sum of those that are known, where some were late.
    Total(i128),
    /// The first and the last of these.
    Ends { first: Option<usize>, last: Option<usize> },
    /// Their sum, from which they can be taken away again.
    Sum(Box<Partial>),
    /// The places of those that are, or may become, the extreme: each beyond all behind it.
    Extremes { places: VecDeque<usize>, least: bool },
}

/// The window of one feature over its column.
#[derive(Debug)]
pub(super) struct Slide<'p> {
    feature: &'p Feature,
    /// What is kept is of these.
    over: Span,
    kept: Kept,
}

impl<'p> Slide<'p> {
    /// The window before everything, of a feature that [`slides`], over its column.
    pub(super) fn new(feature: &'p Feature, series: &Series, column: &Column<'_>) -> Self {
        let any_late = !column.known.is_empty();
        let kept = match feature.aggregate {
            Aggregate::Sum | Aggregate::Mean if has_totals(series) => match any_late {
                true => Kept::Total(0),
                false => Kept::Nothing,
            },
            Aggregate::Sum | Aggregate::Mean | Aggregate::Variance | Aggregate::Stddev => {
                Kept::Sum(Box::new(Partial::new(feature)))
            }
            Aggregate::Min => Kept::Extremes { places: VecDeque::new(), least: true },
            Aggregate::Max => Kept::Extremes { places: VecDeque::new(), least: false },
            Aggregate::First | Aggregate::Last if any_late => {
                Kept::Ends { first: None, last: None }
            }
            Aggregate::Count
            | Aggregate::First
            | Aggregate::Last
            | Aggregate::FirstN { .. }
            | Aggregate::LastN { .. }
            | Aggregate::CountDistinct { .. }
            | Aggregate::TopK { .. }
            | Aggregate::ApproxPercentile { .. }
            | Aggregate::Latest => Kept::Nothing,
        };
        Self { feature, over: Span::default(), kept }
    }

    /// Goes on to where the window is now.
    #[inline]
    fn go_on_to(&mut self, reach: &Reach, column: &Column<'_>) {
        if matches!(self.kept, Kept::Nothing) {
            return;
        }
        if !column.known.is_empty() {
            reach.left.iter().for_each(|place| self.kept.remove(*place, column));
            let mut is_whole = true;
            reach.gone.iter().for_each(|place| is_whole &= self.kept.take_out(*place, column));
            if !is_whole {
                // What it had beaten may be the extreme now.
                self.kept.begin_again();
                reach.places(column).for_each(|place| self.kept.add(place, column));
                return;
            }
            reach.entered.iter().for_each(|place| self.kept.add(*place, column));
            return;
        }
        while self.over.end < reach.span.end {
            self.kept.add(self.over.end, column);
            self.over.end += 1;
        }
        while self.over.start < reach.span.start {
            self.kept.remove(self.over.start, column);
            self.over.start += 1;
        }
    }

    /// The feature's value over what is in the window, which is not before the last one. Each window is gone
    /// on to once a row, and then its features are handed.
    #[inline]
    pub(super) fn hand<R>(
        &mut self,
        reach: &Reach,
        column: &Column<'_>,
        take: impl FnOnce(Cell<'_>, Status) -> R,
    ) -> R {
        self.go_on_to(reach, column);
        let Span { start, end } = reach.span;
        match (&mut self.kept, self.feature.aggregate) {
            (Kept::Sum(partial), _) => {
                let (sum, status) = partial.finish(self.feature);
                take((&sum).into(), status)
            }
            (Kept::Extremes { places, .. }, _) => {
                one(places.front().map(|place| column.value(*place)), take)
            }
            (Kept::Ends { first, .. }, Aggregate::First) => {
                if first.is_some_and(|first| !reach.has(first, column)) {
                    *first = reach.places(column).next();
                }
                one(first.map(|place| column.value(place)), take)
            }
            (Kept::Ends { last, .. }, _) => {
                if last.is_some_and(|last| !reach.has(last, column)) {
                    *last = reach.places(column).next_back();
                }
                one(last.map(|place| column.value(place)), take)
            }
            (Kept::Total(_) | Kept::Nothing, Aggregate::Sum | Aggregate::Mean) => {
                let total = match self.kept {
                    Kept::Total(total) => total,
                    Kept::Nothing | Kept::Ends { .. } | Kept::Sum(_) | Kept::Extremes { .. } => {
                        column.total(start, end)
                    }
                };
                let rows = reach.rows(column);
                let (value, status) = match matches!(self.feature.aggregate, Aggregate::Mean) {
                    true => int_mean(rows, total),
                    false => int_sum(rows, total),
                };
                take(Cell::Scalar(value), status)
            }
            (Kept::Nothing, Aggregate::First) => {
                one((start < end).then(|| column.value(start)), take)
            }
            (Kept::Nothing, Aggregate::Last) => {
                one((start < end).then(|| column.value(end - 1)), take)
            }
            (Kept::Nothing, Aggregate::FirstN { n }) => {
                let values = reach.places(column).take(n).map(|place| column.value(place));
                take(Cell::List(values.collect()), Status::Present)
            }
            (Kept::Nothing, Aggregate::LastN { n }) => {
                let values = reach.places(column).rev().take(n).map(|place| column.value(place));
                take(Cell::List(values.collect()), Status::Present)
            }
            (Kept::Total(_) | Kept::Nothing, _) => {
                let (value, status) = count(reach.rows(column));
                take(Cell::Scalar(value), status)
            }
        }
    }
}

fn one<R>(value: Option<ValueRef<'_>>, take: impl FnOnce(Cell<'_>, Status) -> R) -> R {
    match value {
        Some(value) => take(Cell::Scalar(value), Status::Present),
        None => take(Cell::Scalar(ValueRef::Null), Status::Null),
    }
}

impl Kept {
    #[inline]
    fn add(&mut self, place: usize, column: &Column<'_>) {
        match self {
            Self::Nothing => {}
            Self::Total(total) => *total += column.total(place, place + 1),
            Self::Ends { first, last } => {
                *first = Some(first.map_or(place, |first| first.min(place)));
                *last = Some(last.map_or(place, |last| last.max(place)));
            }
            // A sum does not ask where a value stands.
            Self::Sum(partial) => {
                partial.add(nowhere(column.ats[place]), column.value(place));
            }
            Self::Extremes { places, least } => {
                let beats = |one: usize, other: usize| {
                    let order = column.value(one).total_cmp(column.value(other));
                    if *least { order.is_le() } else { order.is_ge() }
                };
                // Mostly the last one of all; one that was late stands among others.
                let behind = match places.back() {
                    Some(back) if *back > place => places.partition_point(|have| *have < place),
                    _ => places.len(),
                };
                if places.get(behind).is_some_and(|next| beats(*next, place)) {
                    return;
                }
                let mut from = behind;
                while from > 0 && beats(place, places[from - 1]) {
                    from -= 1;
                }
                places.drain(from..behind);
                places.insert(from, place);
            }
        }
    }

    #[inline]
    fn remove(&mut self, place: usize, column: &Column<'_>) {
        match self {
            // Ends that left are looked for when they are asked for.
            Self::Nothing | Self::Ends { .. } => {}
            Self::Total(total) => *total -= column.total(place, place + 1),
            Self::Sum(partial) => partial.remove(column.value(place)),
            Self::Extremes { places, .. } => {
                if places.front() == Some(&place) {
                    places.pop_front();
                }
            }
        }
    }

    /// Takes out what stands anywhere in the window; false where what is kept does not tell what is left.
    fn take_out(&mut self, place: usize, column: &Column<'_>) -> bool {
        if let Self::Extremes { places, .. } = self {
            return places.binary_search(&place).is_err();
        }
        self.remove(place, column);
        true
    }

    /// Lets go of all extremes.
    fn begin_again(&mut self) {
        if let Self::Extremes { places, .. } = self {
            places.clear();
        }
    }
}

fn nowhere(at: i64) -> OrderKey<'static> {
    OrderKey { at: Micros(at), seq: 0, id: &[] }
}
