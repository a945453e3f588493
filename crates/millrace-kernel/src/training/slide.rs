//! A feature's window as it slides over a column.

use std::collections::VecDeque;

use millrace_catalog::{Aggregate, Feature};
use millrace_types::{Micros, OrderKey, Status, ValueRef};

use super::Cell;
use super::column::Column;
use crate::aggregate::{Partial, count};

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

/// What is kept of the values between the ends.
#[derive(Debug)]
enum Kept {
    /// Their places alone.
    Places,
    /// Their sum, from which they can be taken away again.
    Sum(Partial),
    /// The places of those that are, or may become, the extreme: each beyond all behind it.
    Extremes { places: VecDeque<usize>, least: bool },
}

/// The window of one feature over its column.
#[derive(Debug)]
pub(super) struct Slide<'p> {
    feature: &'p Feature,
    /// The values between are in the window.
    start: usize,
    end: usize,
    kept: Kept,
}

impl<'p> Slide<'p> {
    /// The window before everything, of a feature that [`slides`].
    pub(super) fn new(feature: &'p Feature) -> Self {
        let kept = match feature.aggregate {
            Aggregate::Sum | Aggregate::Mean | Aggregate::Variance | Aggregate::Stddev => {
                Kept::Sum(Partial::new(feature))
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
            | Aggregate::Latest => Kept::Places,
        };
        Self { feature, start: 0, end: 0, kept }
    }

    /// Slides on to an instant that is not before the last one, at which the window starts at `first`.
    #[inline]
    pub(super) fn go_on_to(&mut self, t: Micros, first: Micros, column: &Column<'_>) {
        while column.ats.get(self.end).is_some_and(|at| *at < t.0) {
            self.kept.add(self.end, column);
            self.end += 1;
        }
        while self.start < self.end && column.ats[self.start] < first.0 {
            self.kept.remove(self.start, column);
            self.start += 1;
        }
    }

    /// The feature's value over what is in the window.
    #[inline]
    pub(super) fn hand<'a, R>(
        &self,
        column: &Column<'a>,
        take: impl FnOnce(Cell<'_>, Status) -> R,
    ) -> R {
        let values = column.values.get(self.start..self.end).unwrap_or_default();
        match (&self.kept, self.feature.aggregate) {
            (Kept::Sum(partial), _) => {
                let (value, status) = partial.finish(self.feature);
                take((&value).into(), status)
            }
            (Kept::Extremes { places, .. }, _) => {
                one(places.front().map(|place| column.values[*place]), take)
            }
            (Kept::Places, Aggregate::First) => one(values.first().copied(), take),
            (Kept::Places, Aggregate::Last) => one(values.last().copied(), take),
            (Kept::Places, Aggregate::FirstN { n }) => {
                take(Cell::List(values.iter().take(n).copied().collect()), Status::Present)
            }
            (Kept::Places, Aggregate::LastN { n }) => {
                take(Cell::List(values.iter().rev().take(n).copied().collect()), Status::Present)
            }
            (Kept::Places, _) => {
                let (value, status) = count((self.end - self.start) as u64);
                take((&value).into(), status)
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
            Self::Places => {}
            // A sum does not ask where a value stands.
            Self::Sum(partial) => {
                partial.add(nowhere(column.ats[place]), column.values[place]);
            }
            Self::Extremes { places, least } => {
                let beaten = |back: &usize| {
                    let order = column.values[place].total_cmp(column.values[*back]);
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
            Self::Places => {}
            Self::Sum(partial) => partial.remove(column.values[place]),
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
