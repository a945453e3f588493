//! The auditor: one sample after the other, each folded from its slot's log and compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_client::port::StorePort;
use millrace_grpc::PeerNetwork;
use millrace_kernel::Plan;
use millrace_store::{AuditSample, NodeId};
use millrace_types::entity::entity_hash;
use millrace_types::{Chunk, KnownAt, Position};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ParityConfig;
use super::heal::{Healed, Healer};
use super::sample::{Sample, said};
use super::sampler::Versions;
use super::tally::{Skip, Tally};
use crate::clock;
use crate::error::ReadError;
use crate::lane::{Lane, LaneLimits};
use crate::log_read::LogReader;
use crate::read::Reader;

/// Bytes of the log read at a time.
const SCAN_BYTES: usize = 1 << 20;
/// Samples taken from the store at a time.
const BATCH: usize = 32;
/// For each moment of work it rests so many. With four, an audit of one answer in a thousand took a quarter of
/// the reads that two cores answer from heads, and three times their p99 (docs/performance.md).
const REST: u32 = 19;
/// It looks for samples after so long, though nobody says that there are some.
const IDLE: Duration = Duration::from_secs(10);
/// How long it waits before it asks the store again.
const AGAIN: Duration = Duration::from_secs(1);
/// Samples of any node are forgotten once they are so old, looked at or not: they hold keys and values.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How often that is done.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// How often a log that cannot be read is tried.
const ATTEMPTS: u32 = 5;

/// Compares samples with the log.
pub(super) struct Auditor {
    reader: Arc<Reader>,
    /// In a lane of its own: it takes no read's place.
    log: LogReader,
    store: Arc<dyn StorePort>,
    node: NodeId,
    versions: Arc<Versions>,
    plans: HashMap<u32, Arc<Plan>>,
    wake: Arc<Notify>,
    tally: Arc<Tally>,
    healer: Healer,
    /// The last sample looked at.
    after: KnownAt,
    /// Samples of this run: from when on they were taken, how many were written, and how many of them were
    /// seen or are known to be lost.
    began: KnownAt,
    written: Arc<AtomicU64>,
    seen: u64,
}

/// What came of a sample.
enum Found {
    Equal,
    /// The name of the first feature that differs.
    Differs(String),
    Skipped(Skip),
}

