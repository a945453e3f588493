//! What join counts, and the state of its slots as a scrape finds it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use millrace_client::port::SlotStatus;
use millrace_telemetry::metrics::names::Names;
use millrace_telemetry::metrics::{BYTES, FACTS, LATENCY};
use millrace_telemetry::{Measure, Metric};
use millrace_types::entity::view_key;
use millrace_types::{Micros, StreamId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use tokio::sync::oneshot;

use crate::clock::now_us;
use crate::message::Message;
use crate::service::JoinService;

/// How long flushes took.
pub const FLUSH_SECONDS: Metric = Metric::histogram(
    "millrace_join_flush_seconds",
    LATENCY,
    &[],
    "From handing a flush to store-writer until it is durable and confirmed",
);
/// How many facts they had.
pub const FLUSH_FACTS: Metric = Metric::histogram(
    "millrace_join_flush_facts",
    FACTS,
    &[],
    "Facts of a flush, over all its slots",
);
/// How many bytes they had.
pub const FLUSH_BYTES: Metric =
    Metric::histogram("millrace_join_flush_bytes", BYTES, &[], "Bytes of the chunks of a flush");
/// Chunks.
pub const CHUNKS: Metric =
    Metric::counter("millrace_join_chunks_total", &[], "Chunks handed to store-writer");
/// How far behind stored heads are.
pub const SAVED_SECONDS: Metric = Metric::histogram(
    "millrace_join_saved_seconds",
    LATENCY,
    &[],
    "From judging a chunk until stored heads cover it, which feature-serving apart reads",
);
/// Facts that are refused.
pub const REFUSED: Metric = Metric::counter(
    "millrace_join_refused_batches_total",
    &["reason"],
    "Batches a worker did not take, by the reason of the table of errors",
);
/// Facts that wait.
pub const QUEUE_FACTS: Metric =
    Metric::gauge("millrace_join_queue_facts", &[], "Facts that wait to be judged, over all slots");
/// The fullest slot.
pub const SLOT_QUEUE_FACTS_MAX: Metric = Metric::gauge(
    "millrace_join_slot_queue_facts_max",
    &[],
    "Facts that wait in the slot with the most of them",
);
/// Its bound.
pub const SLOT_QUEUE_FACTS_LIMIT: Metric = Metric::gauge(
    "millrace_join_slot_queue_facts_limit",
    &[],
    "Facts that may wait in one slot; beyond it OVERLOADED",
);
/// Bytes that wait.
pub const QUEUE_BYTES: Metric = Metric::gauge(
    "millrace_join_queue_bytes",
    &[],
    "Bytes of facts that wait to be judged, over all workers",
);
/// Their bound.
pub const QUEUE_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_join_queue_bytes_limit",
    &[],
    "Bytes of facts that may wait, over all workers; beyond a worker's part OVERLOADED",
);
/// Entities that wait for a rebuild.
pub const DIRTY: Metric = Metric::gauge(
    "millrace_join_dirty_entities",
    &[],
    "Entities that wait for a rebuild: their facts are in the log and not in their value yet",
);
/// Rebuilds.
pub const REBUILDS: Metric = Metric::gauge(
    "millrace_join_rebuilds",
    &[],
    "Rebuilds under way, each of up to 1,024 entities",
);
/// Slots that lack features.
pub const BACKFILL_SLOTS: Metric = Metric::gauge(
    "millrace_backfill_slots",
    &[],
    "Slots in which features of the newest catalog version are not filled in from the log yet",
);
/// How much is done.
pub const BACKFILL_DONE: Metric = Metric::gauge(
    "millrace_backfill_done_ratio",
    &[],
    "The part of the entities of this process that know every feature, from 0 to 1",
);
/// Entities filled in.
pub const BACKFILLED: Metric = Metric::counter(
    "millrace_backfill_entities_total",
    &[],
    "Entities whose features were filled in from the log",
);
/// Facts let go.
pub const FORGOTTEN: Metric = Metric::counter(
    "millrace_join_forgotten_facts_total",
    &[],
    "Facts that were taken out of the log for the retention of their streams",
);
/// Entities in memory.
pub const RESIDENT: Metric =
    Metric::gauge("millrace_join_resident_entities", &[], "Entities held in memory");
/// Their bytes.
pub const RESIDENT_BYTES: Metric = Metric::gauge(
    "millrace_join_resident_bytes",
    &[],
    "Bytes of memory for entities, over all slots",
);
/// Their bound.
pub const RESIDENT_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_join_resident_bytes_limit",
    &[],
    "Bytes of memory that entities may take, over all workers; the coldest leave beyond a worker's",
);
/// Facts at hand.
pub const AT_HAND_BYTES: Metric =
    Metric::gauge("millrace_join_at_hand_bytes", &[], "Bytes of facts at hand, over all slots");
