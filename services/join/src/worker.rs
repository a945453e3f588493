//! A worker: one thread that owns a set of slots. Its loop takes messages, judges what is queued
//! into chunks, and appends the chunks of all its slots in one flush.

mod backfill;
mod batches;
mod erase;
mod flush;
mod head_budget;
mod held;
mod leave;
mod reads;
mod rebuild;
mod recover;
mod retain;
mod save;
mod scan_rate;
mod suspect;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millrace_client::port::{
    AppendOutcome, BackfillStatus, CatalogPort, JoinError, SlotStatus, StorePort,
};
use millrace_kernel::erase::Erasures;
use millrace_kernel::slot::SlotCore;
use millrace_kernel::{EntityState, Plan};
use millrace_store::{Incarnation, NodeId, Part, StoreError};
use millrace_telemetry::TraceContext;
use millrace_types::{
    Boundaries, Entity, Filled, KnownAt, Micros, Position, SlotId, StreamWatermark,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::{Ceiling, Clock};
use crate::config::JoinConfig;
use crate::message::{Message, ReadJob};
use crate::metrics::{Instruments, WorkerState};
use crate::service::Confirming;
use crate::stop::Stop;
pub(crate) use backfill::Scanned;
use backfill::{Backfill, Progress};
use batches::{Queue, Refusals, Statement};
use erase::Erasing;
use flush::{Flight, Flushed};
use head_budget::{HeadBudget, Overdue};
use held::Held;
pub(crate) use leave::Acquired;
use leave::Acquiring;
use leave::{Leaving, Pace};
use rebuild::Rebuilding;
pub(crate) use recover::decode;
use retain::{Compacting, Retaining};

/// Messages taken before what is queued is judged: large enough to batch, small enough that reads
/// and completions are not kept waiting.
const MESSAGES_A_TURN: usize = 256;
/// How often the thread offers its core to others after reads before it sleeps: the next reads are
/// often on their way, and waking a sleeping thread costs more than a read.
const YIELDS: usize = 8;
/// How often housekeeping runs.
const TICK: Duration = Duration::from_millis(100);

/// What a worker starts with.
pub(crate) struct WorkerStart {
    pub(crate) index: usize,
    /// Those it takes over at once, from whoever has them.
    pub(crate) slots: Vec<SlotId>,
    /// By slot: what was confirmed last.
    pub(crate) confirmed: Arc<[Confirming]>,
    pub(crate) config: JoinConfig,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) store: Arc<dyn StorePort>,
    pub(crate) catalog: Arc<dyn CatalogPort>,
    pub(crate) erasures: watch::Receiver<Arc<Erasures>>,
    pub(crate) ceiling: Ceiling,
    pub(crate) instruments: Instruments,
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// To itself: background work reports as messages.
    pub(crate) own: mpsc::WeakSender<Message>,
    /// The process's runtime, for background work.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) fail: Arc<watch::Sender<Option<Stop>>>,
    pub(crate) ready: oneshot::Sender<Result<(), StoreError>>,
}

/// One slot of a worker.
struct Slot {
    core: SlotCore,
    epoch: u64,
    /// The end of the log of before.
    recovered_to: Position,
    /// When it was taken over.
    since: Instant,
    /// It is on its way to another owner, or to nobody.
    leaving: Option<Leaving>,
    pace: Pace,
    queue: Queue,
    flight: Option<Flight>,
    /// Why the slot judges nothing now.
    held: Held,
    rebuild: Rebuilding,
    erasing: Erasing,
    retaining: Retaining,
    /// Facts may have been taken out of its log that no mark tells of.
    inherited_scrub: bool,
    /// Reads that wait for a confirmation.
    parked: Vec<(Position, ReadJob)>,
    /// Requests to close the log up to an instant.
    closing: Vec<(KnownAt, oneshot::Sender<Result<Position, JoinError>>)>,
    /// Who waits until entities under suspicion are dirty.
    suspecting: Vec<suspect::Suspecting>,
    confirmed: Confirming,
    /// What it was told of watermarks last, by incarnation.
    told: BTreeMap<u64, Arc<[StreamWatermark]>>,
    last_chunk: Instant,
    marked: Position,
    /// What the last mark says of features, and of chunks rewritten for retentions.
    marked_filled: Filled,
    marked_scrubbed: Boundaries,
    /// Confirmed chunks that no mark covers yet, and when they were judged; the newest may be left
    /// out.
    uncovered: VecDeque<(Position, Instant)>,
    /// When to look again for heads that rested.
    heads_again: Option<Instant>,
    overdue: Overdue,
    /// When the oldest unsaved fact came.
    unsaved: Option<Instant>,
    /// The batches that the next save of heads is of, those that are in a trace.
    unsaved_traces: Vec<TraceContext>,
    /// When to look at the budget at hand again: facts that should have left were in use.
    budget_again: Option<Instant>,
    /// Incarnations of earlier ingest processes that are held as lost after `idle_after`.
    inherited: Vec<u64>,
    /// Heads are being put.
    putting: bool,
    /// A mark is being written.
    marking: bool,
    last_mark: Instant,
    /// Loads of entities under way: none is unloaded meanwhile, or a load could bring back an
    /// older head.
    loads: usize,
}

