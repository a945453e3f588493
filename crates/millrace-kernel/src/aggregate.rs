//! Partial aggregates: what a tile keeps of its rows for one feature (semantics §2).
//!
//! Every [`Partial`] is a commutative monoid with a bit-exact result: whatever the order in which
//! rows are added, however partials are grouped when they are merged, and wherever they are stored
//! and read back on the way, [`Partial::finish`] gives the same value and [`Partial::encode`] the
//! same bytes. Nothing is rounded before `finish`.
//!
//! The stored form is one byte for the kind (`Kind`), then what the module of that kind says. It
//! is part of a head and changes only with the head's version.

use millrace_catalog::model::{Aggregate, Feature};
use millrace_types::codec::{Reader, put_varint};
use millrace_types::{DecodeError, FeatureValue, FieldType, OrderKey, Status, Value, ValueRef};

use self::buckets::Buckets;
use self::edge::{End, Extreme, Outermost, Outermosts};
use self::sums::{DoubleSum, IntSum, Moments, owned, read_rows};
use self::tally::Tally;

pub(crate) use self::sums::{int_mean, int_sum};

mod buckets;
mod edge;
mod exact;
mod limbs;
mod magnitude;
mod mantissa;
#[cfg(test)]
mod reference;
mod sorted;
mod sums;
mod tally;
#[cfg(test)]
mod tests;

/// The aggregate of some rows of one feature, open to more rows.
///
/// 40 bytes; lists, sets and sums of far exponents hold more on the heap
/// ([`Partial::heap_bytes`]). Equality is that of the aggregate, not of the way it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial(Repr);

#[derive(Debug, Clone, PartialEq)]
enum Repr {
    Count(u64),
    IntSum(IntSum),
    DoubleSum(DoubleSum),
    IntMoments(Box<Moments>),
    DoubleMoments(Box<Moments>),
    Extreme(Extreme),
    Outermost(Outermost),
    Outermosts(Box<Outermosts>),
    Distinct(Tally<()>),
    Top(Tally<u64>),
    Buckets(Buckets),
}

/// The first byte of an encoded partial. The numbers are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Count = 1,
    IntSum = 2,
    DoubleSum = 3,
    IntMoments = 4,
    DoubleMoments = 5,
    Min = 6,
    Max = 7,
    First = 8,
    Last = 9,
    FirstN = 10,
    LastN = 11,
    Distinct = 12,
    Top = 13,
    Buckets = 14,
}

impl Partial {
    /// The partial of no rows.
    ///
    /// # Panics
    /// For [`Aggregate::Latest`], which is read from the version at the instant and folds nothing.
    #[must_use]
    pub fn new(feature: &Feature) -> Self {
        Self(Repr::empty(Kind::of(feature).expect("every aggregate but latest folds rows")))
    }

    /// Folds one row in. `key` is its place, `value` the argument's value, of the argument's type or
    /// NULL; for `count: {}` anything that is not NULL. NULL is skipped.
    #[inline]
    pub fn add(&mut self, key: OrderKey<'_>, value: ValueRef<'_>) {
        if value.is_null() {
            return;
        }
        match &mut self.0 {
            Repr::Extreme(extreme) => extreme.add(value),
            Repr::Outermost(row) => row.add(key, value),
            Repr::Outermosts(rows) => rows.add(key, value),
            Repr::Distinct(values) => values.add(value),
            Repr::Top(values) => values.add(value),
            Repr::Count(_)
            | Repr::IntSum(_)
            | Repr::DoubleSum(_)
            | Repr::IntMoments(_)
            | Repr::DoubleMoments(_)
            | Repr::Buckets(_) => self.fold(value),
        }
    }

    /// Takes a row away again that was folded in, of a sum or what rests on sums: exact sums forget
    /// what was in them. Other partials do not, and are left as they are.
    #[inline]
    pub(crate) fn remove(&mut self, value: ValueRef<'_>) {
        let removed = match (&mut self.0, value) {
            (Repr::IntSum(sum), ValueRef::Int64(value)) => {
                sum.unfold(value);
                true
            }
            (Repr::DoubleSum(sum), ValueRef::Double(value)) => {
                sum.unfold(value);
                true
            }
            (Repr::IntMoments(sums) | Repr::DoubleMoments(sums), value) => sums.unfold(value),
            (_, _) => false,
        };
        debug_assert!(removed, "{value:?} is not taken away from a {:?}", self.0.kind());
    }