impl Auditor {
    pub(super) fn new(
        config: &ParityConfig,
        reader: &Arc<Reader>,
        versions: Arc<Versions>,
        written: Arc<AtomicU64>,
        wake: Arc<Notify>,
        tally: Arc<Tally>,
    ) -> Self {
        let lane = Lane::new("the audit", LaneLimits { at_once: 1, places: 1 });
        Self {
            log: reader.log.beside(lane),
            store: reader.log.store(),
            healer: Healer::new(Arc::clone(&reader.owner), Arc::clone(&tally)),
            reader: Arc::clone(reader),
            node: config.node.clone(),
            versions,
            plans: HashMap::new(),
            wake,
            tally,
            after: KnownAt(i64::MIN),
            began: KnownAt(clock::now().0),
            written,
            seen: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let mut forgotten: Option<Instant> = None;
        loop {
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                forgotten = Some(Instant::now());
                self.forget_old().await;
            }
            let healed = self.healer.again().await;
            self.forget(healed).await;
            // Read before the samples: what was written by then is among them, or overwritten.
            let written = self.written.load(Ordering::Acquire);
            match self.store.samples(&self.node, self.after, BATCH).await {
                Ok(batch) if batch.is_empty() => {
                    self.count_lost(written);
                    let idle = self.healer.due().map_or(IDLE, |due| due.min(IDLE));
                    // Woken or not, it looks.
                    let _ = tokio::time::timeout(idle, self.wake.notified()).await;
                }
                Ok(batch) => self.look_at(batch).await,
                Err(error) => {
                    tracing::debug!(%error, "read samples of answers");
                    // A store in trouble is not asked without a pause.
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn forget_old(&self) {
        let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
        let up_to = KnownAt(clock::now().0.saturating_sub(kept));
        if let Err(error) = self.store.forget_samples(up_to).await {
            tracing::warn!(%error, "old samples of answers are not forgotten; tried again in an hour");
        }
    }

    /// Samples of this run that were overwritten before they were looked at.
    fn count_lost(&mut self, written: u64) {
        for _ in self.seen..written {
            self.tally.skip(Skip::Overwritten);
        }
        self.seen = self.seen.max(written);
    }

    async fn look_at(&mut self, batch: Vec<AuditSample>) {
        let mut done = Vec::with_capacity(batch.len());
        for sample in batch {
            let begun = Instant::now();
            self.after = sample.ver;
            self.seen += u64::from(sample.ver >= self.began);
            if self.look(&sample).await == Healed::Yes {
                done.push((sample.place, sample.ver));
            }
            // The rest that keeps the audit to its share of the time.
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
        self.forget(done).await;
    }

    /// Empties the places of samples that need not be looked at again. Should it fail, the next run of the
    /// node looks at them once more.
    async fn forget(&self, done: Vec<(u32, KnownAt)>) {
        if done.is_empty() {
            return;
        }
        let empty = |(place, ver): (u32, KnownAt)| AuditSample {
            place,
            ver: KnownAt(ver.0 + 1),
            bytes: bytes::Bytes::new(),
        };
        let emptied = done.into_iter().map(empty).collect();
        if let Err(error) = self.store.put_samples(&self.node, emptied).await {
            tracing::debug!(%error, "empty the places of samples");
        }
    }

    /// Looks at one sample; gives whether its entity needs nothing more.
    async fn look(&mut self, sample: &AuditSample) -> Healed {
        let Ok(decoded) = Sample::decode(&sample.bytes) else {
            self.tally.skip(Skip::Damaged);
            return Healed::Yes;
        };
        match self.compare(&decoded).await {
            Found::Equal => self.tally.is_equal(),
            Found::Skipped(reason) => self.tally.skip(reason),
            Found::Differs(feature) => {
                self.tally.differs();
                let plan = self.reader.plan();
                let kind = plan.catalog.kind(decoded.entity.kind);
                let name = kind.map_or("", |kind| kind.name.as_str());
                let hash = entity_hash(name, decoded.entity.key.as_bytes());
                // Keys are data of users: the hash tells whether two lines are of one entity.
                tracing::error!(
                    view = decoded.view,
                    feature,
                    slot = decoded.slot.0,
                    position = %decoded.position,
                    catalog_version = decoded.catalog_version,
                    at = %decoded.at,
                    entity = format!("{hash:016x}"),
                    "parity: an answer was not what the log says; its entity is rebuilt from the log",
                );
                return self.healer.heal(decoded, (sample.place, sample.ver)).await;
            }
        }
        Healed::Yes
    }

    /// Makes the answer again, from the log up to its position.
    async fn compare(&mut self, sample: &Sample) -> Found {
        let Some(plan) = self.plan(sample.catalog_version) else {
            return Found::Skipped(Skip::Catalog);
        };
        let kind = plan.kind(sample.entity.kind);
        let view = kind.and_then(|kind| kind.view_index(&sample.view));
        let names = plan.catalog.view(&sample.view).map(|view| &view.features);
        let (Some(view), Some(names)) = (view, names) else {
            return Found::Skipped(Skip::Damaged);
        };
        let wanted: Vec<usize> = sample.features.iter().map(|(index, _)| *index).collect();
        if wanted.iter().any(|index| *index >= names.len()) {
            return Found::Skipped(Skip::Damaged);
        }
        let mut attempts = ATTEMPTS;
        let folded = loop {
            attempts -= 1;
            let nobody = PeerNetwork::of(None);
            let entity = vec![sample.entity.clone()];
            let (known_at, up_to) = (sample.known_at, sample.position);
            let fold = self.log.fold(nobody, plan.clone(), sample.slot, entity, known_at, up_to);
            match fold.await {
                Ok(folded) => break folded,
                Err(ReadError::BudgetSpent { .. }) => return Found::Skipped(Skip::Budget),
                Err(error) if attempts == 0 => {
                    tracing::warn!(%error, slot = sample.slot.0, "read the log for an audit");
                    return Found::Skipped(Skip::Store);
                }
                // The log may be read again in a moment; how often that is tried is bounded.
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        // What it was made from may be gone; whether it was is not known any more.
        let at = (sample.at, &folded.boundaries);
        if kind.is_some_and(|kind| kind.too_early(view, &wanted, at.0, at.1).is_some()) {
            return Found::Skipped(Skip::Forgotten);
        }
        let state = folded.states.into_iter().next().map(|(_, state)| state);
        let evaluation = state.and_then(|mut state| state.evaluate(view, &wanted, sample.at));
        let Some(evaluation) = evaluation else { return Found::Skipped(Skip::Budget) };
        let pairs = sample.features.iter().zip(&evaluation.features);
        for ((index, answered), of_log) in pairs {
            if **answered != *said(of_log.status, &of_log.value) {
                return match self.taken_since(sample).await {
                    Ok(None) => Found::Differs(names[*index].name.clone()),
                    Ok(Some(why)) | Err(why) => Found::Skipped(why),
                };
            }
        }
        Found::Equal
    }

    /// Why what an answer was made from may be gone: entities were erased in its slot, or facts forgotten,
    /// after it. `None` where neither is so; an error where the log cannot be read.
    async fn taken_since(&self, sample: &Sample) -> Result<Option<Skip>, Skip> {
        let mut after = sample.position;
        loop {
            let page = self.store.read_log(sample.slot, after, Position::END, SCAN_BYTES).await;
            let page = page.map_err(|_| Skip::Store)?;
            for (position, bytes) in &page.chunks {
                after = *position;
                let header = Chunk::decode(bytes.as_ref()).map_err(|_| Skip::Store)?.header;
                if header.erasures.is_some_and(|notes| !notes.erased.is_empty()) {
                    return Ok(Some(Skip::Erased));
                }
                // Under an earlier catalog version an entity may have been missing.
                if header.retention.is_some_and(|notes| !notes.base.is_empty()) {
                    return Ok(Some(Skip::Forgotten));
                }
            }
            if page.complete || page.chunks.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The plan of a catalog version, made once.
    fn plan(&mut self, version: u32) -> Option<Arc<Plan>> {
        let newest = self.reader.plan();
        if newest.catalog.version == version {
            return Some(newest);
        }
        let catalog = self.versions.get(version)?;
        // Those that are left out of the versions leave here, too.
        self.plans.retain(|known, _| self.versions.get(*known).is_some());
        Some(self.plans.entry(version).or_insert_with(|| Arc::new(Plan::new(catalog))).clone())
    }
}