/// Their bound.
pub const AT_HAND_BYTES_LIMIT: Metric = Metric::gauge(
    "millrace_join_at_hand_bytes_limit",
    &[],
    "Bytes of facts that may be at hand, over all slots; the oldest leave beyond a slot's part",
);
/// What a restart would replay.
pub const UNMARKED: Metric = Metric::gauge(
    "millrace_join_unmarked_chunks",
    &[],
    "Chunks that no mark covers yet: what a restart would replay",
);
/// Slots.
pub const SLOTS: Metric = Metric::gauge("millrace_join_slots", &[], "Slots this process owns");
/// Watermarks of streams.
pub const STREAM_WATERMARK: Metric = Metric::gauge(
    "millrace_stream_watermark_timestamp_seconds",
    &["stream"],
    "The least watermark of a stream over its slots, in seconds since the epoch",
);
/// How far they are behind.
pub const STREAM_LAG: Metric = Metric::gauge(
    "millrace_stream_watermark_lag_seconds",
    &["stream"],
    "The clock minus the stream's watermark; it grows while nothing is published",
);
/// The newest event time.
pub const STREAM_LATEST: Metric = Metric::gauge(
    "millrace_stream_latest_timestamp_seconds",
    &["stream"],
    "The greatest event time of a stream, in seconds since the epoch",
);
/// Watermarks of views.
pub const VIEW_WATERMARK: Metric = Metric::gauge(
    "millrace_view_watermark_timestamp_seconds",
    &["view"],
    "The least watermark of a view over its slots, in seconds since the epoch",
);
/// How far they are behind.
pub const VIEW_LAG: Metric = Metric::gauge(
    "millrace_view_watermark_lag_seconds",
    &["view"],
    "The clock minus the view's watermark",
);

/// All of them.
pub const ALL: [Metric; 29] = [
    FLUSH_SECONDS,
    FLUSH_FACTS,
    FLUSH_BYTES,
    CHUNKS,
    SAVED_SECONDS,
    REFUSED,
    QUEUE_FACTS,
    SLOT_QUEUE_FACTS_MAX,
    SLOT_QUEUE_FACTS_LIMIT,
    QUEUE_BYTES,
    QUEUE_BYTES_LIMIT,
    DIRTY,
    REBUILDS,
    BACKFILL_SLOTS,
    BACKFILL_DONE,
    BACKFILLED,
    FORGOTTEN,
    RESIDENT,
    RESIDENT_BYTES,
    RESIDENT_BYTES_LIMIT,
    AT_HAND_BYTES,
    AT_HAND_BYTES_LIMIT,
    UNMARKED,
    SLOTS,
    STREAM_WATERMARK,
    STREAM_LAG,
    STREAM_LATEST,
    VIEW_WATERMARK,
    VIEW_LAG,
];

/// What a worker adds to, once a flush.
#[derive(Debug, Clone)]
pub(crate) struct Instruments {
    pub(crate) flush_seconds: Histogram<f64>,
    pub(crate) flush_facts: Histogram<f64>,
    pub(crate) flush_bytes: Histogram<f64>,
    pub(crate) chunks: Counter<u64>,
    pub(crate) saved_seconds: Histogram<f64>,
    pub(crate) refused: Counter<u64>,
    pub(crate) backfilled: Counter<u64>,
    pub(crate) forgotten: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new() -> Self {
        Self {
            flush_seconds: FLUSH_SECONDS.record(),
            flush_facts: FLUSH_FACTS.record(),
            flush_bytes: FLUSH_BYTES.record(),
            chunks: CHUNKS.count(),
            saved_seconds: SAVED_SECONDS.record(),
            refused: REFUSED.count(),
            backfilled: BACKFILLED.count(),
            forgotten: FORGOTTEN.count(),
        }
    }
}

/// The state of a worker, for gauges.
#[derive(Debug, Default)]
pub(crate) struct WorkerState {
    pub(crate) slots: Vec<SlotStatus>,
    pub(crate) queued_bytes: usize,
    pub(crate) rebuilds: usize,
    /// The least watermark of each view over the worker's slots, by the view's key.
    pub(crate) views: BTreeMap<u64, Micros>,
}

/// What is summed up over slots.
type OfSlot = fn(&SlotStatus) -> u64;

/// What is set at every scrape.
#[derive(Debug)]
pub(crate) struct Gauges {
    streams: Names,
    views: Names,
    sums: Vec<(Gauge<f64>, OfSlot)>,
    fullest: Gauge<f64>,
    queue_bytes: Gauge<f64>,
    rebuilds: Gauge<f64>,
    backfilled: Gauge<f64>,
    slots: Gauge<f64>,
    watermark: Gauge<f64>,
    lag: Gauge<f64>,
    latest: Gauge<f64>,
    view_watermark: Gauge<f64>,
    view_lag: Gauge<f64>,
}

