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

/// The places of a column's values that are in a window, of events that are known.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Those up to the first that is not known.
    pub(super) span: Span,
    /// Where what happened ends.
    end: usize,
    /// Those behind it that are known, in order.
    pub(super) beyond: Vec<usize>,
}

impl Reach {
    /// Goes on to an instant that is not before the last one.
    #[inline]
    pub(super) fn go_on_to(&mut self, t: Micros, window: Window, column: &Column<'_>) {
        if column.known.is_empty() {
            return self.span.go_on_to(t, window, &column.ats);
        }
        let known = |place: &usize| column.known[*place] <= t.0;
        let mut all = Span { start: self.span.start, end: self.end };
        all.go_on_to(t, window, &column.ats);
        // What left the window need not be known.
        let mut front = self.span.end.max(all.start);
        while front < all.end && known(&front) {
            front += 1;
        }
        self.span = Span { start: all.start, end: front };
        self.end = all.end;
        self.beyond.clear();
        self.beyond.extend((front..all.end).filter(known));
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
    /// The window before everything, of a feature that [`slides`].
    pub(super) fn new(feature: &'p Feature, series: &Series) -> Self {
        let kept = match feature.aggregate {
            Aggregate::Sum | Aggregate::Mean if has_totals(series) => Kept::Nothing,
            Aggregate::Sum | Aggregate::Mean | Aggregate::Variance | Aggregate::Stddev => {
                Kept::Sum(Box::new(Partial::new(feature)))
            }
            Aggregate::Min => Kept::Extremes { places: VecDeque::new(), least: true },
            Aggregate::Max => Kept::Extremes { places: VecDeque::new(), least: false },
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
    fn go_on_to(&mut self, window: Span, column: &Column<'_>) {
        while self.over.end < window.end {
            self.kept.add(self.over.end, column);
            self.over.end += 1;
        }
        while self.over.start < window.start {
            self.kept.remove(self.over.start, column);
            self.over.start += 1;
        }
    }

    /// The feature's value over what is in the window, which is not before the last one.
    #[inline]
    pub(super) fn hand<R>(
        &mut self,
        Reach { span: window, beyond, .. }: &Reach,
        column: &Column<'_>,
        take: impl FnOnce(Cell<'_>, Status) -> R,
    ) -> R {
        if !matches!(self.kept, Kept::Nothing) {
            self.go_on_to(*window, column);
        }
        let Span { start, end } = *window;
        let rows = (end - start + beyond.len()) as u64;
        let mut places = (start..end).chain(beyond.iter().copied());
        let total = || {
            let of = |place: &usize| column.total(*place, place + 1);
            column.total(start, end) + beyond.iter().map(of).sum::<i128>()
        };
        match (&mut self.kept, self.feature.aggregate) {
            (Kept::Sum(partial), _) => {
                let value = |place: &usize| column.value(*place);
                beyond.iter().for_each(|p| partial.add(nowhere(column.ats[*p]), value(p)));
                let (sum, status) = partial.finish(self.feature);
                beyond.iter().for_each(|p| partial.remove(value(p)));
                take((&sum).into(), status)
            }
            (Kept::Extremes { places, least }, _) => {
                let of_all = places.front().into_iter().chain(beyond);
                let values = of_all.map(|place| column.value(*place));
                let beyond_all = |best: ValueRef<'_>, value: &ValueRef<'_>| {
                    let order = value.total_cmp(best);
                    if *least { order.is_lt() } else { order.is_gt() }
                };
                let best = values
                    .reduce(|best, value| if beyond_all(best, &value) { value } else { best });
                one(best, take)
            }
            (Kept::Nothing, Aggregate::Sum) => {
                let (value, status) = int_sum(rows, total());
                take(Cell::Scalar(value), status)
            }
            (Kept::Nothing, Aggregate::Mean) => {
                let (value, status) = int_mean(rows, total());
                take(Cell::Scalar(value), status)
            }
            (Kept::Nothing, Aggregate::First) => {
                one(places.next().map(|place| column.value(place)), take)
            }
            (Kept::Nothing, Aggregate::Last) => {
                one(places.next_back().map(|place| column.value(place)), take)
            }
            (Kept::Nothing, Aggregate::FirstN { n }) => {
                let values = places.take(n).map(|place| column.value(place));
                take(Cell::List(values.collect()), Status::Present)
            }
            (Kept::Nothing, Aggregate::LastN { n }) => {
                let values = places.rev().take(n).map(|place| column.value(place));
                take(Cell::List(values.collect()), Status::Present)
            }
            (Kept::Nothing, _) => {
                let (value, status) = count(rows);
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
            // A sum does not ask where a value stands.
            Self::Sum(partial) => {
                partial.add(nowhere(column.ats[place]), column.value(place));
            }
            Self::Extremes { places, least } => {
                let beaten = |back: &usize| {
                    let order = column.value(place).total_cmp(column.value(*back));
                    if *least { order.is_le() } else { order.is_ge() }
                };
                while places.back().is_some_and(beaten) {
                    places.pop_back();
                }
                places.push_back(place);
            }
        }
    }

    #[inline]
    fn remove(&mut self, place: usize, column: &Column<'_>) {
        match self {
            Self::Nothing => {}
            Self::Sum(partial) => partial.remove(column.value(place)),
            Self::Extremes { places, .. } => {
                if places.front() == Some(&place) {
                    places.pop_front();
                }
            }
        }
    }
}

fn nowhere(at: i64) -> OrderKey<'static> {
    OrderKey { at: Micros(at), seq: 0, id: &[] }
}
