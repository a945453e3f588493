//! The order in which records arrive, and how they are batched.

use millrace_types::{Micros, Value};

use super::rng::Rng;
use crate::record::RawRecord;

/// An order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the history was made: corrections and retractions after what they concern.
    AsMade,
    /// By event time.
    ByTime,
    /// By event time, with neighbours a few places apart exchanged.
    SlightlyDisordered,
    /// Against event time.
    Reversed,
    /// Any.
    Shuffled,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 5] =
        [Self::AsMade, Self::ByTime, Self::SlightlyDisordered, Self::Reversed, Self::Shuffled];
}

/// A record and the number of the batch it comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Counts from 0.
    pub batch: usize,
    /// The record.
    pub record: RawRecord,
}

/// The event time of a record, whose name is `at`; records without one come first.
fn event_time(record: &RawRecord, at: &str) -> Option<Micros> {
    match record.get(at) {
        Value::Timestamp(at) => Some(*at),
        Value::Null
        | Value::Bool(_)
        | Value::Int64(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_) => None,
    }
}

/// Puts records in an order of arrival. `at` tells the name of a record's event time.
pub fn arrange<'n>(
    records: &mut [RawRecord],
    order: Order,
    rng: &mut Rng,
    at: impl Fn(&RawRecord) -> &'n str,
) {
    match order {
        Order::AsMade => {}
        Order::ByTime => records.sort_by_cached_key(|r| event_time(r, at(r))),
        Order::SlightlyDisordered => {
            records.sort_by_cached_key(|r| event_time(r, at(r)));
            for i in 0..records.len() {
                let other = (i + rng.below(4)).min(records.len() - 1);
                records.swap(i, other);
            }
        }
        Order::Reversed => {
            records.sort_by_cached_key(|r| event_time(r, at(r)));
            records.reverse();
        }
        Order::Shuffled => rng.shuffle(records),
    }
}

/// Cuts records into batches: one each, a few, or all in one.
#[must_use]
pub fn batched(records: Vec<RawRecord>, rng: &mut Rng) -> Vec<Arrival> {
    let cut = *rng.pick(&[0, 5, 20, 50, 100]);
    let mut batch = 0;
    let mut arrivals = Vec::with_capacity(records.len());
    for record in records {
        if !arrivals.is_empty() && rng.percent(cut) {
            batch += 1;
        }
        arrivals.push(Arrival { batch, record });
    }
    arrivals
}
