//! The core that both RPCs share: validate, encode, hand over in order, settle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_catalog::Catalog;
use millrace_client::port::{
    CallOrder, CatalogPort, Holds, JoinError, JoinPort, PendingVerdicts, ProcessRequest, Routes,
};
use millrace_placement::Slots;
use millrace_store::{ProducerWindows, Seen};
use millrace_telemetry::TraceContext;
use millrace_types::{KnownAt, Micros, StreamId, StreamWatermark};

use crate::arrow::PayloadError;
use crate::batch::Sequences;
use crate::budget::{Budget, BudgetLimits};
use crate::clock::Clock;
use crate::encode::{EncodedBatch, Encoder, Fate, Job, Payload};
use crate::error::IngestError;
use crate::flight::Flight;
use crate::metrics::{self, Instruments};
use crate::settled::Settled;
use crate::slot_credits::SlotCredits;
use crate::verdicts::Answer;
use crate::watermark::{Advance, WatermarkFold};
use crate::windows::Windows;

/// Encoders kept for the next batches.
const ENCODERS_MAX: usize = 8;
/// Watermarks that do not move are stated again this often: the join service may have been started
/// anew, and takes an ingest process that it does not hear of as lost.
const RESTATE_EVERY: Duration = Duration::from_secs(5);
/// How long the join service may take to hear that this process leaves.
const DEPART_WITHIN: Duration = Duration::from_secs(1);

/// How the service behaves.
#[derive(Debug, Clone, Copy)]
pub struct IngestConfig {
    /// The slots of the cluster.
    pub slots: Slots,
    /// Names this run of the process among all runs: drawn at random when it starts.
    pub incarnation: u64,
    /// How far ahead of the clock an event time may lie.
    pub max_future: Duration,
    /// How long a producer whose connection is gone still holds the watermark back.
    pub idle_after: Duration,
    /// How long facts that the join service does not take are sent again before the call fails.
    pub resend_for: Duration,
    /// How long a producer window may take to answer.
    pub window_patience: Duration,
    /// A batch that is a call of its own waits so long for room; then it is OVERLOADED. Refusing costs as much
    /// as reading it did, and who is refused comes again.
    pub room_patience: Duration,
    /// What is stated to producers about how long a repeated batch is recognised; zero: nothing.
    pub dedup_retention: Duration,
    /// What may be in flight.
    pub budget: BudgetLimits,
}

impl IngestConfig {
    /// The defaults of the design for a cluster with these slots.
    #[must_use]
    pub fn new(slots: Slots, incarnation: u64) -> Self {
        Self {
            slots,
            incarnation,
            max_future: Duration::from_secs(300),
            idle_after: Duration::from_secs(30),
            resend_for: Duration::from_secs(20),
            window_patience: Duration::from_millis(250),
            room_patience: Duration::from_secs(1),
            dedup_retention: Duration::ZERO,
            budget: BudgetLimits::default(),
        }
    }
}

/// What the service is made of besides itself.
#[derive(Clone)]
pub struct IngestPorts {
    /// The catalog.
    pub catalog: Arc<dyn CatalogPort>,
    /// The join service.
    pub join: Arc<dyn JoinPort>,
    /// The producer windows.
    pub windows: Arc<dyn ProducerWindows>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

/// A batch of one producer and one stream.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The producer.
    pub producer: Arc<str>,
    /// The stream's name.
    pub stream: Arc<str>,
    /// The numbers of its facts.
    pub sequences: Sequences,
    /// Its facts.
    pub payload: Payload,
    /// Since when each fact was known, ascending, in an import; empty where facts are published.
    pub known_at: Vec<KnownAt>,
    /// The size of the request, in bytes.
    pub request_bytes: usize,
    /// The watermark it states.
    pub stated: Option<Micros>,
    /// The producer says that it is idle from here on.
    pub idle: bool,
    /// What the producer says of its trace.
    pub trace: TraceContext,
}

impl Batch {
    /// True when the batch states since when its facts were known. The producer's window has no part
    /// in it.
    #[must_use]
    pub fn is_import(&self) -> bool {
        !self.known_at.is_empty()
    }
}

/// Counters of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestCounters {
    /// Facts answered.
    pub facts: u64,
    /// Times facts were sent to the join service again.
    pub resends: u64,
    /// Calls refused because too much was in flight.
    pub refused: u64,
    /// Times a producer window did not answer.
    pub window_failures: u64,
    /// Batches that wait for credits of a slot now.
    pub waiting: u64,
}

