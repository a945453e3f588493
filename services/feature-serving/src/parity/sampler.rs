//! Sampling: which answers are written down, and the task that writes them. No answer waits for it: what
//! there is no room for is left out and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_catalog::Catalog;
use millrace_client::port::{FeatureOutcome, StorePort};
use millrace_config::Share;
use millrace_store::{AUDIT_SAMPLE_BYTES_MAX, AUDIT_SAMPLES_MAX, AuditSample, NodeId};
use millrace_types::{Entity, EntityKey, KnownAt, Status};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::ParityConfig;
use super::sample::{Sample, said};
use super::tally::{Skip, Tally};
use crate::clock;
use crate::read::Answer;

/// Catalog versions that are kept, the newest.
const VERSIONS_MAX: usize = 8;
/// How long the writer waits before it tries the store again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a write is tried.
const ATTEMPTS: u32 = 5;

/// A sample on its way to the store.
#[derive(Debug)]
pub(super) struct Taken {
    catalog: Arc<Catalog>,
    bytes: Bytes,
}

/// Draws answers.
#[derive(Debug)]
pub(crate) struct Sampler {
    share: Share,
    /// Shares of all answers so far, in millionths: whenever it passes a whole one an answer is drawn.
    drawn: AtomicU64,
    a_second: u32,
    /// When the second began, and what was drawn in it.
    second: Mutex<(Instant, u32)>,
    sender: mpsc::Sender<Taken>,
    tally: Arc<Tally>,
}

impl Sampler {
    pub(super) fn new(
        config: &ParityConfig,
        sender: mpsc::Sender<Taken>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            share: config.share,
            drawn: AtomicU64::new(0),
            a_second: config.samples_a_second,
            second: Mutex::new((Instant::now(), 0)),
            sender,
            tally,
        }
    }

    /// Takes samples of an answer to a read of these keys.
    pub(crate) fn offer(&self, answer: &Answer, keys: &[EntityKey]) {
        for index in self.draw(answer.entities.len() as u64) {
            match self.take(answer, keys, index as usize) {
                Ok(()) => {}
                Err(reason) => self.tally.skip(reason),
            }
        }
    }

    /// Which of the next `count` answers are drawn: every so many-th, so that a share of 1 is all.
    fn draw(&self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let share = u64::from(self.share.millionths());
        let before = self.drawn.fetch_add(share.wrapping_mul(count), Ordering::Relaxed);
        let wholes = move |n: u64| before.wrapping_add(share.wrapping_mul(n)) / Share::WHOLE;
        // Mostly none is.
        let count = if wholes(0) == wholes(count) { 0 } else { count };
        (0..count).filter(move |n| wholes(*n) != wholes(*n + 1))
    }

    fn take(&self, answer: &Answer, keys: &[EntityKey], index: usize) -> Result<(), Skip> {
        let (Some((slot, outcome)), Some(key)) = (answer.entities.get(index), keys.get(index))
        else {
            return Ok(());
        };
        let Some(view) = answer.catalog.views.get(answer.view) else { return Ok(()) };
        if !self.is_within_rate() {
            return Err(Skip::Rate);
        }
        // What is still filled in has no value to compare.
        let said = |(index, of): (&usize, &FeatureOutcome)| {
            (of.status != Status::Backfilling).then(|| (*index, said(of.status, &of.value)))
        };
        let sample = Sample {
            slot: *slot,
            catalog_version: answer.catalog.version,
            view: view.name.clone(),
            entity: Entity { kind: view.entity, key: key.clone() },
            at: answer.at,
            position: outcome.position,
            known_at: outcome.known_at,
            features: answer.features.iter().zip(&outcome.features).filter_map(said).collect(),
        };
        let bytes: Bytes = sample.encode().into();
        if bytes.len() > AUDIT_SAMPLE_BYTES_MAX {
            return Err(Skip::Size);
        }
        let taken = Taken { catalog: Arc::clone(&answer.catalog), bytes };
        self.sender.try_send(taken).map_err(|_| Skip::Rate)
    }

    fn is_within_rate(&self) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        second.1 <= self.a_second
    }
}

