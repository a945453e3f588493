//! What each series folds, event by event, with the versions the events meet.

use std::borrow::Cow;

use millrace_catalog::{Aggregate, FieldSource, Source};
use millrace_types::{FieldType, ValueRef};

use super::cells::Cells;
use super::known::{Known, NOTHING};
use super::live::LiveFacts;
use crate::plan::{Series, ViewPlan};

/// The values that a series folds: those of the events it keeps, in order, NULLs left out.
#[derive(Debug)]
pub(super) struct Column<'a> {
    pub(super) ats: Cow<'a, [i64]>,
    /// When the event of each was known; empty where all were by their instants.
    pub(super) known: Cow<'a, [i64]>,
    /// The places of those that were known after their instants, in the order in which they became known.
    pub(super) late: Vec<usize>,
    /// Until when the event of each is live; empty where all still are.
    pub(super) until: Cow<'a, [i64]>,
    /// The places of those that are live no more, in the order in which they were superseded.
    pub(super) superseded: Vec<usize>,
    values: Values<'a>,
    /// Of an int64 that is summed up: the sum of the values before each, and of all. No sum of as many
    /// int64 as memory holds overflows 128 bits.
    totals: Vec<i128>,
}

/// Where the values of a column stand.
#[derive(Debug)]
enum Values<'a> {
    /// Nowhere: a count asks for none.
    None,
    /// One behind the other.
    Run {
        cells: &'a Cells,
        first: usize,
    },
    Picked {
        cells: &'a Cells,
        places: Vec<usize>,
    },
}

impl<'a> Column<'a> {
    fn over(
        ats: Cow<'a, [i64]>,
        (known, until): (Cow<'a, [i64]>, Cow<'a, [i64]>),
        values: Values<'a>,
    ) -> Self {
        let (late, superseded) = (Vec::new(), Vec::new());
        Self { ats, known, late, until, superseded, values, totals: Vec::new() }
    }

    /// Whether it has every event of the stream.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.ats, Cow::Borrowed(_))
    }

    /// The value at a place.
    #[inline]
    pub(super) fn value(&self, place: usize) -> ValueRef<'a> {
        match &self.values {
            Values::None => ValueRef::Bool(true),
            Values::Run { cells, first } => cells.get(first + place),
            Values::Picked { cells, places } => cells.get(places[place]),
        }
    }

    /// The sum of the values in a range of places, of an int64 that is summed up.
    #[inline]
    pub(super) fn total(&self, start: usize, end: usize) -> i128 {
        self.totals[end] - self.totals[start]
    }

    /// Whether the event at a place was known after its instant.
    #[inline]
    pub(super) fn is_late(&self, place: usize) -> bool {
        self.known.get(place).is_some_and(|known| *known > self.ats[place])
    }

    /// Whether a row at an instant sees the event at a place, if it happened before.
    #[inline]
    pub(super) fn is_live(&self, place: usize, t: i64) -> bool {
        self.known.get(place).is_none_or(|known| *known <= t)
            && self.until.get(place).is_none_or(|until| t < *until)
    }

    fn put_in_order(&mut self) {
        let mut late: Vec<usize> = (0..self.known.len()).filter(|p| self.is_late(*p)).collect();
        late.sort_by_key(|place| self.known[*place]);
        self.late = late;
        let superseded = (0..self.until.len()).filter(|place| self.until[*place] < i64::MAX);
        let mut superseded: Vec<usize> = superseded.collect();
        superseded.sort_by_key(|place| self.until[*place]);
        self.superseded = superseded;
    }

    fn sum_up(&mut self) {
        let mut total = 0i128;
        self.totals.reserve_exact(self.ats.len() + 1);
        self.totals.push(total);
        let add = |word: &u64| {
            total += i128::from(*word as i64);
            total
        };
        match &self.values {
            Values::None => {}
            Values::Run { cells, first } => {
                self.totals.extend(cells.words()[*first..first + self.ats.len()].iter().map(add));
            }
            Values::Picked { cells, places } => {
                self.totals.extend(places.iter().map(|place| &cells.words()[*place]).map(add));
            }
        }
    }
}

/// Whether the windows of a series are differences of totals.
pub(super) fn has_totals(series: &Series) -> bool {
    let is_int = series.feature.argument.is_some_and(|a| a.ty == FieldType::Int64);
    is_int && matches!(series.feature.aggregate, Aggregate::Sum | Aggregate::Mean)
}

/// The columns of these series over the live facts of an entity, by stream of the kind, for rows that see what
/// was known.
pub(super) fn columns<'a>(
    view: &ViewPlan,
    series: &[&Series],
    live: &[LiveFacts<'a>],
    known: &'a Known,
) -> Vec<Column<'a>> {
    let of = |series: &&Series| {
        let whole = whole(view, series, live, known);
        let mut column = whole.unwrap_or_else(|| picked(view, series, live, known));
        column.put_in_order();
        if has_totals(series) {
            column.sum_up();
        }
        column
    };
    series.iter().map(of).collect()
}

