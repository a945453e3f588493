//! The handle of the join service and the tasks around its workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use millrace_catalog::{Catalog, Kind};
use millrace_client::port::{
    CatalogPort, HeadAnswer, HeadPort, HeadRequest, Holds, JoinError, JoinPort, PendingVerdicts,
    ProcessRequest, SlotGrant, SlotPort, SlotStatus, StorePort, SubscribeFrom, SubscribePort,
    Subscribed,
};
use millrace_client::wire;
use millrace_kernel::erase::Erasures;
use millrace_placement::{Slots, SlotsError, WorkerMap, WorkerMapError};
use millrace_proto::v1;
use millrace_store::{Applied, GRANT, Incarnation, NodeId, StoreError};
use millrace_telemetry::Span;
use millrace_types::entity::entity_hash;
use millrace_types::{Entity, KnownAt, Position, SlotId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::clock::{Ceiling, now_us};
use crate::config::JoinConfig;
use crate::elsewhere::Elsewhere;
use crate::message::{Batch, Message, ReadJob, Reply};
use crate::metrics::{self, Gauges, Instruments};
use crate::owners::{Me, Owners, Renewals};
use crate::reach::{Reach, follow_marks};
use crate::stop::Stop;
use crate::subscribe::Subscription;
use crate::subscribe::held::{Facts, HeldFacts};
use crate::worker::{Worker, WorkerStart};

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How often the list of erasures is read.
const ERASURES_EVERY: Duration = Duration::from_millis(500);
/// How long a batch waits for the catalog version that it was made under: others wait behind it.
const CATALOG_WITHIN: Duration = Duration::from_secs(1);
/// Messages a worker may have waiting; facts and bytes in them have bounds of their own.
const WORKER_QUEUE: usize = 4_096;

/// What a slot's followers wait on: its last confirmed position and known_at.
pub(crate) type Confirmed = watch::Receiver<(Position, KnownAt)>;
/// The other end of it.
pub(crate) type Confirming = watch::Sender<(Position, KnownAt)>;

/// The join service.
pub struct JoinService {
    workers: Vec<mpsc::Sender<Message>>,
    confirmed: Arc<[Confirming]>,
    store: Arc<dyn StorePort>,
    catalog: Arc<dyn CatalogPort>,
    config: JoinConfig,
    map: WorkerMap,
    failed: watch::Receiver<Option<Stop>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Beside other nodes.
    shares: Option<Shares>,
    /// Calls of other processes that hand facts over; they share the queues.
    callers: AtomicUsize,
    /// Calls there were.
    calls: AtomicU64,
    subscribed: HeldFacts,
    gauges: Gauges,
}

/// What there is where nodes share the slots.
struct Shares {
    /// Tells the others that this one goes down.
    leave: watch::Sender<bool>,
    /// What they own.
    elsewhere: Elsewhere,
}

/// A call that hands facts over, for as long as it lasts.
pub(crate) struct Handing {
    join: Arc<JoinService>,
    call: u64,
}

impl Handing {
    /// Its number, from 1.
    pub(crate) fn call(&self) -> u64 {
        self.call
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        self.join.callers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why the service does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store did not let the node own its slots, or their logs could not be read.
    #[error("take over the slots")]
    Store(#[from] StoreError),
    /// Another process fenced this one while it started.
    #[error("node {} was fenced by another process", .0.0)]
    Fenced(NodeId),
    /// The number of slots is not a power of two.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The slots cannot be spread over the workers.
    #[error(transparent)]
    Workers(#[from] WorkerMapError),
    /// A worker thread could not be started.
    #[error("start a worker thread")]
    Thread(#[from] std::io::Error),
    /// A worker stopped while it recovered its slots.
    #[error("a worker stopped while it recovered: {0}")]
    Recovery(String),
}

impl std::fmt::Debug for JoinService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinService").field("config", &self.config).finish_non_exhaustive()
    }
}

impl JoinService {
    /// Takes over every slot, follows their logs to the end, and serves: the only node there is. Beside
    /// others ([`JoinConfig::beside`]) it starts with none and serves what falls to it.
    ///
    /// # Errors
    /// [`StartError`]; nothing is served then.
    pub async fn start(
        config: JoinConfig,
        node: NodeId,
        incarnation: Incarnation,
        store: Arc<dyn StorePort>,
        catalog: Arc<dyn CatalogPort>,
    ) -> Result<Self, StartError> {
        let slots = Slots::try_new(config.slots)?;
        let map = WorkerMap::try_new(slots, config.workers.get())?;
        let (ceiling, renewals) = (Ceiling::default(), Renewals::default());
        renew(&*store, &node, incarnation, &ceiling).await?;
        let (fail, failed) = watch::channel(None);
        let fail = Arc::new(fail);
        let run = (node.clone(), incarnation);
        let lease = keep_lease(store.clone(), run, ceiling.clone(), renewals.clone(), fail.clone());
        let mut tasks = vec![tokio::spawn(lease)];
        let (told, erasures) = watch::channel(Arc::new(list_erasures(&*store).await?));
        tasks.push(tokio::spawn(follow_erasures(store.clone(), told)));
        let nothing = |_| watch::channel((Position::START, KnownAt::default())).0;
        let confirmed: Arc<[Confirming]> = (0..config.slots).map(nothing).collect();
        let instruments = Instruments::new();
        let mut workers = Vec::new();
        let mut ready = Vec::new();
        for index in 0..config.workers.get() {
            let (tx, rx) = mpsc::channel(WORKER_QUEUE);
            let own = |slot: &SlotId| config.beside.is_none() && map.worker_of(*slot) == index;
            let (ready_tx, ready_rx) = oneshot::channel();
            Worker::spawn(WorkerStart {
                index,
                slots: slots.iter().filter(own).collect(),
                confirmed: confirmed.clone(),
                config: config.clone(),
                node: node.clone(),
                incarnation,
                store: store.clone(),
                catalog: catalog.clone(),
                erasures: erasures.clone(),
                ceiling: ceiling.clone(),
                instruments: instruments.clone(),
                inbox: rx,
                own: tx.downgrade(),
                runtime: tokio::runtime::Handle::current(),
                fail: fail.clone(),
                ready: ready_tx,
            })?;
            workers.push(tx);
            ready.push(ready_rx);
        }
        all_ready(ready).await?;
        let mut shares = None;
        if let Some(beside) = config.beside.clone() {
            let reach = Reach { workers: workers.clone(), map, store: store.clone() };
            let me = Me { node, incarnation, beside };
            let lease = (renewals, ceiling);
            shares = Some(share(me, slots, reach, lease, &confirmed, &mut tasks).await);
        }
        let (facts, bytes) = (config.subscribe_facts, config.subscribe_bytes);
        let subscribed = HeldFacts::new(Facts { facts, bytes });
        let service = Self {
            workers,
            confirmed,
            store,
            catalog,
            config,
            map,
            failed,
            tasks,
            shares,
            callers: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            subscribed,
            gauges: Gauges::new(),
        };
        metrics::observe(&service);
        Ok(service)
    }

    /// A call begins to hand facts over, and has its share of the credits until it ends.
    pub(crate) fn hand_over(self: &Arc<Self>) -> Handing {
        self.callers.fetch_add(1, Ordering::Relaxed);
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        Handing { join: Arc::clone(self), call }
    }

    /// As a fault for another process, which is told who serves what is not served here.
    pub(crate) fn fault(&self, error: JoinError) -> v1::JoinFault {
        wire::join::fault(&match &self.shares {
            Some(shares) => shares.elsewhere.redirect(error),
            None => error,
        })
    }

    pub(crate) fn workers(&self) -> &[mpsc::Sender<Message>] {
        &self.workers
    }

    pub(crate) fn config(&self) -> &JoinConfig {
        &self.config
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Resolves when the service cannot go on: the store cannot write, or the node was fenced.
    pub async fn failed(&self) -> Stop {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(stop) => stop.clone().unwrap_or_else(|| Stop::Store(stopped())),
            Err(_) => Stop::Store(stopped()),
        }
    }

    /// Finishes what is in flight, saves heads and marks, and releases the slots.
    pub async fn drain(&self) {
        if let Some(shares) = &self.shares {
            shares.leave.send_replace(true);
        }
        let mut waits = Vec::new();
        for worker in &self.workers {
            let (tx, rx) = oneshot::channel();
            if worker.send(Message::Drain(tx)).await.is_ok() {
                waits.push(rx);
            }
        }
        for wait in waits {
            // A worker that is gone has nothing left to drain.
            let _ = wait.await;
        }
        for task in &self.tasks {
            task.abort();
        }
    }

    /// A call of an ingest process ended; one that did not take its leave is taken as lost after
    /// `idle_after`, unless it is heard of again.
    pub(crate) async fn gone(&self, call: u64, incarnation: Option<u64>) {
        for worker in &self.workers {
            // A worker that is gone takes no incarnation for anything.
            let _ = worker.send(Message::Gone { call, incarnation }).await;
        }
    }

    fn worker(&self, slot: SlotId) -> Result<&mpsc::Sender<Message>, JoinError> {
        if slot.0 >= self.config.slots {
            return Err(JoinError::NotServing { slot });
        }
        Ok(&self.workers[self.map.worker_of(slot)])
    }
}

/// Waits until all workers have recovered their slots.
async fn all_ready(
    workers: Vec<oneshot::Receiver<Result<(), StoreError>>>,
) -> Result<(), StartError> {
    for worker in workers {
        match worker.await {
            Ok(recovered) => recovered?,
            Err(_) => return Err(StartError::Recovery("no answer".to_owned())),
        }
    }
    Ok(())
}

/// Shares the slots with other nodes. What falls to it at once is served when this returns.
async fn share(
    me: Me,
    slots: Slots,
    reach: Reach,
    lease: (Renewals, Ceiling),
    confirmed: &Arc<[Confirming]>,
    tasks: &mut Vec<tokio::task::JoinHandle<()>>,
) -> Shares {
    let (leave, leaving) = watch::channel(false);
    let (learn, elsewhere) = Elsewhere::new(me.incarnation);
    let (owners, mut settled) = Owners::new(me, slots, reach.clone(), lease, leaving, learn);
    tasks.push(tokio::spawn(owners.run()));
    tasks.push(tokio::spawn(follow_marks(reach, confirmed.clone())));
    // It goes on for as long as the service does.
    let _ = settled.wait_for(|settled| *settled).await;
    Shares { leave, elsewhere }
}

/// Those that belong to a slot: it must never write a head of another slot's entity.
fn of_slot(catalog: &Catalog, slots: Slots, slot: SlotId, entities: Vec<Entity>) -> Vec<Entity> {
    let belongs = |entity: &Entity| {
        let kind = catalog.kind(entity.kind);
        let hash = |kind: &Kind| entity_hash(&kind.name, entity.key.as_bytes());
        kind.is_some_and(|kind| slots.slot_of(hash(kind)) == slot)
    };
    let (own, others): (Vec<_>, Vec<_>) = entities.into_iter().partition(belongs);
    if !others.is_empty() {
        tracing::error!(slot = slot.0, "{} suspects are of another slot", others.len());
    }
    own
}

pub(crate) fn stopped() -> StoreError {
    StoreError::Unavailable { operation: "join", reason: "the service stopped".to_owned() }
}

/// The list of erasures as it stands.
async fn list_erasures(store: &dyn StorePort) -> Result<Erasures, StoreError> {
    let mut all = Erasures::default();
    loop {
        let further = store.erasures_after(all.last()).await?;
        let longer = all.with(further.into_iter().map(|(n, e)| (n, e.entity)));
        if longer.last() == all.last() {
            return Ok(all);
        }
        all = longer;
    }
}

/// Reads what was added to the list of erasures, for as long as the service runs.
async fn follow_erasures(store: Arc<dyn StorePort>, told: watch::Sender<Arc<Erasures>>) {
    let mut tick = tokio::time::interval(ERASURES_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let known = told.borrow().clone();
        match store.erasures_after(known.last()).await {
            Ok(further) if further.is_empty() => {}
            Ok(further) => {
                let longer = known.with(further.into_iter().map(|(n, e)| (n, e.entity)));
                told.send_replace(Arc::new(longer));
            }
            Err(error) => tracing::warn!(?error, "list erasures"),
        }
    }
}

async fn renew(
    store: &dyn StorePort,
    node: &NodeId,
    incarnation: Incarnation,
    ceiling: &Ceiling,
) -> Result<(), StartError> {
    let until = KnownAt(now_us() + i64::try_from(GRANT.as_micros()).unwrap_or(i64::MAX));
    match store.renew_node(node, incarnation, until).await? {
        Applied::Yes => {
            ceiling.raise(until);
            Ok(())
        }
        Applied::No(_) => Err(StartError::Fenced(node.clone())),
    }
}

async fn keep_lease(
    store: Arc<dyn StorePort>,
    (node, incarnation): (NodeId, Incarnation),
    ceiling: Ceiling,
    renewals: Renewals,
    fail: Arc<watch::Sender<Option<Stop>>>,
) {
    let mut tick = tokio::time::interval(RENEW_EVERY);
    loop {
        tick.tick().await;
        match renew(&*store, &node, incarnation, &ceiling).await {
            Ok(()) => renewals.add(),
            Err(StartError::Fenced(_)) => {
                fail.send_replace(Some(Stop::Fenced(node.clone())));
                return;
            }
            // The ceiling stays; workers wait below it until a renewal succeeds.
            Err(error) => tracing::warn!(?error, "renew the lease"),
        }
    }
}

#[async_trait]
impl JoinPort for JoinService {
    fn credits(&self) -> SlotGrant {
        let JoinConfig { slots, queue_facts, queue_bytes, workers, .. } = &self.config;
        let callers = self.callers.load(Ordering::Relaxed).max(1) as u64;
        let bytes = *queue_bytes as u64 * workers.get() as u64 / u64::from(*slots).max(1);
        SlotGrant { facts: (queue_facts / callers).max(1), bytes: (bytes / callers).max(1) }
    }

    async fn process(
        &self,
        request: ProcessRequest,
        holds: &Holds,
    ) -> Result<PendingVerdicts, JoinError> {
        if request.catalog_version > self.catalog.current().version {
            // It was applied by another process a moment ago. Refused, the facts would come again without
            // the watermarks that they state, and what is LATE behind these would not be. Where it is not
            // found in time they are.
            let _ = timeout(CATALOG_WITHIN, self.catalog.catch_up()).await;
        }
        let (tx, rx) = oneshot::channel();
        let span = Span::child("join process", &request.trace);
        let reply = Reply::new(request.slots.len(), tx, holds.clone(), span);
        let watermarks: Arc<[_]> = request.watermarks.into();
        let states = request.slots.is_empty().then_some(request.routes);
        let mut by_worker: Vec<Vec<_>> = self.workers.iter().map(|_| Vec::new()).collect();
        for part in request.slots {
            if part.slot.0 >= self.config.slots {
                return Err(JoinError::NotServing { slot: part.slot });
            }
            by_worker[self.map.worker_of(part.slot)].push(part);
        }
        for (worker, slots) in self.workers.iter().zip(by_worker) {
            let batch = Batch {
                incarnation: request.incarnation,
                catalog_version: request.catalog_version,
                slots,
                watermarks: watermarks.clone(),
                order: request.order,
                states: states.clone(),
                departs: request.departs,
                replays_late: request.replays_late,
                reply: reply.clone(),
            };
            if worker.send(Message::Process(batch)).await.is_err() {
                return Err(JoinError::Store(stopped()));
            }
        }
        Ok(rx)
    }
}

#[async_trait]
impl HeadPort for JoinService {
    async fn read_heads(&self, request: HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        let worker = self.worker(request.slot)?;
        let (sender, rx) = oneshot::channel();
        let answers = Vec::with_capacity(request.entities.len());
        let job = ReadJob { request, answers, sender };
        worker.send(Message::Read(job)).await.map_err(|_| stopped())?;
        rx.await.map_err(|_| JoinError::Store(stopped()))?
    }
}

#[async_trait]
impl SlotPort for JoinService {
    async fn close_up_to(&self, slot: SlotId, known_at: KnownAt) -> Result<Position, JoinError> {
        let (tx, rx) = oneshot::channel();
        let worker = self.worker(slot)?;
        worker.send(Message::Close(slot, known_at, tx)).await.map_err(|_| stopped())?;
        rx.await.map_err(|_| JoinError::Store(stopped()))?
    }

    async fn suspect(&self, slot: SlotId, entities: Vec<Entity>) -> Result<Position, JoinError> {
        let (tx, rx) = oneshot::channel();
        let worker = self.worker(slot)?;
        let entities = of_slot(&self.catalog.current(), self.map.slots(), slot, entities);
        worker.send(Message::Suspect(slot, entities, tx)).await.map_err(|_| stopped())?;
        rx.await.map_err(|_| JoinError::Store(stopped()))?
    }

    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        let mut all = Vec::new();
        for worker in &self.workers {
            let (tx, rx) = oneshot::channel();
            worker.send(Message::Status(tx)).await.map_err(|_| stopped())?;
            all.extend(rx.await.map_err(|_| stopped())?);
        }
        all.sort_unstable_by_key(|s| s.slot);
        Ok(all)
    }
}

#[async_trait]
impl SubscribePort for JoinService {
    async fn subscribe(&self, view: String, from: SubscribeFrom) -> Result<Subscribed, JoinError> {
        let follow = || self.confirmed.iter().map(watch::Sender::subscribe).collect();
        let mut owed = vec![Position::START; self.confirmed.len()];
        if self.config.beside.is_some() {
            // Slots of other nodes are known by their marks, which follow what was acknowledged.
            let reach =
                Reach { workers: self.workers.clone(), map: self.map, store: self.store.clone() };
            reach.reach_cursor(&self.confirmed, &view, &from).await?;
            owed = reach.unmarked(&self.confirmed).await?;
        }
        Subscription::start(
            self.store.clone(),
            self.catalog.current(),
            (follow(), owed),
            &self.subscribed,
            view,
            from,
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{EntityKey, KeyPart, KindId};

    use super::*;

    #[test]
    fn suspects_of_other_slots_and_kinds_are_left_out() {
        let catalog = "entities: {user: int64}\nstreams: {}\nviews: {}\n";
        let catalog = Catalog::compile(catalog, None).expect("it is good");
        let slots = Slots::try_new(4).expect("a power of two");
        let of = |kind, n| Entity {
            kind: KindId(kind),
            key: EntityKey::try_new(&[KeyPart::Int64(n)]).expect("a short key"),
        };
        let users: Vec<Entity> = (0..100).map(|n| of(0, n)).collect();
        let own = |slot| of_slot(&catalog, slots, SlotId(slot), users.clone());
        let mut all: Vec<Entity> = (0..4).flat_map(own).collect();
        all.sort_unstable();
        assert_eq!(all, users, "each belongs to one slot");
        assert!((0..4).all(|slot| own(slot).len() < users.len()));
        assert_eq!(of_slot(&catalog, slots, SlotId(0), vec![of(7, 1)]), []);
    }
}