    /// True when no row older than all those folded in can change it: while rows come newest first,
    /// a `last` is settled by the first that is not NULL.
    #[inline]
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match &self.0 {
            Repr::Outermost(row) => row.is_newest(),
            Repr::Outermosts(rows) => rows.are_newest(),
            Repr::Count(_)
            | Repr::IntSum(_)
            | Repr::DoubleSum(_)
            | Repr::IntMoments(_)
            | Repr::DoubleMoments(_)
            | Repr::Extreme(_)
            | Repr::Distinct(_)
            | Repr::Top(_)
            | Repr::Buckets(_) => false,
        }
    }

    /// Folds in the rows of another partial of the same feature.
    #[inline]
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Repr::Count(rows), Repr::Count(more)) => *rows = rows.saturating_add(*more),
            (Repr::IntSum(sum), Repr::IntSum(more)) => sum.merge(more),
            (Repr::DoubleSum(sum), Repr::DoubleSum(more)) => sum.merge(more),
            (Repr::IntMoments(sums), Repr::IntMoments(more))
            | (Repr::DoubleMoments(sums), Repr::DoubleMoments(more)) => sums.merge(more),
            (Repr::Extreme(extreme), Repr::Extreme(other)) => extreme.add(other.value().as_ref()),
            (Repr::Outermost(row), Repr::Outermost(other)) => row.merge(other),
            (Repr::Outermosts(rows), Repr::Outermosts(more)) => rows.merge(more),
            (Repr::Distinct(values), Repr::Distinct(more)) => values.merge(more),
            (Repr::Top(values), Repr::Top(more)) => values.merge(more),
            (Repr::Buckets(buckets), Repr::Buckets(more)) => buckets.merge(more),
            (own, other) => {
                debug_assert!(false, "{:?} is merged with {:?}", own.kind(), other.kind());
            }
        }
    }

    /// The value and status of `feature`, whose partial this is: PRESENT, NULL, OVERFLOW or
    /// TRUNCATED. A mean may be −0.0, where a negative sum divided by the count underflows.
    #[must_use]
    pub fn finish(&self, feature: &Feature) -> (FeatureValue, Status) {
        let aggregate = feature.aggregate;
        debug_assert_eq!(Kind::of(feature).map(|(kind, _)| kind), Some(self.0.kind()));
        match &self.0 {
            Repr::Count(rows) => owned(count(*rows)),
            Repr::IntSum(sum) if aggregate == Aggregate::Mean => sum.mean(),
            Repr::IntSum(sum) => sum.sum(),
            Repr::DoubleSum(sum) if aggregate == Aggregate::Mean => sum.mean(),
            Repr::DoubleSum(sum) => sum.sum(),
            Repr::IntMoments(sums) | Repr::DoubleMoments(sums) => {
                if aggregate == Aggregate::Stddev { sums.stddev() } else { sums.variance() }
            }
            Repr::Extreme(extreme) => scalar(extreme.value().clone()),
            Repr::Outermost(row) => scalar(row.value()),
            Repr::Outermosts(rows) => (FeatureValue::List(rows.values()), Status::Present),
            Repr::Distinct(values) => match values.entries() {
                Some(entries) => owned(count(entries.len() as u64)),
                None => (owned(count(u64::from(values.limit()))).0, Status::Truncated),
            },
            Repr::Top(values) => {
                let k = if let Aggregate::TopK { k, .. } = aggregate { k } else { 0 };
                match values.entries() {
                    Some(entries) => (top(entries, k), Status::Present),
                    None => (FeatureValue::NULL, Status::Truncated),
                }
            }
            Repr::Buckets(buckets) => {
                let p = if let Aggregate::ApproxPercentile { p } = aggregate { p } else { 0.0 };
                scalar(buckets.percentile(p).map_or(Value::Null, Value::Double))
            }
        }
    }

    /// Appends the stored form. Equal partials have equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.0.kind() as u8);
        match &self.0 {
            Repr::Count(rows) => put_varint(out, *rows),
            Repr::IntSum(sum) => sum.encode(out),
            Repr::DoubleSum(sum) => sum.encode(out),
            Repr::IntMoments(sums) | Repr::DoubleMoments(sums) => sums.encode(out),
            Repr::Extreme(extreme) => extreme.encode(out),
            Repr::Outermost(row) => row.encode(out),
            Repr::Outermosts(rows) => rows.encode(out),
            Repr::Distinct(values) => values.encode(out),
            Repr::Top(values) => values.encode(out),
            Repr::Buckets(buckets) => buckets.encode(out),
        }
    }

    /// Reads a partial of `feature` and moves past it. However damaged the bytes are, it reserves no
    /// more memory than the feature's `n` or `limit` asks for, or a small multiple of the bytes left.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are damaged, end early, are those of another kind of
    /// aggregate or argument type, or exceed the feature's `n` or `limit`; always for
    /// [`Aggregate::Latest`].
    pub fn decode(feature: &Feature, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let found = reader.u8("kind of a partial")?;
        let Some((kind, most)) = Kind::of(feature).filter(|(kind, _)| *kind as u8 == found) else {
            let found = u64::from(found);
            return Err(DecodeError::Invalid { what: "kind of a partial", found });
        };
        let ty = argument_type(feature);
        Ok(Self(match kind {
            Kind::Count => Repr::Count(read_rows(reader)?),
            Kind::IntSum => Repr::IntSum(IntSum::decode(reader)?),
            Kind::DoubleSum => Repr::DoubleSum(DoubleSum::decode(reader)?),
            Kind::IntMoments => Repr::IntMoments(Box::new(Moments::decode(reader)?)),
            Kind::DoubleMoments => Repr::DoubleMoments(Box::new(Moments::decode(reader)?)),
            Kind::Min => Repr::Extreme(Extreme::decode(End::Least, ty, reader)?),
            Kind::Max => Repr::Extreme(Extreme::decode(End::Greatest, ty, reader)?),
            Kind::First => Repr::Outermost(Outermost::decode(End::Least, ty, reader)?),
            Kind::Last => Repr::Outermost(Outermost::decode(End::Greatest, ty, reader)?),
            Kind::FirstN => {
                Repr::Outermosts(Box::new(Outermosts::decode(End::Least, most, ty, reader)?))
            }
            Kind::LastN => {
                Repr::Outermosts(Box::new(Outermosts::decode(End::Greatest, most, ty, reader)?))
            }
            Kind::Distinct => Repr::Distinct(Tally::decode(most, ty, reader)?),
            Kind::Top => Repr::Top(Tally::decode(most, ty, reader)?),
            Kind::Buckets => Repr::Buckets(Buckets::decode(reader)?),
        }))
    }

    /// The memory it holds beyond `size_of::<Partial>()`, in bytes, without what the allocator adds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Count(_) | Repr::IntSum(_) => 0,
            Repr::DoubleSum(sum) => sum.heap_bytes(),
            Repr::IntMoments(sums) | Repr::DoubleMoments(sums) => {
                size_of::<Moments>() + sums.heap_bytes()
            }
            Repr::Extreme(extreme) => extreme.heap_bytes(),
            Repr::Outermost(row) => row.heap_bytes(),
            Repr::Outermosts(rows) => size_of::<Outermosts>() + rows.heap_bytes(),
            Repr::Distinct(values) => values.heap_bytes(),
            Repr::Top(values) => values.heap_bytes(),
            Repr::Buckets(buckets) => buckets.heap_bytes(),
        }
    }

    /// What `add` does where places do not matter. A value of another type than the argument's changes nothing: the catalog has checked the types.
    #[inline]
    fn fold(&mut self, value: ValueRef<'_>) {
        let matched = match (&mut self.0, value) {
            (Repr::Count(rows), _) => {
                *rows = rows.saturating_add(1);
                true
            }
            (Repr::IntSum(sum), ValueRef::Int64(value)) => {
                sum.fold(value);
                true
            }
            (Repr::DoubleSum(sum), ValueRef::Double(value)) => {
                sum.fold(value);
                true
            }
            (Repr::IntMoments(sums) | Repr::DoubleMoments(sums), value) => sums.fold(value),
            (Repr::Buckets(buckets), ValueRef::Double(value)) => {
                buckets.fold(value);
                true
            }
            (Repr::Buckets(buckets), ValueRef::Int64(value)) => {
                buckets.fold(value as f64);
                true
            }
            (_, _) => false,
        };
        debug_assert!(matched, "{value:?} is no argument of a {:?}", self.0.kind());
    }
}

