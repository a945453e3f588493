//! A batch on its way through the join service, and what to do when that does not take it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millrace_client::port::{Hold, JoinError, PendingVerdicts, SlotFacts, SlotVerdicts};
use millrace_grpc::{Coded as _, PeerNetwork};
use millrace_store::{Seen, StoreError};
use millrace_telemetry::metrics::names::UNKNOWN;
use millrace_telemetry::{Span, TraceContext};
use tokio::time::{Instant, sleep, timeout};

use crate::budget::Permit;
use crate::encode::EncodedBatch;
use crate::error::IngestError;
use crate::ingest::{Batch, Ingest};
use crate::settled::Ticket;
use crate::slot_credits::{Held, Need};
use crate::verdicts::{Answer, Verdicts};

/// The first and the longest pause before facts are sent again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// A batch that is encoded, and how far its requests are.
pub(crate) struct Flight {
    pub(crate) batch: Batch,
    seen: Vec<Seen>,
    pub(crate) encoded: EncodedBatch,
    /// Requests to hand over, ascending.
    pub(crate) unsent: Vec<usize>,
    /// What slots of a request have given beside others that failed: it is not sent again.
    pub(crate) landed: BTreeMap<usize, Vec<SlotVerdicts>>,
    /// Requests handed over and not answered.
    pub(crate) pending: Vec<(usize, PendingVerdicts)>,
    verdicts: Verdicts,
    retry: Retry,
    /// The ways on which it was sent last, see [`JoinPort::begin`](millrace_client::port::JoinPort::begin).
    pub(crate) ways: u64,
    /// Its requests, as what holds watermarks back until it has landed or is given up.
    pub(crate) tickets: Vec<Ticket>,
    /// Its credits of the slots it has facts for, kept until then too.
    held: Option<Held>,
    /// When it was taken in.
    began: Instant,
    /// What a trace shows of it, until it is answered.
    pub(crate) span: Span,
}

/// A batch that waits for room. Unless it gets some it was refused, also where its caller leaves meanwhile:
/// its producer is not idle.
struct Waits<'a>(Option<(&'a Ingest, &'a Batch)>);

impl<'a> Waits<'a> {
    fn begin(ingest: &'a Ingest, batch: &'a Batch) -> Self {
        Self(Some((ingest, batch)))
    }

    fn end<T>(mut self, waited: Result<T, IngestError>) -> Result<T, IngestError> {
        if waited.is_ok() {
            self.0 = None;
        }
        waited
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some((ingest, batch)) = self.0.take() {
            ingest.withheld(&batch.stream, &batch.producer);
        }
    }
}

struct Retry {
    until: Option<Instant>,
    pause: Duration,
}

impl Flight {
    pub(crate) fn new(batch: Batch, seen: Vec<Seen>, encoded: EncodedBatch) -> Self {
        let verdicts = Verdicts::new(&encoded);
        let unsent = (0..encoded.requests()).collect();
        let span = Span::server("ingest batch", || batch.trace.clone().or(TraceContext::current));
        // Only a name of the catalog: others are anybody's.
        let stream = || encoded.stream().map_or(UNKNOWN, |stream| stream.name.as_str());
        span.note("millrace.stream", || stream().to_owned().into());
        span.note("millrace.facts", || (batch.sequences.facts() as i64).into());
        let retry = Retry { until: None, pause: PAUSES.0 };
        Self {
            batch,
            seen,
            encoded,
            unsent,
            landed: BTreeMap::new(),
            pending: Vec::new(),
            verdicts,
            retry,
            ways: 0,
            tickets: Vec::new(),
            held: None,
            began: Instant::now(),
            span,
        }
    }

    /// The facts of a request that are to be sent: not those that landed before.
    pub(crate) fn facts(&self, request: usize) -> Vec<SlotFacts> {
        let mut facts = self.encoded.slot_facts(request);
        if let Some(landed) = self.landed.get(&request) {
            facts.retain(|of| !landed.iter().any(|done| done.slot == of.slot));
        }
        facts
    }