/// Something asynchronous that a worker waits for.
enum Done {
    Flushed(Flushed),
    Loaded(SlotId, Result<Vec<(Entity, Option<EntityState>)>, StoreError>, Waits),
    HeadsPut(SlotId, Vec<save::Putting>, Result<(), StoreError>),
    Marked(SlotId, Position, Result<(), StoreError>),
    RebuiltPut(SlotId, Vec<millrace_kernel::slot::RebuiltPut>, Result<(), StoreError>),
    Acquired(SlotId, Acquiring, Result<Option<Box<recover::Recovered>>, StoreError>),
    Released(SlotId, Result<(), StoreError>),
    Deleted(Result<(), StoreError>),
}

/// Who waits for entities to be loaded.
enum Waits {
    /// Batches: the slot judges nothing meanwhile.
    Batches,
    Read(ReadJob),
    Backfill,
    /// Heads are to be stored once more.
    Retention,
}

type Work = Pin<Box<dyn Future<Output = Done>>>;

/// The state of a worker thread.
pub(crate) struct Worker {
    config: JoinConfig,
    head_budget: HeadBudget,
    /// The slot whose heads come first the next time.
    saved_first: SlotId,
    node: NodeId,
    incarnation: Incarnation,
    store: Arc<dyn StorePort>,
    catalog: Arc<dyn CatalogPort>,
    plan: Arc<Plan>,
    erasures: watch::Receiver<Arc<Erasures>>,
    clock: Clock,
    slots: BTreeMap<SlotId, Slot>,
    own: mpsc::WeakSender<Message>,
    runtime: tokio::runtime::Handle,
    fail: Arc<watch::Sender<Option<Stop>>>,
    work: FuturesUnordered<Work>,
    /// The last watermarks of each ingest incarnation, for slots without facts of it.
    statements: BTreeMap<u64, Statement>,
    refusals: Refusals,
    /// Ingest incarnations whose call ended, and when.
    gone: BTreeMap<u64, Instant>,
    /// No flush starts before this, when the load is high.
    next_flush: Instant,
    /// The last slot that was looked at for a flush.
    flushed: SlotId,
    last_tick: Instant,
    confirmed: Arc<[Confirming]>,
    /// Snapshot parts to delete once their grace is over.
    garbage: VecDeque<(Instant, SlotId, Entity, Part)>,
    queued_bytes: usize,
    rebuilds: usize,
    backfill: Option<Backfill>,
    /// How backfills get on, once one began.
    backfill_progress: Option<Progress>,
    /// A slot may lack features: a catalog version or a slot came.
    backfill_due: bool,
    /// The slot that was backfilled last.
    backfilled: SlotId,
    /// No backfill begins before: one failed.
    backfill_pause: Option<Instant>,
    /// Slots in which a base chunk is due.
    bases_due: BTreeSet<SlotId>,
    compacting: Compacting,
    draining: Option<oneshot::Sender<()>>,
    instruments: Instruments,
    /// Reads were answered in this turn.
    answered: bool,
}