/// The ingest service.
pub struct Ingest {
    pub(crate) config: IngestConfig,
    pub(crate) ports: IngestPorts,
    pub(crate) windows: Windows,
    pub(crate) budget: Arc<Budget>,
    encoders: Mutex<Vec<Encoder>>,
    /// Requests go to the join service in the order in which this is locked.
    dispatch: tokio::sync::Mutex<Dispatch>,
    /// Batches that failed and wait to be sent again; meanwhile only watermarks are stated that
    /// everything before has reached the log for.
    holds: Holds,
    pub(crate) settled: Settled,
    pub(crate) slot_credits: SlotCredits,
    pub(crate) instruments: Instruments,
    facts: AtomicU64,
    pub(crate) resends: AtomicU64,
    pub(crate) refused: AtomicU64,
}

struct Dispatch {
    fold: WatermarkFold,
    /// What was last stated of all slots, without facts, and when.
    stated: Vec<StreamWatermark>,
    stated_ms: u64,
    /// Which way facts of slots go, as of the last request.
    ways: u64,
    /// Facts of requests before this one may be under way elsewhere than those of the next.
    elsewhere: u64,
}

impl Dispatch {
    fn new(fold: WatermarkFold) -> Self {
        Self { fold, stated: Vec::new(), stated_ms: 0, ways: 0, elsewhere: 0 }
    }
}