impl Kind {
    /// The kind of a feature's partials and how many rows or distinct values they keep, where that
    /// is bounded; `None` for `latest`.
    fn of(feature: &Feature) -> Option<(Self, usize)> {
        let double = argument_type(feature) == FieldType::Double;
        Some(match feature.aggregate {
            Aggregate::Count => (Self::Count, 0),
            Aggregate::Sum | Aggregate::Mean if double => (Self::DoubleSum, 0),
            Aggregate::Sum | Aggregate::Mean => (Self::IntSum, 0),
            Aggregate::Variance | Aggregate::Stddev if double => (Self::DoubleMoments, 0),
            Aggregate::Variance | Aggregate::Stddev => (Self::IntMoments, 0),
            Aggregate::Min => (Self::Min, 0),
            Aggregate::Max => (Self::Max, 0),
            Aggregate::First => (Self::First, 0),
            Aggregate::Last => (Self::Last, 0),
            Aggregate::FirstN { n } => (Self::FirstN, n),
            Aggregate::LastN { n } => (Self::LastN, n),
            Aggregate::CountDistinct { limit } => (Self::Distinct, limit),
            Aggregate::TopK { limit, .. } => (Self::Top, limit),
            Aggregate::ApproxPercentile { .. } => (Self::Buckets, 0),
            Aggregate::Latest => return None,
        })
    }
}