impl Worker {
    /// Starts the thread of a worker.
    pub(crate) fn spawn(start: WorkerStart) -> std::io::Result<()> {
        let name = format!("join-{}", start.index);
        std::thread::Builder::new().name(name).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            match runtime {
                Ok(runtime) => runtime.block_on(Self::run(start)),
                Err(error) => {
                    let reason = format!("start a runtime: {error}");
                    // The service that waits for `ready` tells the caller.
                    let _ = start.ready.send(Err(StoreError::Failed { reason }));
                }
            }
        })?;
        Ok(())
    }

    async fn run(start: WorkerStart) {
        let mut watch = start.catalog.watch();
        let plan = Arc::new(Plan::new(start.catalog.current()));
        watch.mark_unchanged();
        let mut inbox = start.inbox;
        let mut worker = Self {
            clock: Clock::new(start.ceiling),
            head_budget: HeadBudget::new(start.config.head_bytes_per_second),
            saved_first: SlotId(0),
            config: start.config,
            node: start.node,
            incarnation: start.incarnation,
            store: start.store,
            catalog: start.catalog,
            plan,
            erasures: start.erasures,
            slots: BTreeMap::new(),
            own: start.own,
            runtime: start.runtime,
            fail: start.fail,
            work: FuturesUnordered::new(),
            statements: BTreeMap::new(),
            refusals: Refusals::default(),
            gone: BTreeMap::new(),
            next_flush: Instant::now(),
            flushed: SlotId(u32::MAX),
            last_tick: Instant::now(),
            confirmed: start.confirmed,
            garbage: VecDeque::new(),
            queued_bytes: 0,
            rebuilds: 0,
            backfill: None,
            backfill_progress: None,
            backfill_due: true,
            backfilled: SlotId(u32::MAX),
            backfill_pause: None,
            bases_due: BTreeSet::new(),
            compacting: Compacting::default(),
            draining: None,
            instruments: start.instruments,
            answered: false,
        };
        let recovered = worker.recover(start.slots).await;
        let failed = recovered.is_err();
        // The service that waits for `ready` tells the caller.
        let _ = start.ready.send(recovered);
        if failed {
            return;
        }
        worker.serve(&mut inbox, &mut watch).await;
    }

    async fn serve(
        &mut self,
        inbox: &mut mpsc::Receiver<Message>,
        catalogs: &mut watch::Receiver<Arc<millrace_catalog::Catalog>>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut messages = Vec::with_capacity(MESSAGES_A_TURN);
        loop {
            let waits_to_flush = self.has_queued();
            tokio::select! {
                biased;
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                changed = catalogs.changed() => {
                    if changed.is_ok() {
                        self.load_catalog();
                    }
                }
                taken = inbox.recv_many(&mut messages, MESSAGES_A_TURN) => {
                    if taken == 0 {
                        return;
                    }
                    for message in messages.drain(..) {
                        self.message(message);
                    }
                }
                () = tokio::time::sleep_until(self.next_flush), if waits_to_flush => {}
                _ = tick.tick() => self.tick(),
            }
            // Before the next chunk makes an entity dirty once more that has just been rebuilt.
            self.start_backfills();
            self.write_bases();
            self.start_flush();
            self.start_rebuilds();
            self.continue_erasures();
            self.leave_slots();
            if std::mem::take(&mut self.answered) {
                yield_until(|| !inbox.is_empty());
            }
            if self.draining.is_some() && self.drained() {
                return;
            }
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Process(batch) => self.enqueue(batch),
            Message::Gone { call, incarnation } => {
                self.refusals.ended(call);
                self.gone.extend(incarnation.map(|incarnation| (incarnation, Instant::now())));
            }
            Message::Read(job) => {
                self.answered = true;
                self.read(job);
            }
            Message::Close(slot, known_at, sender) => self.close(slot, known_at, sender),
            Message::Suspect(slot, entities, sender) => self.suspect(slot, entities, sender),
            Message::Status(sender) => {
                // Whoever dropped the receiver does not want to know.
                // Whoever applied a version sees what it brings.
                self.load_catalog();
                let _ = sender.send(self.statuses());
            }
            Message::Measure(sender) => {
                let _ = sender.send(self.state());
            }
            Message::Folded(folded) => self.folded(folded),
            Message::Erasing(done) => self.erasure_went_on(done),
            Message::Retention(done) => self.retention_went_on(done),
            Message::Compacted(outcome) => self.compacted(outcome),
            Message::Backfilled(from) => self.backfilled(from),
            Message::Acquire(slot, fencing, load, sender) => {
                self.acquire(slot, fencing, Acquiring { load, sender });
            }
            Message::Release(slot, sender) => self.release(slot, Some(sender)),
            Message::Owned(sender) => {
                let _ = sender.send(self.slots.values_mut().map(Slot::member).collect());
            }
            Message::Drain(sender) => {
                self.draining = Some(sender);
                self.depart_all();
                let slots: Vec<SlotId> = self.slots.keys().copied().collect();
                for slot in slots {
                    self.release(slot, None);
                }
            }
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Flushed(flushed) => self.flushed(flushed),
            Done::Loaded(slot, loaded, waits) => self.loaded(slot, loaded, waits),
            Done::HeadsPut(slot, puts, result) => self.heads_put(slot, puts, result),
            Done::Marked(slot, position, result) => self.mark_put(slot, position, result),
            Done::RebuiltPut(slot, puts, result) => self.rebuilt_put(slot, puts, result),
            Done::Acquired(slot, asked, result) => self.acquired(slot, asked, result),
            Done::Released(slot, result) => self.released(slot, &result),
            Done::Deleted(result) => {
                if let Err(error) = result {
                    // Parts that stay are only space; the next start does not find them again.
                    tracing::warn!(?error, "delete snapshot parts");
                }
            }
        }
    }

    /// Follows the newest catalog version.
    fn load_catalog(&mut self) {
        let catalog = self.catalog.current();
        if catalog.version > self.plan.catalog.version {
            self.plan = Arc::new(Plan::new(catalog));
            self.backfill_due = true;
            for slot in self.slots.values_mut() {
                slot.core.set_plan(self.plan.clone());
            }
        }
    }

    /// The states of its slots. Past its lease they may have another owner by now, who knows more.
    fn statuses(&self) -> Vec<SlotStatus> {
        let slots = self.config.slots;
        let is_owner = self.clock.lease().holds() && self.fail.borrow().is_none();
        let status = |slot: &Slot| SlotStatus { is_owned: is_owner, ..slot.status(slots) };
        let mut statuses: Vec<SlotStatus> = self.slots.values().map(status).collect();
        self.tell_time_left(&mut statuses);
        statuses
    }

    /// What a scrape sees of the worker.
    fn state(&self) -> WorkerState {
        let mut views: BTreeMap<u64, Micros> = BTreeMap::new();
        for (view, at) in self.slots.values().flat_map(|slot| slot.core.watermarks().views()) {
            if at > Micros::MIN {
                let least = views.entry(view).or_insert(at);
                *least = (*least).min(at);
            }
        }
        WorkerState {
            slots: self.statuses(),
            queued_bytes: self.queued_bytes,
            rebuilds: self.rebuilds,
            views,
        }
    }

    fn tick(&mut self) {
        self.last_tick = Instant::now();
        self.answer_closing();
        self.punctuate();
        self.learn_of_erasures();
        self.retain();
        self.save();
        self.collect_garbage();
    }

    /// The store cannot write any more, or the node is fenced: nothing more is acknowledged.
    fn give_up(&mut self, error: &StoreError) {
        self.stop(Stop::Store(error.clone()));
    }

    fn stop(&mut self, stop: Stop) {
        tracing::error!(error = ?stop.error(), "the join service stops");
        for (id, slot) in &mut self.slots {
            let told = stop.told(*id);
            slot.held.for_good();
            slot.queue.fail(&told);
            if let Some(flight) = slot.flight.take() {
                flight.fail(&told);
            }
            for (_, job) in slot.parked.drain(..) {
                let _ = job.sender.send(Err(told.clone()));
            }
            slot.fail_suspecting(&told);
            for (_, sender) in slot.closing.drain(..) {
                let _ = sender.send(Err(told.clone()));
            }
        }
        self.fail.send_replace(Some(stop));
    }
}

