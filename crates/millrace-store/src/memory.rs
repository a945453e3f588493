//! The in-memory adapter: every port, nothing durable, and faults on demand.
//!
//! For tests: tables grow with what is written and nothing bounds them. A [`MemoryStore`] is one
//! node's connection; [`MemoryStore::handle`] gives another one to the same tables with a
//! [`FaultPlan`] of its own. No clock and no sleep is involved: a write that is held back lands
//! after a number of further calls, or when the test says so.

mod erasures;
mod fault;
mod tables;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::sync::watch;

pub use self::fault::{Call, Fault, FaultPlan, Landing, Rates, SplitMix64};
use self::tables::Tables;
use crate::audit::{AuditSample, AuditStore, first_after};
use crate::port::{
    Append, Applied, CatalogStore, Incarnation, LogPage, LogStore, Mark, Member, MemberStore,
    NodeId, NodeLease, Part, ProducerWindows, Put, Seen, SlotEpoch, SnapshotStore, StoreError,
};

/// One node's connection to an in-memory store.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    plan: Mutex<FaultPlan>,
    /// Set by [`Fault::Failed`]: nothing is written through this handle any more.
    failed: Mutex<bool>,
    interleaved: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    late: HashMap<u64, LateWrite>,
    late_written: u64,
}

struct LateWrite {
    landing: Due,
    apply: Box<dyn FnOnce(&mut Tables) + Send>,
}

impl std::fmt::Debug for LateWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateWrite").field("landing", &self.landing).finish_non_exhaustive()
    }
}

/// Calls made so far, and how often the test let everything land.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    calls: u64,
    demands: u64,
}

/// The progress at which something held back is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    calls: u64,
    demands: u64,
}

impl Due {
    fn after(landing: Landing, now: Progress) -> Self {
        let calls = match landing {
            Landing::AfterCalls(n) => now.calls.saturating_add(n),
            Landing::OnDemand => u64::MAX,
        };
        Self { calls, demands: now.demands + 1 }
    }

