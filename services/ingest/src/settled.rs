//! Which watermarks may be stated while facts wait to be sent again: those of the last request
//! before which, itself included, everything is in the log or given up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_types::StreamWatermark;

/// The requests under way, in the order in which they were handed over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settled(Arc<Mutex<Order>>);

#[derive(Debug, Default)]
struct Order {
    /// The number of the first request of `requests`.
    first: u64,
    /// The watermarks each stated, and whether it is over. Bounded by what ingest lets be in flight.
    requests: VecDeque<(Vec<StreamWatermark>, bool)>,
    settled: Vec<StreamWatermark>,
}

/// A request under way. Dropped once everything of it is in the log, or once it is given up: its
/// producer, who was told so, then sends its facts again as new ones.
#[derive(Debug)]
pub(crate) struct Ticket {
    order: Settled,
    number: u64,
}

impl Settled {
    /// A request that states these watermarks was handed over.
    pub(crate) fn sent(&self, watermarks: Vec<StreamWatermark>) -> Ticket {
        let mut order = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = order.first + order.requests.len() as u64;
        order.requests.push_back((watermarks, false));
        Ticket { order: self.clone(), number }
    }

    /// The watermarks of the last request before which everything is over.
    pub(crate) fn watermarks(&self) -> Vec<StreamWatermark> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).settled.clone()
    }

    /// The number of the next request: everything handed over so far comes before it.
    pub(crate) fn next(&self) -> u64 {
        let order = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        order.first + order.requests.len() as u64
    }

    /// Whether everything before a request is over.
    pub(crate) fn is_over_before(&self, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first >= number
    }

    fn over(&self, number: u64) {
        let mut order = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = number.checked_sub(order.first).and_then(|i| usize::try_from(i).ok());
        if let Some(request) = index.and_then(|i| order.requests.get_mut(i)) {
            request.1 = true;
        }
        while order.requests.front().is_some_and(|(_, over)| *over) {
            if let Some((watermarks, _)) = order.requests.pop_front() {
                order.settled = watermarks;
                order.first += 1;
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.order.over(self.number);
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{Micros, StreamId};

    use super::*;

    fn at(us: i64) -> Vec<StreamWatermark> {
        vec![StreamWatermark { stream: StreamId(1), at: Micros(us), idle: false }]
    }

    #[test]
    fn no_watermark_passes_a_request_that_is_under_way() {
        let settled = Settled::default();
        let tickets: Vec<Ticket> = (1..=4).map(|us| settled.sent(at(us))).collect();
        let [first, second, third, fourth] = tickets.try_into().unwrap();
        assert_eq!(settled.watermarks(), []);
        drop(third);
        assert_eq!(settled.watermarks(), []);
        drop(first);
        assert_eq!(settled.watermarks(), at(1));
        drop(second); // given up
        assert_eq!(settled.watermarks(), at(3));
        let fifth = settled.sent(at(5));
        drop(fifth);
        assert_eq!(settled.watermarks(), at(3));
        let next = settled.next();
        assert!(!settled.is_over_before(next));
        drop(fourth);
        assert!(settled.is_over_before(next));
        assert_eq!(settled.watermarks(), at(5));
    }
}