impl Repr {
    /// The partial of no rows.
    fn empty((kind, most): (Kind, usize)) -> Self {
        match kind {
            Kind::Count => Self::Count(0),
            Kind::IntSum => Self::IntSum(IntSum::EMPTY),
            Kind::DoubleSum => Self::DoubleSum(DoubleSum::EMPTY),
            Kind::IntMoments => Self::IntMoments(Box::new(Moments::EMPTY)),
            Kind::DoubleMoments => Self::DoubleMoments(Box::new(Moments::EMPTY)),
            Kind::Min => Self::Extreme(Extreme::new(End::Least)),
            Kind::Max => Self::Extreme(Extreme::new(End::Greatest)),
            Kind::First => Self::Outermost(Outermost::new(End::Least)),
            Kind::Last => Self::Outermost(Outermost::new(End::Greatest)),
            Kind::FirstN => Self::Outermosts(Box::new(Outermosts::new(End::Least, most))),
            Kind::LastN => Self::Outermosts(Box::new(Outermosts::new(End::Greatest, most))),
            Kind::Distinct => Self::Distinct(Tally::new(most)),
            Kind::Top => Self::Top(Tally::new(most)),
            Kind::Buckets => Self::Buckets(Buckets::EMPTY),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Count(_) => Kind::Count,
            Self::IntSum(_) => Kind::IntSum,
            Self::DoubleSum(_) => Kind::DoubleSum,
            Self::IntMoments(_) => Kind::IntMoments,
            Self::DoubleMoments(_) => Kind::DoubleMoments,
            Self::Extreme(extreme) => match extreme.end() {
                End::Least => Kind::Min,
                End::Greatest => Kind::Max,
            },
            Self::Outermost(row) => match row.end() {
                End::Least => Kind::First,
                End::Greatest => Kind::Last,
            },
            Self::Outermosts(rows) => match rows.end() {
                End::Least => Kind::FirstN,
                End::Greatest => Kind::LastN,
            },
            Self::Distinct(_) => Kind::Distinct,
            Self::Top(_) => Kind::Top,
            Self::Buckets(_) => Kind::Buckets,
        }
    }
}

/// The type of the argument. Only `count: {}` has none, and a count looks at no type.
fn argument_type(feature: &Feature) -> FieldType {
    feature.argument.map_or(FieldType::Int64, |argument| argument.ty)
}

#[inline]
pub(crate) fn count(rows: u64) -> (ValueRef<'static>, Status) {
    match i64::try_from(rows) {
        Ok(rows) => (ValueRef::Int64(rows), Status::Present),
        Err(_) => (ValueRef::Null, Status::Overflow),
    }
}

fn scalar(value: Value) -> (FeatureValue, Status) {
    let status = if value == Value::Null { Status::Null } else { Status::Present };
    (FeatureValue::Scalar(value), status)
}

/// The `k` values with the greatest counts, equal counts by ascending value.
fn top(entries: &[(Value, u64)], k: usize) -> FeatureValue {
    let mut order: Vec<&(Value, u64)> = entries.iter().collect();
    // The entries ascend by value and the sort is stable.
    order.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    FeatureValue::Counted(order.into_iter().take(k).cloned().collect())
}