impl Ingest {
    /// A service that has taken nothing yet.
    #[must_use]
    pub fn new(config: IngestConfig, ports: IngestPorts) -> Arc<Self> {
        let windows = Windows::new(Arc::clone(&ports.windows), config.window_patience);
        let fold = WatermarkFold::new(config.idle_after.as_millis() as u64);
        let ingest = Arc::new(Self {
            config,
            ports,
            windows,
            budget: Budget::new(config.budget),
            encoders: Mutex::new(Vec::new()),
            dispatch: tokio::sync::Mutex::new(Dispatch::new(fold)),
            holds: Holds::default(),
            settled: Settled::default(),
            slot_credits: SlotCredits::default(),
            instruments: Instruments::new(),
            facts: AtomicU64::new(0),
            resends: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        metrics::observe(&ingest);
        ingest
    }

    /// The counters now.
    #[must_use]
    pub fn counters(&self) -> IngestCounters {
        IngestCounters {
            facts: self.facts.load(Ordering::Relaxed),
            resends: self.resends.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            window_failures: self.windows.failures(),
            waiting: self.slot_credits.waiting() as u64,
        }
    }

    /// What is in flight.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The latest event time, and the latest watermark, that may be stated now.
    pub(crate) fn latest_at(&self) -> Micros {
        let ahead = i64::try_from(self.config.max_future.as_micros()).unwrap_or(i64::MAX);
        self.ports.clock.now().plus(ahead)
    }

    /// How long a repeated batch is recognised, as the protocol states it.
    pub(crate) fn dedup_retention(&self) -> Option<prost_types::Duration> {
        match self.config.dedup_retention {
            Duration::ZERO => None,
            retention => prost_types::Duration::try_from(retention).ok(),
        }
    }

    /// Publishes a batch and gives it back with its verdicts. A full join service is an error. Must reach its end: a caller that may be
    /// dropped spawns it.
    ///
    /// # Errors
    /// [`IngestError`]; the batch may be in the log in part, and is safe to send again.
    pub async fn publish(&self, batch: Batch) -> Result<(Batch, Answer), IngestError> {
        let flight = self.prepare(batch).await?;
        let flight = self.launch(flight, true).await?;
        self.land(flight).await
    }

    /// Asks the producer's window, unless it is an import, and encodes.
    pub(crate) async fn prepare(&self, batch: Batch) -> Result<Flight, IngestError> {
        // What an import states counts for facts that were published too.
        let seen = match batch.is_import() {
            true => Vec::new(),
            false => self.windows.ask(&batch.stream, &batch.producer, &batch.sequences).await,
        };
        let catalog = self.ports.catalog.current();
        let mut encoded = self.encode(&batch, &seen, &catalog);
        // What is not known here may have been applied at another process a moment ago.
        let is_unknown = encoded.as_ref().is_ok_and(|encoded| encoded.stream().is_none());
        if is_unknown && self.ports.catalog.catch_up().await {
            encoded = self.encode(&batch, &seen, &self.ports.catalog.current());
        }
        Ok(Flight::new(batch, seen, encoded?))
    }

    pub(crate) fn encode(
        &self,
        batch: &Batch,
        seen: &[Seen],
        catalog: &Arc<Catalog>,
    ) -> Result<EncodedBatch, PayloadError> {
        let pool = || self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        let pooled = pool().pop();
        let mut encoder = pooled.unwrap_or_else(|| Encoder::new(self.config.slots));
        let encoded = encoder.encode(Job {
            catalog,
            stream: &batch.stream,
            producer: &batch.producer,
            sequences: &batch.sequences,
            payload: &batch.payload,
            seen,
            known_at: &batch.known_at,
            now: self.ports.clock.now(),
            latest_at: self.latest_at(),
            bytes_max: bytes_max(batch, catalog),
        });
        let mut encoders = pool();
        if encoders.len() < ENCODERS_MAX {
            encoders.push(encoder);
        }
        encoded
    }

    /// Hands the requests of a batch that are not handed over yet to the join service, in order
    /// with every other request.
    pub(crate) async fn send(&self, flight: &mut Flight) -> Result<(), JoinError> {
        let mut dispatch = self.dispatch.lock().await;
        let dispatch = &mut *dispatch;
        self.begin(dispatch);
        flight.ways = dispatch.ways;
        if flight.encoded.requests() == 0 {
            self.advance(dispatch, flight);
            return Ok(());
        }
        while let Some(&request) = flight.unsent.first() {
            let pending = self.send_one(dispatch, flight, request).await?;
            flight.pending.push((request, pending));
            flight.unsent.remove(0);
        }
        Ok(())
    }

    async fn send_one(
        &self,
        dispatch: &mut Dispatch,
        flight: &mut Flight,
        request: usize,
    ) -> Result<PendingVerdicts, JoinError> {
        // The watermark moves with the last facts, never ahead of one.
        let last = request + 1 == flight.encoded.requests();
        let undo = if last { self.advance(dispatch, flight) } else { None };
        let watermarks = self.watermarks(dispatch);
        let sent = self
            .ports
            .join
            .process(
                ProcessRequest {
                    incarnation: self.config.incarnation,
                    catalog_version: flight.encoded.catalog().version,
                    slots: flight.facts(request),
                    watermarks: watermarks.clone(),
                    routes: Routes::All,
                    order: CallOrder::default(),
                    departs: false,
                    replays_late: false,
                    trace: flight.span.context(),
                },
                &self.holds,
            )
            .await;
        match &sent {
            Ok(_) => flight.tickets.push(self.settled.sent(watermarks)),
            Err(_) => {
                if let Some(undo) = undo {
                    dispatch.fold.take_back(undo);
                }
            }
        }
        sent
    }

    fn advance(&self, dispatch: &mut Dispatch, flight: &Flight) -> Option<crate::watermark::Undo> {
        let stream = flight.encoded.stream()?;
        let advance = Advance {
            seen: flight.encoded.max_at.map(|at| at.minus(stream.out_of_orderness_us)),
            stated: flight.batch.stated,
            has_facts: flight.encoded.fates.iter().any(|fate| *fate != Fate::Refused),
            idle: flight.batch.idle,
        };
        Some(dispatch.fold.advance(stream.id, &flight.batch.producer, advance))
    }

    /// Before watermarks are looked at: have slots changed hands?
    fn begin(&self, dispatch: &mut Dispatch) {
        let ways = self.ports.join.begin();
        if ways != dispatch.ways {
            dispatch.ways = ways;
            dispatch.elsewhere = self.settled.next();
            // Their owners are told anew what holds for them.
            dispatch.stated.clear();
        }
    }

    /// What goes with the next request: the watermarks, or, while facts wait to be sent again or are
    /// under way to a node that had their slots before, the last ones for which everything sent before
    /// is in the log (design §3).
    fn watermarks(&self, dispatch: &Dispatch) -> Vec<StreamWatermark> {
        match self.holds.any() || !self.settled.is_over_before(dispatch.elsewhere) {
            false => dispatch.fold.watermarks(),
            true => self.settled.watermarks(),
        }
    }

    /// Sends the watermarks on their own where they moved since the last time: slots without facts
    /// learn of them. To be called
    /// once a second.
    ///
    /// # Errors
    /// [`JoinError`]; they go with the next call then.
    pub async fn punctuate(&self) -> Result<(), JoinError> {
        let mut dispatch = self.dispatch.lock().await;
        dispatch.fold.tick(self.ports.clock.monotonic_ms());
        self.begin(&mut dispatch);
        let watermarks = self.watermarks(&dispatch);
        let now = self.ports.clock.monotonic_ms();
        let heard = now.saturating_sub(dispatch.stated_ms) < RESTATE_EVERY.as_millis() as u64;
        if watermarks == dispatch.stated && heard {
            return Ok(());
        }
        dispatch.stated_ms = now;
        // There are no facts whose verdicts could be waited for.
        drop(self.state(&mut dispatch, watermarks, false).await?);
        Ok(())
    }

    /// Says that this process leaves: it holds no watermark back any more. The last call.
    ///
    /// # Errors
    /// [`JoinError`]; the slots then take it for lost after a while.
    pub async fn depart(&self) -> Result<(), JoinError> {
        let mut dispatch = self.dispatch.lock().await;
        self.begin(&mut dispatch);
        let watermarks = self.watermarks(&dispatch);
        let taken = self.state(&mut dispatch, watermarks, true).await?;
        // Not heard of in time is as good as lost: the slots notice it later.
        let _ = tokio::time::timeout(DEPART_WITHIN, taken).await;
        Ok(())
    }

    async fn state(
        &self,
        dispatch: &mut Dispatch,
        watermarks: Vec<StreamWatermark>,
        departs: bool,
    ) -> Result<PendingVerdicts, JoinError> {
        let request = ProcessRequest {
            incarnation: self.config.incarnation,
            catalog_version: self.ports.catalog.current().version,
            slots: Vec::new(),
            watermarks: watermarks.clone(),
            routes: Routes::All,
            order: CallOrder::default(),
            departs,
            replays_late: false,
            trace: TraceContext::default(),
        };
        let taken = self.ports.join.process(request, &self.holds).await?;
        dispatch.stated = watermarks;
        Ok(taken)
    }

    /// A connection of a producer opens. Gives the stream's number if the catalog has it.
    pub(crate) async fn attach(&self, stream: &str, producer: &Arc<str>) -> Option<StreamId> {
        let id = self.ports.catalog.current().stream(stream)?.id;
        self.dispatch.lock().await.fold.attach(id, producer);
        Some(id)
    }

    /// A connection of a producer is gone; `idle` when it ended in order.
    pub(crate) async fn detach(&self, stream: StreamId, producer: &Arc<str>, idle: bool) {
        let mut dispatch = self.dispatch.lock().await;
        if idle {
            let _ = dispatch.fold.advance(stream, producer, Advance { idle, ..Advance::default() });
        }
        dispatch.fold.detach(stream, producer, self.ports.clock.monotonic_ms());
    }

    /// A batch was refused because too much is in flight: its producer is not idle, Millrace
    /// withholds. Skipped when the fold is busy, since a refusal must cost nothing.
    pub(crate) fn withheld(&self, stream: &str, producer: &Arc<str>) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let catalog = self.ports.catalog.current();
        if let Some(stream) = catalog.stream(stream)
            && let Ok(mut dispatch) = self.dispatch.try_lock()
        {
            dispatch.fold.attach(stream.id, producer);
            dispatch.fold.detach(stream.id, producer, self.ports.clock.monotonic_ms());
        }
    }

    /// A batch of a stream is answered, so long after it was taken in.
    pub(crate) fn answered(&self, stream: Option<&str>, answer: &Answer, after: Duration) {
        self.facts.fetch_add(answer.counts.total(), Ordering::Relaxed);
        self.instruments.answered(stream, answer, after);
    }
}

/// What the records of a batch may take at most when nothing in it is repeated: every value is a
/// few bytes longer than it came, a field is in the row, the key and the id at most, and a record
/// is written for each entity kind.
fn bytes_max(batch: &Batch, catalog: &Catalog) -> usize {
    let Some(stream) = catalog.stream(&batch.stream) else { return 0 };
    let row = 128 + 12 * stream.fields.len() + batch.producer.len();
    stream.keys.len().max(1) * (3 * batch.request_bytes + batch.sequences.facts() * row)
}