    fn is_reached(self, now: Progress) -> bool {
        now.calls >= self.calls || now.demands >= self.demands
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every step on the tables is complete or not begun, also where a test panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// A new, empty store without faults.
    #[must_use]
    pub fn new() -> Self {
        let (progress, _) = watch::channel(Progress::default());
        let shared = Arc::new(Shared { state: Mutex::default(), progress });
        Self { shared, plan: Mutex::default(), failed: Mutex::new(false), interleaved: false }
    }

    /// Another connection to the same store, with faults of its own.
    #[must_use]
    pub fn handle(&self, plan: FaultPlan) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            plan: Mutex::new(plan),
            failed: Mutex::new(false),
            interleaved: self.interleaved,
        }
    }

    /// Lets every call of this handle give way once before it does anything, so that a test which
    /// polls several nodes by turns decides the order of their calls.
    #[must_use]
    pub fn interleaved(mut self) -> Self {
        self.interleaved = true;
        self
    }

    /// Replaces the plan; counts start anew.
    pub fn set_plan(&self, plan: FaultPlan) {
        *lock(&self.plan) = plan;
    }

    /// How many calls of one kind this handle made under its plan.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        lock(&self.plan).count(call)
    }

    /// Applies every write held back, by whichever handle, and says how many landed late. Delayed
    /// callers go on.
    pub fn land(&self) -> usize {
        let held = lock(&self.shared.state).late.len();
        self.advance(|progress| progress.demands += 1);
        held
    }

    /// How many writes were reported unknown and are still to land.
    #[must_use]
    pub fn late_writes(&self) -> usize {
        lock(&self.shared.state).late.len()
    }

    fn advance(&self, step: impl FnOnce(&mut Progress)) {
        self.shared.progress.send_modify(step);
        let now = *self.shared.progress.borrow();
        let mut state = lock(&self.shared.state);
        let mut due: Vec<u64> = state
            .late
            .iter()
            .filter(|(_, write)| write.landing.is_reached(now))
            .map(|(number, _)| *number)
            .collect();
        due.sort_unstable();
        for number in due {
            if let Some(write) = state.late.remove(&number) {
                (write.apply)(&mut state.tables);
            }
        }
    }

    async fn begin(&self, call: Call) -> Option<Fault> {
        if self.interleaved {
            let mut yielded = false;
            poll_fn(|context| {
                if yielded {
                    return Poll::Ready(());
                }
                yielded = true;
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        self.advance(|progress| progress.calls += 1);
        lock(&self.plan).next(call)
    }

    async fn wait(&self, landing: Landing) {
        let mut progress = self.shared.progress.subscribe();
        let due = Due::after(landing, *progress.borrow());
        // The sender lives in `self.shared`, so the wait ends by being reached.
        let _ = progress.wait_for(|now| due.is_reached(*now)).await;
    }

    async fn read<T>(
        &self,
        call: Call,
        read: impl FnOnce(&Tables) -> T + Send,
    ) -> Result<T, StoreError> {
        let operation = name(call);
        let fault = self.begin(call).await;
        if let Some(Fault::Delayed(landing)) = fault {
            self.wait(landing).await;
        }
        match fault {
            None | Some(Fault::Delayed(_)) => Ok(read(&lock(&self.shared.state).tables)),
            Some(Fault::Failed) => Err(StoreError::Failed { reason: "injected".into() }),
            Some(
                Fault::Lost
                | Fault::AppliedUnknown
                | Fault::Torn
                | Fault::Late(_)
                | Fault::Unavailable,
            ) => Err(StoreError::Unavailable { operation, reason: "injected".into() }),
        }
    }

    async fn write<T>(
        &self,
        call: Call,
        apply: impl FnOnce(&mut Tables) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_torn(call, apply, |_| ()).await
    }

    /// `half` applies half of the write.
    async fn write_torn<T>(
        &self,
        call: Call,
        apply: impl FnOnce(&mut Tables) -> T + Send + 'static,
        half: impl FnOnce(&mut Tables) + Send,
    ) -> Result<T, StoreError> {
        let operation = name(call);
        let fault = self.begin(call).await;
        if *lock(&self.failed) {
            return Err(disk_full());
        }
        let unknown = || StoreError::Unknown { operation, reason: "injected".into() };
        let state = || lock(&self.shared.state);
        match fault {
            None => Ok(apply(&mut state().tables)),
            Some(Fault::Lost) => Err(unknown()),
            Some(Fault::AppliedUnknown) => {
                apply(&mut state().tables);
                Err(unknown())
            }
            Some(Fault::Torn) => {
                half(&mut state().tables);
                Err(unknown())
            }
            Some(Fault::Late(landing)) => {
                let landing = Due::after(landing, *self.shared.progress.borrow());
                let apply = Box::new(move |tables: &mut Tables| drop(apply(tables)));
                let mut state = state();
                let number = state.late_written;
                state.late_written += 1;
                state.late.insert(number, LateWrite { landing, apply });
                Err(unknown())
            }
            Some(Fault::Delayed(landing)) => {
                self.wait(landing).await;
                Ok(apply(&mut state().tables))
            }
            Some(Fault::Unavailable) => {
                Err(StoreError::Unavailable { operation, reason: "injected".into() })
            }
            Some(Fault::Failed) => {
                *lock(&self.failed) = true;
                Err(disk_full())
            }
        }
    }
}

fn disk_full() -> StoreError {
    StoreError::Failed { reason: "No space left on device (injected)".into() }
}

fn name(call: Call) -> &'static str {
    match call {
        Call::RenewNode => "renew node",
        Call::ReadNode => "read node",
        Call::FenceNode => "fence node",
        Call::Confirm => "confirm",
        Call::LastEpoch => "last epoch",
        Call::Epochs => "epochs",
        Call::InsertEpoch => "insert epoch",
        Call::ReleaseEpoch => "release epoch",
        Call::Append => "append",
        Call::LastChunk => "last chunk",
        Call::ReadLog => "read log",
        Call::Put => "put",
        Call::Load => "load",
        Call::PutMark => "put mark",
        Call::LoadMark => "load mark",
        Call::PutMember => "put member",
        Call::Members => "members",
        Call::PutSamples => "put samples",
        Call::Samples => "samples",
        Call::ForgetSamples => "forget samples",
        Call::PutCatalog => "put catalog",
        Call::Catalogs => "catalogs",
        Call::PutErasure => "put erasure",
        Call::Erasures => "erasures",
        Call::PutReceipt => "put receipt",
        Call::Receipts => "receipts",
        Call::Rewrite => "rewrite",
        Call::Parts => "parts",
        Call::Compact => "compact",
        Call::Seen => "seen",
        Call::MarkWindow => "mark window",
    }
}

#[async_trait]
impl LogStore for MemoryStore {
    async fn ready(&self) -> Result<(), StoreError> {
        if *lock(&self.failed) { Err(disk_full()) } else { Ok(()) }
    }

    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        let node = node.clone();
        self.write(Call::RenewNode, move |t| t.renew_node(&node, incarnation, ceiling)).await
    }

    async fn read_node(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        self.read(Call::ReadNode, |t| t.read_node(node)).await
    }

    async fn fence_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError> {
        let node = node.clone();
        self.write(Call::FenceNode, move |t| t.fence_node(node, incarnation)).await
    }

    async fn confirm(&self, node: &NodeId, incarnation: Incarnation) -> Result<bool, StoreError> {
        self.read(Call::Confirm, |t| t.confirm(node.clone(), incarnation)).await
    }

    async fn last_epoch(&self, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError> {
        self.read(Call::LastEpoch, |t| t.last_epoch(slot).cloned()).await
    }

    async fn epochs(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError> {
        self.read(Call::Epochs, |t| t.epochs(slot)).await
    }

    async fn insert_epoch(
        &self,
        slot: SlotId,
        epoch: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.write(Call::InsertEpoch, move |t| t.insert_epoch(slot, epoch)).await
    }

    async fn release_epoch(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.write(Call::ReleaseEpoch, move |t| {
            t.release_epoch(slot, epoch, incarnation, (end, last_ver))
        })
        .await
    }

    async fn append(&self, chunks: Vec<Append>) -> Result<(), StoreError> {
        let half = chunks[..chunks.len() / 2].to_vec();
        let apply = |chunks: Vec<Append>| {
            move |t: &mut Tables| chunks.into_iter().for_each(|chunk| t.append(chunk))
        };
        self.write_torn(Call::Append, apply(chunks), apply(half)).await
    }

    async fn last_chunk(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<(Position, Bytes)>, StoreError> {
        self.read(Call::LastChunk, |t| t.last_chunk(slot, epoch)).await
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        self.read(Call::ReadLog, |t| t.read_log(slot, after, up_to, max_bytes)).await?
    }
}

#[async_trait]
impl SnapshotStore for MemoryStore {
    async fn put(&self, parts: Vec<Put>) -> Result<(), StoreError> {
        let half = parts[..parts.len() / 2].to_vec();
        let apply =
            |parts: Vec<Put>| move |t: &mut Tables| parts.into_iter().for_each(|put| t.put(put));
        self.write_torn(Call::Put, apply(parts), apply(half)).await
    }

    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
        self.read(Call::Load, |t| parts.iter().map(|part| t.load(part)).collect()).await
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        self.write(Call::PutMark, move |t| t.put_mark(slot, ver, mark)).await
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        self.read(Call::LoadMark, |t| t.load_mark(slot)).await
    }
}

#[async_trait]
impl MemberStore for MemoryStore {
    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError> {
        self.write(Call::PutMember, move |t| t.put_member(ver, member)).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.read(Call::Members, |t| t.members()).await
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn put_samples(
        &self,
        node: &NodeId,
        samples: Vec<AuditSample>,
    ) -> Result<(), StoreError> {
        let node = node.clone();
        self.write(Call::PutSamples, move |t| t.put_samples(&node, samples)).await
    }

    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError> {
        self.read(Call::Samples, |t| first_after(t.samples(node), after, max)).await
    }

    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError> {
        self.write(Call::ForgetSamples, move |t| t.forget_samples(up_to)).await
    }
}

#[async_trait]
impl CatalogStore for MemoryStore {
    async fn put_catalog(&self, version: u32, text: String) -> Result<Applied<String>, StoreError> {
        self.write(Call::PutCatalog, move |t| match t.catalogs.get(&version) {
            Some(standing) => Applied::No(Some(standing.clone())),
            None => {
                t.catalogs.insert(version, text);
                Applied::Yes
            }
        })
        .await
    }

    async fn catalogs(&self) -> Result<Vec<(u32, String)>, StoreError> {
        let all = |t: &Tables| t.catalogs.range(1..).map(|(v, text)| (*v, text.clone())).collect();
        self.read(Call::Catalogs, all).await
    }
}

#[async_trait]
impl ProducerWindows for MemoryStore {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        self.read(Call::Seen, |t| match t.windows.get(producer) {
            Some(window) => window.seen_range(first, next),
            None => (first..next).map(|_| Seen::No).collect(),
        })
        .await
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        let producer = producer.to_owned();
        self.write(Call::MarkWindow, move |t| {
            t.windows.entry(producer).or_default().mark(first, next);
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn empty() -> (Arc<MemoryStore>, ()) {
        (Arc::new(MemoryStore::new()), ())
    }

    mod conformance {
        use super::empty;
        crate::conformance_tests!(empty);
    }

    async fn catalogs(store: &MemoryStore) -> usize {
        store.catalogs().await.unwrap().len()
    }

    /// Each fault of a write: what is reported, whether it is applied at once, and in the end.
    #[tokio::test]
    async fn faults_do_what_they_say() {
        let late = Fault::Late(Landing::OnDemand);
        for (fault, unknown, at_once, in_the_end) in [
            (Fault::Lost, true, 0, 0),
            (Fault::AppliedUnknown, true, 1, 1),
            (late, true, 0, 1),
            (Fault::Unavailable, false, 0, 0),
            (Fault::Failed, false, 0, 0),
        ] {
            let root = MemoryStore::new();
            let store = root.handle(FaultPlan::none().on(Call::PutCatalog, 0, fault));
            let error = store.put_catalog(1, "a".into()).await.unwrap_err();
            assert_eq!(matches!(error, StoreError::Unknown { .. }), unknown, "{fault:?}");
            assert_eq!(catalogs(&root).await, at_once, "{fault:?}");
            assert_eq!(root.late_writes(), usize::from(fault == late));
            root.land();
            assert_eq!(catalogs(&root).await, in_the_end, "{fault:?}");
            // A full disk stays full, for this handle alone.
            let again = store.put_catalog(2, "b".into()).await;
            assert_eq!(again.is_err(), fault == Fault::Failed, "{fault:?}");
            assert_eq!(store.ready().await.err(), again.err(), "{fault:?}");
            assert_eq!(root.put_catalog(3, "c".into()).await, Ok(Applied::Yes));
        }
    }

    /// A late write waits for further calls of any handle; a conditional one is decided then.
    #[tokio::test]
    async fn late_writes_land_among_later_calls() {
        let root = MemoryStore::new();
        let plan = FaultPlan::none().on(Call::PutCatalog, 0, Fault::Late(Landing::AfterCalls(2)));
        let store = root.handle(plan);
        store.put_catalog(1, "late".into()).await.unwrap_err();
        assert_eq!(catalogs(&root).await, 0);
        assert_eq!(root.put_catalog(1, "first".into()).await, Ok(Applied::No(Some("late".into()))));
        let plan = FaultPlan::none().on(Call::PutCatalog, 0, Fault::Late(Landing::AfterCalls(3)));
        store.set_plan(plan);
        store.put_catalog(2, "late".into()).await.unwrap_err();
        assert_eq!(root.put_catalog(2, "first".into()).await, Ok(Applied::Yes));
        assert_eq!(catalogs(&root).await, 2);
        root.land();
        assert_eq!(root.catalogs().await.unwrap()[1].1, "first");
    }

    /// Of a torn append the first half is there.
    #[tokio::test]
    async fn a_torn_append_is_half_applied() {
        use crate::conformance::{append, at};
        let root = MemoryStore::new();
        let store = root.handle(FaultPlan::none().on(Call::Append, 0, Fault::Torn));
        let chunks = (1..=4).map(|sequence| append(5, at(1, sequence))).collect();
        store.append(chunks).await.unwrap_err();
        let last = root.last_chunk(SlotId(5), 1).await.unwrap().unwrap();
        assert_eq!(last.0, at(1, 2));
    }

    /// The same seed gives the same faults; reads are at most unavailable.
    #[test]
    fn seeded_faults_repeat() {
        let draw = |seed| {
            let mut plan = FaultPlan::seeded(seed, Rates::rough());
            (0..500).map(|_| plan.next(Call::Append)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let kinds: Vec<_> = draw(1).into_iter().flatten().collect();
        assert!((50..200).contains(&kinds.len()), "{}", kinds.len());
        let mut plan = FaultPlan::seeded(1, Rates::rough());
        let reads = (0..500).filter_map(|_| plan.next(Call::ReadLog));
        assert!(reads.into_iter().all(|fault| fault == Fault::Unavailable));
    }
}
