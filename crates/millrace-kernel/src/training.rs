//! Training sets: the features of many rows `(entity, at)` of one slot, from its log (design §10).
//!
//! [`SlotFacts`] gathers the facts of the rows' entities, chunk by chunk, and decodes of each just the
//! fields that are read, into columns; a [`Sweeper`] then goes through each entity once in time order.
//! Values are those that [`EntityState::evaluate`] gives for each row alone, bit for bit: windows are kept
//! up by adding and taking away rows, which exact sums allow, instead of being folded anew.
//!
//! What slides: sorted events, two ends a window, and running sums between them, as in the
//! "subtract-on-evict" of Tangwongsan et al. (VLDB 2015); extremes by a monotonic queue.
//! Rows that see only what was known at their own instant have the same windows: a fact enters once it is known
//! too, and leaves once it is corrected or taken back. Everything else is answered by
//! [`EntityState::evaluate`] itself.
//!
//! [`EntityState::evaluate`]: crate::EntityState::evaluate

mod cells;
mod chunks;
mod column;
mod entities;
mod fields;
mod gather;
mod known;
mod live;
mod slide;
mod sweep;
#[cfg(test)]
mod tests;
mod words;

use millrace_types::{FeatureValue, KnownAt, Status, Value, ValueRef};

pub use entities::Entities;
pub use gather::{EntityFacts, GatheredSlot, SlotFacts};
pub use sweep::{Sweeper, Swept};
pub use words::Texts;

/// What counts as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsKnown {
    /// For each row, what was known by its own instant.
    AtEvent,
    /// What was known at an instant; [`KnownAt::MAX`] for everything.
    At(KnownAt),
}

/// A value of a training set.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// A scalar; NULL where there is none.
    Scalar(ValueRef<'a>),
    /// The values of `first_n` and `last_n`.
    List(Vec<ValueRef<'a>>),
    /// The values of `top_k` with their counts.
    Counted(Vec<(ValueRef<'a>, u64)>),
}

/// Takes the rows of a training set, one after another.
pub trait Sink {
    /// Takes the value of the next feature of a row: features in the order asked for, rows in the
    /// order given.
    fn cell(&mut self, feature: usize, cell: Cell<'_>, status: Status);
}

impl<'a> From<&'a FeatureValue> for Cell<'a> {
    fn from(value: &'a FeatureValue) -> Self {
        match value {
            FeatureValue::Scalar(value) => Self::Scalar(value.as_ref()),
            FeatureValue::List(values) => Self::List(values.iter().map(Value::as_ref).collect()),
            FeatureValue::Counted(values) => {
                Self::Counted(values.iter().map(|(value, rows)| (value.as_ref(), *rows)).collect())
            }
        }
    }
}