/// The column of a series that keeps every event.
fn whole<'a>(
    view: &ViewPlan,
    series: &Series,
    live: &[LiveFacts<'a>],
    known: &'a Known,
) -> Option<Column<'a>> {
    let events = live[view.events];
    // A live END of an event stream, were there one, is no event.
    if series.feature.filter.is_some() || events.any_end() || known.any_never(view.events) {
        return None;
    }
    let first = events.first;
    let values = match series.feature.argument {
        None => Values::None,
        Some(argument) if argument.source == Source::Event => {
            let cells = events.cells(argument.field)?;
            if cells.any_null(first..first + events.ats.len()) {
                return None;
            }
            Values::Run { cells, first }
        }
        Some(_) => return None,
    };
    let until = Cow::Borrowed(known.until(view.events));
    let known = Cow::Borrowed(known.of_stream(view.events));
    Some(Column::over(Cow::Borrowed(events.ats), (known, until), values))
}

/// The column of a series, event by event.
fn picked<'a>(
    view: &ViewPlan,
    series: &Series,
    live: &[LiveFacts<'a>],
    known: &'a Known,
) -> Column<'a> {
    let events = live[view.events];
    // Series that read joins are folded here only where every version was known by its instant.
    let mut versions = Versions::new(view, live, &NOTHING);
    let (mut ats, mut places) = (Vec::new(), Vec::new());
    let (mut known_ats, mut untils) = (Vec::new(), Vec::new());
    let mut found: Option<&'a Cells> = None;
    for (event, at) in events.ats.iter().enumerate() {
        if events.is_end(event) || known.is_never(view.events, event) {
            continue;
        }
        if series.reads_joins {
            versions.go_on_to(*at);
        }
        let row = JoinedRow { events, event, versions: &versions };
        if series.feature.filter.as_ref().is_some_and(|filter| !filter.matches(&row)) {
            continue;
        }
        if let Some(argument) = series.feature.argument {
            let Some((facts, fact)) = row.of(argument.source) else { continue };
            let Some(cells) = facts.cells(argument.field) else { continue };
            let place = facts.first + fact;
            if cells.is_null(place) {
                continue;
            }
            found = Some(cells);
            places.push(place);
        }
        ats.push(*at);
        known_ats.extend(known.of_stream(view.events).get(event));
        untils.extend(known.until(view.events).get(event));
    }
    let values = match found {
        Some(cells) => Values::Picked { cells, places },
        None => Values::None,
    };
    Column::over(Cow::Owned(ats), (Cow::Owned(known_ats), Cow::Owned(untils)), values)
}

/// An event with the versions it meets.
struct JoinedRow<'a, 'v> {
    events: LiveFacts<'a>,
    event: usize,
    versions: &'v Versions<'a>,
}

impl<'a> JoinedRow<'a, '_> {
    /// The fact that a field is read from; `None` where no version is in force.
    #[inline]
    fn of(&self, source: Source) -> Option<(LiveFacts<'a>, usize)> {
        match source {
            Source::Event => Some((self.events, self.event)),
            Source::Join(join) => self.versions.in_force(join),
        }
    }
}

impl FieldSource for JoinedRow<'_, '_> {
    #[inline]
    fn field(&self, source: Source, field: usize) -> ValueRef<'_> {
        self.of(source).map_or(ValueRef::Null, |(facts, fact)| facts.value(fact, field))
    }
}

/// The versions in force while instants go on.
#[derive(Debug)]
pub(super) struct Versions<'a> {
    /// By changelog of the view: its versions, and how many of them began.
    begun: Vec<(LiveFacts<'a>, usize)>,
    /// By changelog of the view: when each version was known, empty where all were by their instants, and
    /// until when it is live, empty where all still are.
    known: Vec<(&'a [i64], &'a [i64])>,
    at: i64,
}

impl<'a> Versions<'a> {
    pub(super) fn new(view: &ViewPlan, live: &[LiveFacts<'a>], known: &'a Known) -> Self {
        Self {
            begun: view.joins.iter().map(|stream| (live[*stream], 0)).collect(),
            known: view
                .joins
                .iter()
                .map(|stream| (known.of_stream(*stream), known.until(*stream)))
                .collect(),
            at: i64::MIN,
        }
    }

    /// Goes on to an instant that is not before the last one.
    #[inline]
    pub(super) fn go_on_to(&mut self, at: i64) {
        self.at = at;
        for (versions, begun) in &mut self.begun {
            while versions.ats.get(*begun).is_some_and(|since| *since <= at) {
                *begun += 1;
            }
        }
    }

    /// The version of a changelog in force; `None` where there is none, or an END.
    #[inline]
    fn in_force(&self, join: usize) -> Option<(LiveFacts<'a>, usize)> {
        let (versions, begun) = self.begun[join];
        let last = match self.known[join] {
            ([], _) => begun.checked_sub(1)?,
            (known, until) => (0..begun).rev().find(|version| {
                known[*version] <= self.at
                    && until.get(*version).is_none_or(|until| self.at < *until)
            })?,
        };
        (!versions.is_end(last)).then_some((versions, last))
    }

    /// The value of a field of the version in force.
    #[inline]
    pub(super) fn value(&self, join: usize, field: usize) -> ValueRef<'a> {
        self.in_force(join).map_or(ValueRef::Null, |(facts, fact)| facts.value(fact, field))
    }
}
