//! What is not answered yet, and what of it may be sent. No clock, no connection.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use millrace_proto::v1;

use super::batch::Prepared;

/// The batches that are not answered yet, oldest first: some sent on the call in progress, the rest
/// waiting for credits.
#[derive(Debug)]
pub(super) struct Window {
    batches_max: usize,
    bytes_max: u64,
    queue: VecDeque<Prepared>,
    queued_bytes: u64,
    /// How many, from the front, were sent on this call.
    sent: usize,
    sent_facts: u64,
    sent_bytes: u64,
    /// Granted by the server on this call; nothing before its first message.
    credits: v1::Credits,
    /// The schema that this call has of each stream.
    schemas: HashMap<String, Bytes>,
}

impl Window {
    pub(super) fn new(batches_max: usize, bytes_max: usize) -> Self {
        Self {
            batches_max: batches_max.max(1),
            bytes_max: bytes_max as u64,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: 0,
            sent_facts: 0,
            sent_bytes: 0,
            credits: v1::Credits::default(),
            schemas: HashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether another batch may be held.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < self.batches_max && self.queued_bytes < self.bytes_max
    }

    pub(super) fn push(&mut self, batch: Prepared) {
        self.queued_bytes += batch.bytes;
        self.queue.push_back(batch);
    }

    /// A new call begins: it has seen nothing and granted nothing.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
        self.sent_facts = 0;
        self.sent_bytes = 0;
        self.credits = v1::Credits::default();
        self.schemas.clear();
    }

    pub(super) fn grant(&mut self, credits: v1::Credits) {
        self.credits = credits;
    }

    /// Whether the credits allow the next batch. One that is larger than all of them goes alone.
    pub(super) fn may_send(&self) -> bool {
        let Some(next) = self.queue.get(self.sent) else { return false };
        let granted = self.credits.facts > 0 && self.credits.bytes > 0;
        let fits = self.sent_facts + next.facts <= self.credits.facts
            && self.sent_bytes + next.bytes <= self.credits.bytes;
        granted && (fits || self.sent == 0)
    }

    /// The next request to send, if [`Self::may_send`].
    pub(super) fn send(&mut self) -> Option<v1::PublishRequest> {
        if !self.may_send() {
            return None;
        }
        let batch = self.queue.get(self.sent)?;
        self.sent += 1;
        self.sent_facts += batch.facts;
        self.sent_bytes += batch.bytes;
        let known = self.schemas.get(batch.stream());
        let is_new = !batch.schema().is_empty() && known != Some(batch.schema());
        if is_new {
            self.schemas.insert(batch.stream().to_owned(), batch.schema().clone());
        }
        Some(batch.request(is_new))
    }

    /// Takes out the oldest batch, which the server answered. `None` when none was sent.
    pub(super) fn answered(&mut self) -> Option<Prepared> {
        self.sent = self.sent.checked_sub(1)?;
        let batch = self.queue.pop_front()?;
        self.queued_bytes -= batch.bytes;
        self.sent_facts -= batch.facts;
        self.sent_bytes -= batch.bytes;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::publisher::{Batch, Payload};

    fn batch(first: u64, facts: usize) -> Prepared {
        let payload = Payload::Arrow {
            schema: Bytes::from_static(b"S"),
            batches: vec![0; facts].into(),
            facts,
        };
        Prepared::try_new(Batch::new("p", "clicks", first, payload), 1_000).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Grant(u64, u64),
        Send,
        Answer,
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..20usize).prop_map(Step::Push),
            (0..40u64, 0..200u64).prop_map(|(facts, bytes)| Step::Grant(facts, bytes)),
            Just(Step::Send),
            Just(Step::Send),
            Just(Step::Answer),
            Just(Step::Restart),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Against a plain list: everything is answered once and in order, the first payload of a
        /// call has the schema, and what is in flight never passes the credits in force when it
        /// was sent.
        #[test]
        fn credits_hold_and_nothing_is_lost(steps in steps()) {
            let mut window = Window::new(8, 1_000);
            let (mut pushed, mut answered, mut in_flight) = (Vec::new(), Vec::new(), Vec::new());
            let mut next = 0;
            let mut credits = v1::Credits::default();
            let mut has_schema = false;
            for step in steps {
                match step {
                    Step::Push(facts) if window.has_room() => {
                        window.push(batch(next, facts));
                        pushed.push(next);
                        next += facts as u64 + 1;
                    }
                    Step::Push(_) => {}
                    Step::Grant(facts, bytes) => {
                        credits = v1::Credits { facts, bytes };
                        window.grant(credits);
                    }
                    Step::Send => if let Some(request) = window.send() {
                        prop_assert!(credits.facts > 0 && credits.bytes > 0);
                        let facts = request.next_sequence - request.first_sequence;
                        prop_assert_eq!(request.arrow_ipc.starts_with(b"S"), !has_schema);
                        has_schema = true;
                        prop_assert_eq!(request.first_sequence, pushed[answered.len() + in_flight.len()]);
                        in_flight.push(facts);
                        let total: u64 = in_flight.iter().sum();
                        prop_assert!(total <= credits.facts || in_flight.len() == 1);
                    },
                    Step::Answer => match window.answered() {
                        Some(batch) => {
                            in_flight.remove(0);
                            answered.push(batch.sequences().0);
                        }
                        None => prop_assert!(in_flight.is_empty()),
                    },
                    Step::Restart => {
                        window.restart();
                        in_flight.clear();
                        credits = v1::Credits::default();
                        has_schema = false;
                    }
                }
                prop_assert_eq!(&answered[..], &pushed[..answered.len()]);
            }
        }
    }

    #[test]
    fn a_new_schema_is_sent() {
        let mut window = Window::new(8, 1_000);
        window.grant(v1::Credits { facts: 100, bytes: 10_000 });
        for schema in ["A", "A", "B"] {
            let payload = Payload::Arrow { schema: schema.into(), batches: "x".into(), facts: 1 };
            window.push(Prepared::try_new(Batch::new("p", "clicks", 0, payload), 1_000).unwrap());
        }
        let sent = [(); 3].map(|()| window.send().unwrap().arrow_ipc);
        assert_eq!(sent, ["Ax", "x", "Bx"]);
    }
}