/// The catalog versions that samples name, the newest of them.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<BTreeMap<u32, Arc<Catalog>>>);

impl Versions {
    fn add(&self, catalog: &Arc<Catalog>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(catalog.version).or_insert_with(|| Arc::clone(catalog));
        if known.len() > VERSIONS_MAX {
            known.pop_first();
        }
    }

    /// A version; `None` for one that no answer of this process named lately.
    pub(super) fn get(&self, version: u32) -> Option<Arc<Catalog>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&version).cloned()
    }
}

/// Writes samples into the ring.
pub(super) struct Writer {
    store: Arc<dyn StorePort>,
    node: NodeId,
    ring: u32,
    taken: mpsc::Receiver<Taken>,
    versions: Arc<Versions>,
    written: Arc<AtomicU64>,
    wake: Arc<Notify>,
    tally: Arc<Tally>,
    /// The next sample's place, and the version of the last one.
    place: u32,
    last: KnownAt,
}

impl Writer {
    pub(super) fn new(
        config: &ParityConfig,
        store: Arc<dyn StorePort>,
        taken: mpsc::Receiver<Taken>,
        wake: Arc<Notify>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            store,
            node: config.node.clone(),
            ring: config.ring.max(1),
            taken,
            versions: Arc::default(),
            written: Arc::default(),
            wake,
            tally,
            place: 0,
            last: KnownAt::default(),
        }
    }

    pub(super) fn versions(&self) -> Arc<Versions> {
        Arc::clone(&self.versions)
    }

    /// How many samples were written so far.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    pub(super) async fn run(mut self) {
        self.go_on().await;
        let mut taken = Vec::new();
        // One call holds samples of different places.
        let most = AUDIT_SAMPLES_MAX.min(self.ring as usize);
        while self.taken.recv_many(&mut taken, most).await > 0 {
            let samples = taken.drain(..).map(|one| self.placed(&one)).collect();
            self.put(samples).await;
            self.wake.notify_one();
        }
    }

    /// After what the last run wrote: its samples are overwritten last.
    async fn go_on(&mut self) {
        let mut after = KnownAt(i64::MIN);
        let read = |after| {
            let (store, node) = (Arc::clone(&self.store), self.node.clone());
            async move { store.samples(&node, after, AUDIT_SAMPLES_MAX).await }
        };
        // Without an answer it begins at the first place: older samples are overwritten sooner.
        while let Ok(found) = read(after).await {
            let Some(last) = found.last() else { break };
            after = last.ver;
            (self.place, self.last) = ((last.place + 1) % self.ring, last.ver);
        }
    }

    fn placed(&mut self, taken: &Taken) -> AuditSample {
        self.versions.add(&taken.catalog);
        // By two at least: one that was looked at is written once more, a version later.
        self.last = KnownAt(clock::now().0.max(self.last.0 + 2));
        let sample = AuditSample { place: self.place, ver: self.last, bytes: taken.bytes.clone() };
        self.place = (self.place + 1) % self.ring;
        sample
    }

    async fn put(&self, samples: Vec<AuditSample>) {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match self.store.put_samples(&self.node, samples.clone()).await {
                Ok(()) => {
                    self.written.fetch_add(samples.len() as u64, Ordering::Release);
                    return;
                }
                Err(error) if attempts == 0 => {
                    tracing::warn!(%error, "samples of answers are not written");
                    samples.iter().for_each(|_| self.tally.skip(Skip::Store));
                    return;
                }
                // The store may take them in a moment; how often that is tried is bounded.
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_client::port::{EntityOutcome, FeatureOutcome};
    use millrace_types::{FeatureValue, KeyPart, Micros, Position, SlotId, Status, Value};

    use super::*;

    fn sampler(millionths: u32, a_second: u32) -> Sampler {
        let (sender, _) = mpsc::channel(1);
        let share = Share::of_millionths(millionths).unwrap();
        let config =
            ParityConfig { share, samples_a_second: a_second, ..ParityConfig::of("serving-0") };
        Sampler::new(&config, sender, Tally::new())
    }

    #[tokio::test]
    async fn so_many_of_a_million_are_drawn_however_they_come() {
        let drawn = |millionths: u32, reads: &[u64]| {
            let sampler = sampler(millionths, 1);
            reads.iter().map(|count| sampler.draw(*count).count() as u64).sum::<u64>()
        };
        assert_eq!(drawn(1_000_000, &[1, 7, 1_000, 0]), 1_008, "all of them");
        assert_eq!(drawn(1_000, &[1; 10_000]), 10);
        assert_eq!(drawn(1_000, &[250; 40]), 10);
        assert_eq!(drawn(333_333, &[3; 1_000_000]), 999_999);
        assert_eq!(drawn(1, &[999_999]), 0);
        assert_eq!(drawn(1, &[999_999, 1]), 1);
        let half = sampler(500_000, 1);
        assert_eq!(half.draw(6).collect::<Vec<_>>(), [1, 3, 5]);
    }

    const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: id
    fields: {id: string, user_id: int64, ts: timestamp, item: string}
views:
  activity:
    entity: user
    events: clicks
    features: {clicks: {count: {}}, item: {last: item}}
";

    fn answer(item: &str) -> (Answer, Vec<EntityKey>) {
        let said = |value| FeatureOutcome {
            value: FeatureValue::Scalar(value),
            status: Status::Present,
            window_start: Micros::MIN,
        };
        let of = EntityOutcome {
            features: vec![said(Value::String(item.into())), said(Value::Int64(3))],
            position: Position { epoch: 2, sequence: 9 },
            known_at: KnownAt(70),
            watermark: None,
            rebuilding: false,
            versions: Vec::new(),
        };
        let answer = Answer {
            catalog: Arc::new(Catalog::compile(CATALOG, None).unwrap()),
            view: 0,
            features: vec![1, 0],
            at: Micros(60),
            known_at: None,
            entities: vec![(SlotId(5), of)],
            from_log: 0,
        };
        (answer, vec![EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap()])
    }

    #[tokio::test]
    async fn a_sample_holds_what_was_asked_and_said_or_is_counted() {
        let (sender, mut taken) = mpsc::channel(1);
        let share = Share::of_millionths(1_000_000).unwrap();
        let config = ParityConfig { share, ..ParityConfig::of("serving-0") };
        let sampler = Sampler::new(&config, sender, Tally::new());
        let (large, keys) = answer(&"x".repeat(AUDIT_SAMPLE_BYTES_MAX));
        sampler.offer(&large, &keys);
        assert_eq!(sampler.tally.skipped(), 1, "it is larger than a sample may be");
        let (small, keys) = answer("book");
        sampler.offer(&small, &keys);
        sampler.offer(&small, &keys);
        assert_eq!(sampler.tally.skipped(), 2, "there is room for one");
        let sample = Sample::decode(&taken.try_recv().unwrap().bytes).unwrap();
        let said = |value| said(Status::Present, &FeatureValue::Scalar(value));
        let expected = Sample {
            slot: SlotId(5),
            catalog_version: 1,
            view: "activity".to_owned(),
            entity: Entity { kind: millrace_types::KindId(0), key: keys[0].clone() },
            at: Micros(60),
            position: Position { epoch: 2, sequence: 9 },
            known_at: KnownAt(70),
            features: vec![(1, said(Value::String("book".into()))), (0, said(Value::Int64(3)))],
        };
        assert_eq!(sample, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_a_bound() {
        let sampler = sampler(1_000_000, 3);
        let within = || (0..5).filter(|_| sampler.is_within_rate()).count();
        assert_eq!((within(), within()), (3, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((within(), within()), (3, 0));
    }
}