    /// True while no slot has taken its part.
    fn is_untouched(&self) -> bool {
        let nothing_landed = self.landed.values().all(Vec::is_empty);
        self.unsent.len() == self.encoded.requests() && nothing_landed
    }

    /// Waits for the verdicts of what was handed over. What failed is to be sent again.
    async fn collect(&mut self) -> Result<(), Failure> {
        let mut failed = None;
        for (request, pending) in std::mem::take(&mut self.pending) {
            match pending.await {
                Ok(Ok(mut verdicts)) => {
                    verdicts.extend(self.landed.remove(&request).unwrap_or_default());
                    self.verdicts.merge(&self.encoded, request, &verdicts)?;
                }
                Ok(Err(refused)) => {
                    self.unsent.push(request);
                    self.landed.entry(request).or_default().extend(refused.landed);
                    failed = Some(Failure::Join(refused.error, refused.hold));
                }
                Err(_) => return Err(Failure::Fatal(IngestError::JoinGone)),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

enum Failure {
    Join(JoinError, Hold),
    Fatal(IngestError),
}

impl From<crate::verdicts::Mismatch> for Failure {
    fn from(mismatch: crate::verdicts::Mismatch) -> Self {
        Self::Fatal(mismatch.into())
    }
}

impl Ingest {
    /// Waits a moment until a batch that is a call of its own has room.
    pub(crate) async fn room(
        &self,
        peer: PeerNetwork,
        batch: &Batch,
    ) -> Result<Permit, IngestError> {
        let cost = batch.cost();
        if let Some(permit) = self.budget.try_acquire(peer, cost) {
            return Ok(permit);
        }
        let waits = Waits::begin(self, batch);
        let _place = self.budget.try_wait(cost).ok_or(IngestError::Full)?;
        let permit = timeout(self.config.room_patience, self.budget.acquire(peer, cost)).await;
        waits.end(permit.map_err(|_| IngestError::Full))
    }

    /// Hands a batch over. A slot without credits is waited for, for a moment only if `refuse` and nothing of
    /// the batch was handed over yet.
    pub(crate) async fn launch(
        &self,
        mut flight: Flight,
        refuse: bool,
    ) -> Result<Flight, IngestError> {
        loop {
            self.credit(&mut flight, refuse).await?;
            let current = self.ports.catalog.current();
            if flight.is_untouched() && current.version != flight.encoded.catalog().version {
                self.encode_again(&mut flight)?;
                continue;
            }
            let Err(error) = self.send(&mut flight).await else { return Ok(flight) };
            let full = matches!(error, JoinError::Overloaded { .. });
            if refuse && full && flight.pending.is_empty() {
                self.withheld(&flight.batch.stream, &flight.batch.producer);
                return Err(IngestError::Join(error));
            }
            self.recover(&mut flight, error).await?;
        }
    }

    /// Takes credits of the slots of a batch that has none yet.
    async fn credit(&self, flight: &mut Flight, refuse: bool) -> Result<(), IngestError> {
        if flight.held.is_some() {
            return Ok(());
        }
        let (needs, grant) = (Need::of(&flight.encoded), self.ports.join.credits());
        if !refuse {
            flight.held = Some(self.slot_credits.acquire(needs, grant).await);
            return Ok(());
        }
        let held = match self.slot_credits.try_acquire(needs.clone(), grant) {
            Ok(held) => held,
            Err(slot) => {
                let waits = Waits::begin(self, &flight.batch);
                let credits = self.slot_credits.acquire(needs, grant);
                let held = timeout(self.config.room_patience, credits).await;
                waits.end(held.map_err(|_| IngestError::Join(JoinError::Overloaded { slot })))?
            }
        };
        flight.held = Some(held);
        Ok(())
    }

    /// Waits until a batch is confirmed and gives it back with its answer. What the join service loses on the
    /// way is sent again; meanwhile no watermark moves.
    pub(crate) async fn land(&self, flight: Flight) -> Result<(Batch, Answer), IngestError> {
        let scope = flight.span.scope();
        scope.around(self.land_all(flight)).await
    }

    async fn land_all(&self, mut flight: Flight) -> Result<(Batch, Answer), IngestError> {
        // Kept until everything is sent again and in the log.
        let mut holds = Vec::new();
        loop {
            match flight.collect().await {
                Ok(()) => break,
                Err(Failure::Fatal(error)) => {
                    flight.span.fail(error.code().reason());
                    return Err(error);
                }
                Err(Failure::Join(error, hold)) => {
                    holds.push(hold);
                    self.recover(&mut flight, error).await?;
                    flight = self.launch(flight, false).await?;
                }
            }
        }
        let Flight { batch, encoded, verdicts, tickets, held, began, span, .. } = flight;
        let fresh = began.elapsed();
        // Everything is in the log: it holds no watermark back any more.
        drop(tickets);
        drop(holds);
        drop(held);
        if verdicts.may_mark() && encoded.stream().is_some() && !batch.is_import() {
            let refused: Vec<u32> = encoded.refusals.iter().map(|(index, ..)| *index).collect();
            let Batch { stream, producer, sequences, .. } = &batch;
            self.windows.mark(stream, producer, sequences, &refused).await;
        }
        let answer = verdicts.answer(&encoded)?;
        span.note("millrace.rejected", || (answer.counts.rejected as i64).into());
        self.answered(encoded.stream().map(|s| s.name.as_str()), &answer, fresh);
        Ok((batch, answer))
    }

    /// Decides whether a batch is sent again, and waits before it is.
    async fn recover(&self, flight: &mut Flight, error: JoinError) -> Result<(), IngestError> {
        let again = match &error {
            JoinError::Overloaded { .. }
            | JoinError::NotServing { .. }
            | JoinError::Moved { .. }
            | JoinError::UnknownCatalog(_)
            | JoinError::Store(
                StoreError::Unknown { .. }
                | StoreError::Unavailable { .. }
                | StoreError::RetriesSpent { .. },
            ) => true,
            // Somebody has to change a certificate first: whoever waits for the answer learns it now.
            JoinError::Store(
                StoreError::NotTrusted { .. }
                | StoreError::ClockSkew { .. }
                | StoreError::Failed { .. }
                | StoreError::Damaged { .. },
            )
            | JoinError::UnknownView(_)
            | JoinError::BudgetSpent { .. }
            | JoinError::BadCursor(_) => false,
        };
        let now = Instant::now();
        let until = *flight.retry.until.get_or_insert(now + self.config.resend_for);
        if !again || now >= until {
            flight.span.fail(error.code().reason());
            return Err(IngestError::Join(error));
        }
        self.resends.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, "sending facts again");
        // One that has too much keeps its way; all else may have another one soon.
        if matches!(error, JoinError::Overloaded { .. }) {
            sleep(flight.retry.pause).await;
        } else {
            tokio::select! {
                () = sleep(flight.retry.pause) => {}
                () = self.ports.join.moved(flight.ways) => {}
            }
        }
        flight.retry.pause = (flight.retry.pause * 2).min(PAUSES.1);
        // Who does not know the version learns of it soon; what landed under it stays as it is.
        let newer = self.ports.catalog.current().version > flight.encoded.catalog().version;
        if matches!(error, JoinError::UnknownCatalog(_)) && newer && flight.is_untouched() {
            self.encode_again(flight)?;
        }
        Ok(())
    }

    /// Encodes a batch of which nothing landed anew, under the catalog in force now, to be sent from the
    /// start.
    fn encode_again(&self, flight: &mut Flight) -> Result<(), IngestError> {
        let catalog = self.ports.catalog.current();
        let encoded = self.encode(&flight.batch, &flight.seen, &catalog)?;
        flight.verdicts = Verdicts::new(&encoded);
        flight.unsent = (0..encoded.requests()).collect();
        flight.pending.clear();
        flight.landed.clear();
        flight.encoded = encoded;
        // Other facts may go to other slots under it.
        let needs = Need::of(&flight.encoded);
        flight.held = flight.held.take().map(|had| self.slot_credits.exchange(had, needs));
        Ok(())
    }
}