/// Offers the core to other threads a few times, until `arrived`.
fn yield_until(arrived: impl Fn() -> bool) {
    for _ in 0..YIELDS {
        if arrived() {
            return;
        }
        std::thread::yield_now();
    }
}

impl Slot {
    /// Its state, where the cluster has this many slots.
    fn status(&self, slots: u32) -> SlotStatus {
        let (position, known_at) = self.core.confirmed();
        let at_hand = self.core.at_hand();
        SlotStatus {
            slot: self.core.slot(),
            is_owned: true,
            is_known: true,
            position,
            known_at,
            marked: self.marked,
            dirty: self.core.dirty_len() as u64,
            resident: self.core.resident_len() as u64,
            resident_bytes: at_hand.resident_bytes as u64,
            at_hand_bytes: at_hand.fact_bytes as u64,
            queued: self.queue.facts(),
            unmarked_for: self.uncovered.front().map(|(_, judged)| judged.elapsed()),
            watermarks: self.core.watermarks().own(),
            latest: self.core.latest(),
            backfill: self.core.backfilling().map(|filled| BackfillStatus::of(filled, slots)),
            forgotten: Boundaries::clone(self.core.boundaries()),
        }
    }

    /// True when nothing is under way and nothing waits.
    fn is_quiet(&self) -> bool {
        self.flight.is_none() && self.queue.is_empty() && !self.held.any()
    }
}