impl Gauges {
    pub(crate) fn new() -> Self {
        Self {
            streams: Names::default(),
            views: Names::default(),
            sums: vec![
                (QUEUE_FACTS.set(), |s| s.queued),
                (DIRTY.set(), |s| s.dirty),
                (BACKFILL_SLOTS.set(), |s| u64::from(s.backfill.is_some())),
                (RESIDENT.set(), |s| s.resident),
                (RESIDENT_BYTES.set(), |s| s.resident_bytes),
                (AT_HAND_BYTES.set(), |s| s.at_hand_bytes),
                (UNMARKED.set(), SlotStatus::unmarked_chunks),
            ],
            fullest: SLOT_QUEUE_FACTS_MAX.set(),
            queue_bytes: QUEUE_BYTES.set(),
            rebuilds: REBUILDS.set(),
            backfilled: BACKFILL_DONE.set(),
            slots: SLOTS.set(),
            watermark: STREAM_WATERMARK.set(),
            lag: STREAM_LAG.set(),
            latest: STREAM_LATEST.set(),
            view_watermark: VIEW_WATERMARK.set(),
            view_lag: VIEW_LAG.set(),
        }
    }
}

fn seconds(at: Micros) -> f64 {
    at.0 as f64 / 1e6
}

/// Bounds do not change while the service runs.
pub(crate) fn observe(service: &JoinService) {
    let config = service.config();
    let workers = config.workers.get();
    let slots = config.slots as usize;
    for (metric, bound) in [
        (SLOT_QUEUE_FACTS_LIMIT, config.queue_facts as f64),
        (QUEUE_BYTES_LIMIT, config.queue_bytes as f64 * workers as f64),
        (RESIDENT_BYTES_LIMIT, config.resident_bytes as f64 * workers as f64),
        (AT_HAND_BYTES_LIMIT, config.at_hand_bytes as f64 * slots as f64),
    ] {
        metric.set_to(move || Some(bound));
    }
}

#[async_trait]
impl Measure for JoinService {
    async fn measure(&self) {
        let mut states = Vec::new();
        for worker in self.workers() {
            let (sender, state) = oneshot::channel();
            // A worker that is gone has no state.
            if worker.send(Message::Measure(sender)).await.is_ok()
                && let Ok(state) = state.await
            {
                states.push(state);
            }
        }
        let gauges = self.gauges();
        let slots = || states.iter().flat_map(|state| &state.slots);
        for (gauge, of) in &gauges.sums {
            gauge.record(slots().map(|slot| of(slot) as f64).sum(), &[]);
        }
        let total = |of: fn(&WorkerState) -> usize| states.iter().map(of).sum::<usize>() as f64;
        gauges.fullest.record(slots().map(|s| s.queued).max().unwrap_or(0) as f64, &[]);
        gauges.queue_bytes.record(total(|s| s.queued_bytes), &[]);
        gauges.rebuilds.record(total(|s| s.rebuilds), &[]);
        gauges.slots.record(total(|s| s.slots.len()), &[]);
        if slots().next().is_some() {
            let done = |s: &SlotStatus| s.backfill.map_or(1_000, |b| b.done_permille);
            let done: f64 = slots().map(|s| f64::from(done(s)) / 1e3).sum();
            gauges.backfilled.record(done / slots().count() as f64, &[]);
        }
        self.measure_time(&states);
    }
}

impl JoinService {
    /// How far event time is, by stream and view.
    fn measure_time(&self, states: &[WorkerState]) {
        let now = seconds(Micros(now_us()));
        let gauges = self.gauges();
        let mut watermarks: BTreeMap<StreamId, Micros> = BTreeMap::new();
        let mut latest: BTreeMap<StreamId, Micros> = BTreeMap::new();
        let mut views: BTreeMap<u64, Micros> = BTreeMap::new();
        for slot in states.iter().flat_map(|state| &state.slots) {
            least(&mut watermarks, slot.watermarks.iter().copied());
            for (stream, at) in &slot.latest {
                let most = latest.entry(*stream).or_insert(*at);
                *most = (*most).max(*at);
            }
        }
        for state in states {
            least(&mut views, state.views.iter().map(|(view, at)| (*view, *at)));
        }
        let catalog = self.catalog();
        for stream in &catalog.streams {
            let Some(label) = gauges.streams.own_label(&stream.name) else { continue };
            let label = [KeyValue::new("stream", label)];
            if let Some(at) = watermarks.get(&stream.id) {
                gauges.watermark.record(seconds(*at), &label);
                gauges.lag.record(now - seconds(*at), &label);
            }
            if let Some(at) = latest.get(&stream.id) {
                gauges.latest.record(seconds(*at), &label);
            }
        }
        for view in &catalog.views {
            if let Some(at) = views.get(&view_key(&view.name))
                && let Some(label) = gauges.views.own_label(&view.name)
            {
                let label = [KeyValue::new("view", label)];
                gauges.view_watermark.record(seconds(*at), &label);
                gauges.view_lag.record(now - seconds(*at), &label);
            }
        }
    }
}

/// Keeps the least instant of each; those before the first watermark do not count.
fn least<K: Ord>(known: &mut BTreeMap<K, Micros>, more: impl Iterator<Item = (K, Micros)>) {
    for (key, at) in more.filter(|(_, at)| *at > Micros::MIN) {
        let least = known.entry(key).or_insert(at);
        *least = (*least).min(at);
    }
}
