//! Several runs of two nodes fight over one slot. Every store call gives way, and a seed decides
//! who goes on, which calls go wrong and how late writes land. After any such history the promises
//! of the log hold; with one step of the protocol left out, some history breaks them.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_store::memory::{FaultPlan, MemoryStore, Rates, SplitMix64};
use millrace_store::{
    Append, Applied, Incarnation, LogPage, LogStore, Mark, NodeId, NodeLease, Part, Put, SlotEpoch,
    SnapshotStore, StoreError, TakeOverError, take_over, until_known,
};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, Position, SlotId};

use super::{Attempts, SLOT, at, chunk, node};

/// Which step is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    NoFence,
    NoConfirmation,
    FloorNotKept,
    IncarnationNotCompared,
    PagesInPlace,
    EndFromMemory,
    MarksAhead,
}

/// One node's connection, with the broken step, if it is one of the store calls.
struct Port {
    store: MemoryStore,
    broken: Broken,
}

#[async_trait]
impl LogStore for Port {
    async fn renew_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Result<Applied<NodeLease>, StoreError> {
        self.store.renew_node(node, incarnation, ceiling).await
    }

    async fn read_node(&self, node: &NodeId) -> Result<Option<NodeLease>, StoreError> {
        self.store.read_node(node).await
    }

    async fn fence_node(
        &self,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Applied<NodeLease>, StoreError> {
        if self.broken == Broken::NoFence {
            return Ok(Applied::Yes);
        }
        self.store.fence_node(node, incarnation).await
    }

    async fn confirm(&self, node: &NodeId, incarnation: Incarnation) -> Result<bool, StoreError> {
        if self.broken == Broken::IncarnationNotCompared {
            return Ok(self.store.read_node(node).await?.is_some_and(|lease| !lease.fenced));
        }
        self.store.confirm(node, incarnation).await
    }

    async fn last_epoch(&self, slot: SlotId) -> Result<Option<SlotEpoch>, StoreError> {
        self.store.last_epoch(slot).await
    }

    async fn epochs(&self, slot: SlotId) -> Result<Vec<SlotEpoch>, StoreError> {
        self.store.epochs(slot).await
    }

    async fn insert_epoch(
        &self,
        slot: SlotId,
        mut epoch: SlotEpoch,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        if self.broken == Broken::FloorNotKept
            && let Some(last) = self.store.last_epoch(slot).await?
            && let Some(lease) = self.store.read_node(&last.node).await?
        {
            epoch.floor = KnownAt(lease.ceiling.0 + 1); // the fenced owner's alone
        }
        self.store.insert_epoch(slot, epoch).await
    }

    async fn release_epoch(
        &self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        end: u64,
        last_ver: KnownAt,
    ) -> Result<Applied<SlotEpoch>, StoreError> {
        self.store.release_epoch(slot, epoch, incarnation, end, last_ver).await
    }

    async fn append(&self, chunks: Vec<Append>) -> Result<(), StoreError> {
        self.store.append(chunks).await
    }

    async fn last_chunk(
        &self,
        slot: SlotId,
        epoch: u64,
    ) -> Result<Option<(Position, Bytes)>, StoreError> {
        self.store.last_chunk(slot, epoch).await
    }

    async fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        self.store.read_log(slot, after, up_to, max_bytes).await
    }
}

#[async_trait]
impl SnapshotStore for Port {
    async fn put(&self, parts: Vec<Put>) -> Result<(), StoreError> {
        self.store.put(parts).await
    }

    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
        self.store.load(parts).await
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        self.store.put_mark(slot, ver, mark).await
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        self.store.load_mark(slot).await
    }
}

type Log = Vec<(Position, Bytes)>;

/// What the runs did, as an outside observer sees it.
#[derive(Default)]
struct World {
    clock: Cell<i64>,
    acknowledged: RefCell<Log>,
    /// What each owner read as the log before its epoch.
    views: RefCell<Vec<(u64, Log)>>,
    violations: RefCell<Vec<String>>,
}

impl World {
    fn blame(&self, what: String) {
        self.violations.borrow_mut().push(what);
    }
}

/// One run of a node: its clock may be ahead, and it may stop anywhere.
struct Run {
    world: Rc<World>,
    port: Port,
    node: NodeId,
    incarnation: Incarnation,
    random: SplitMix64,
    skew: i64,
    last: KnownAt,
    ceiling: KnownAt,
}

/// Why a run stops: it was fenced, lost the slot, or gave up on an outcome.
struct Stopped;

impl<E> From<E> for Stopped
where
    E: std::error::Error,
{
    fn from(_: E) -> Self {
        Self
    }
}

fn entity() -> Entity {
    Entity { kind: KindId(0), key: EntityKey::try_new(&[KeyPart::Int64(1)]).unwrap() }
}

impl Run {
    async fn renew(&mut self, ceiling: KnownAt) -> Result<(), Stopped> {
        let call = || self.port.renew_node(&self.node, self.incarnation, ceiling);
        match until_known(&mut Attempts(40), call).await? {
            Applied::Yes => self.ceiling = ceiling,
            Applied::No(_) => return Err(Stopped),
        }
        Ok(())
    }

    /// `max(now, last + 1, floor)`, never above the ceiling granted.
    async fn stamp(&mut self, floor: KnownAt) -> Result<KnownAt, Stopped> {
        let now = self.world.clock.get() + self.skew;
        self.world.clock.set(self.world.clock.get() + 1);
        let ver = KnownAt(now.max(self.last.0 + 1).max(floor.0));
        if ver > self.ceiling {
            self.renew(KnownAt(ver.0 + 30)).await?;
        }
        self.last = ver;
        Ok(ver)
    }

    async fn live(mut self) {
        let _ = self.own().await;
    }

    async fn own(&mut self) -> Result<(), Stopped> {
        self.renew(KnownAt(self.world.clock.get() + self.skew + 30)).await?;
        let row = self.acquire().await?;
        let mut content = self.read_head().await?;
        let mut confirmed = at(row.epoch, 0);
        for sequence in 1..=self.random.below(6) {
            let position = at(row.epoch, sequence);
            let known_at = self.stamp(row.floor).await?;
            if self.port.broken == Broken::MarksAhead {
                self.mark(known_at, position).await?;
            }
            let bytes = chunk(known_at, &format!("{}", self.incarnation.0));
            let append = Append { slot: SLOT, position, known_at, bytes: bytes.clone() };
            until_known(&mut Attempts(40), || self.port.append(vec![append.clone()])).await?;
            if self.port.broken != Broken::NoConfirmation {
                let confirm = || self.port.confirm(&self.node, self.incarnation);
                if !until_known(&mut Attempts(40), confirm).await? {
                    return Err(Stopped);
                }
            }
            self.world.acknowledged.borrow_mut().push((position, bytes));
            confirmed = position;
            if self.random.below(2) == 0 {
                content += 1;
                self.put_head(row.floor, content).await?;
                let ver = self.stamp(row.floor).await?;
                self.mark(ver, confirmed).await?;
            }
        }
        if self.random.below(2) == 0 {
            let (end, last) = (confirmed.sequence, self.last);
            let release = || self.port.release_epoch(SLOT, row.epoch, self.incarnation, end, last);
            until_known(&mut Attempts(40), release).await?;
        }
        Ok(())
    }

    async fn acquire(&mut self) -> Result<SlotEpoch, Stopped> {
        let remembered = match self.port.last_epoch(SLOT).await? {
            Some(last) => match self.port.last_chunk(SLOT, last.epoch).await? {
                Some((position, _)) => position,
                None => at(last.epoch, 0),
            },
            None => Position::START,
        };
        let retry = &mut Attempts(40);
        let row = match take_over(&self.port, SLOT, &self.node, self.incarnation, retry).await {
            Ok(row) => row,
            Err(error) => {
                if let TakeOverError::BehindMark { .. } = &error {
                    self.world.blame(format!("MARK: {error}"));
                }
                return Err(Stopped);
            }
        };
        let mut end = at(row.epoch - 1, row.previous_end);
        if self.port.broken == Broken::EndFromMemory && remembered.epoch == end.epoch {
            end = remembered;
        }
        let read = || self.port.read_log(SLOT, Position::START, end, usize::MAX);
        let page = match until_known(&mut Attempts(40), read).await {
            Err(error @ StoreError::Damaged { .. }) => {
                self.world.blame(format!("ACK: {error}"));
                return Err(Stopped);
            }
            page => page?,
        };
        self.world.views.borrow_mut().push((row.epoch, page.chunks));
        Ok(row)
    }

    /// The head names its page; the page must hold what the head says.
    async fn read_head(&mut self) -> Result<u8, Stopped> {
        let head = || self.port.load(vec![(entity(), Part::Head)]);
        let Some((_, head)) = until_known(&mut Attempts(40), head).await?.remove(0) else {
            return Ok(0);
        };
        let name = KnownAt(i64::from_le_bytes(head[1..9].try_into().unwrap()));
        let page = || self.port.load(vec![(entity(), Part::Page(name, 0))]);
        let page = until_known(&mut Attempts(40), page).await?.remove(0);
        // A reader that misses a page reads the head again; here no page is ever deleted.
        if page.as_ref().map(|(_, bytes)| bytes[0]) != Some(head[0]) {
            self.world.blame(format!("FENCE: head says {} but its page is {page:?}", head[0]));
        }
        Ok(head[0])
    }

    async fn put_head(&mut self, floor: KnownAt, content: u8) -> Result<(), Stopped> {
        let ver = self.stamp(floor).await?;
        let name = if self.port.broken == Broken::PagesInPlace { KnownAt(0) } else { ver };
        let mut head = vec![content];
        head.extend_from_slice(&name.0.to_le_bytes());
        let put = |part, bytes| Put { slot: SLOT, entity: entity(), part, ver, bytes };
        let parts =
            vec![put(Part::Page(name, 0), vec![content].into()), put(Part::Head, head.into())];
        Ok(until_known(&mut Attempts(40), || self.port.put(parts.clone())).await?)
    }

    async fn mark(&mut self, ver: KnownAt, position: Position) -> Result<(), Stopped> {
        let mark = Mark {
            position,
            closed: ver,
            watermarks: vec![],
            incarnations: vec![],
            views: vec![],
            latest: vec![],
            oldest_waiting: None,
        };
        Ok(until_known(&mut Attempts(40), || self.port.put_mark(SLOT, ver, mark.clone())).await?)
    }
}

/// Lets everything go on in the order of a seed, then takes the slot over a last time and checks.
fn history(seed: u64, broken: Broken) -> Vec<String> {
    let mut random = SplitMix64(seed);
    let root = MemoryStore::new();
    let world = Rc::new(World::default());
    let start = |number: u64, random: &mut SplitMix64, plan| {
        let run = Run {
            world: Rc::clone(&world),
            port: Port { store: root.handle(plan).interleaved(), broken },
            node: node(&format!("join-{}", number % 2)),
            incarnation: Incarnation(number),
            random: SplitMix64(random.next_u64()),
            skew: [0, 60, 400][random.below(3) as usize],
            last: KnownAt(0),
            ceiling: KnownAt(0),
        };
        Box::pin(run.live())
    };
    let mut runs: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    let mut number = 0;
    while number < 5 {
        if runs.is_empty() || random.below(12) == 0 {
            number += 1;
            let plan = FaultPlan::seeded(random.next_u64(), Rates::rough());
            runs.push(start(number, &mut random, plan));
        }
        go_on(&mut runs, &mut random);
    }
    // The last owner meets no faults, but zombies that go on around it.
    runs.push(start(6, &mut random, FaultPlan::none()));
    while !runs.is_empty() {
        go_on(&mut runs, &mut random);
    }
    root.land();
    check(&world, &root);
    world.violations.take()
}

/// One of the runs goes on for a few calls; the others are paused meanwhile.
fn go_on(runs: &mut Vec<Pin<Box<dyn Future<Output = ()>>>>, random: &mut SplitMix64) {
    let index = random.below(runs.len() as u64) as usize;
    for _ in 0..=random.below(15) {
        let mut context = Context::from_waker(Waker::noop());
        if runs[index].as_mut().poll(&mut context).is_ready() {
            drop(runs.swap_remove(index));
            return;
        }
    }
}

/// What stands in the end, read by somebody who takes the slot over once more, is what every owner
/// saw and what was acknowledged; and nothing that lands late replaces what that owner writes.
fn check(world: &Rc<World>, root: &MemoryStore) {
    let mut last = Run {
        world: Rc::clone(world),
        port: Port { store: root.handle(FaultPlan::none()), broken: Broken::Nothing },
        node: node("join-9"),
        incarnation: Incarnation(9),
        random: SplitMix64(0),
        skew: 0,
        last: KnownAt(0),
        ceiling: KnownAt(0),
    };
    let finished = Box::pin(async {
        last.renew(KnownAt(1)).await?;
        last.acquire().await?;
        last.read_head().await
    })
    .as_mut()
    .poll(&mut Context::from_waker(Waker::noop()))
    .is_ready();
    assert!(finished, "without interleaving no call waits");
    let views = world.views.borrow();
    let Some((_, log)) = views.last() else { return };
    for (epoch, view) in views.iter() {
        let before: Vec<_> = log.iter().filter(|(p, _)| p.epoch < *epoch).cloned().collect();
        if *view != before {
            world.blame(format!("CONVERGE: the owner of epoch {epoch} replayed another log"));
        }
    }
    for chunk in world.acknowledged.borrow().iter() {
        if !log.contains(chunk) {
            world.blame(format!("ACK: chunk {} was acknowledged and is lost", chunk.0));
        }
    }
}

#[test]
fn every_history_keeps_what_was_promised() {
    for seed in 0..1_500 {
        assert_eq!(history(seed, Broken::Nothing), Vec::<String>::new(), "seed {seed}");
    }
}

/// The last owner's head, written before everything late lands, still stands afterwards.
fn zombie_wins(seed: u64, broken: Broken) -> bool {
    let mut random = SplitMix64(seed);
    let root = MemoryStore::new();
    let world = Rc::new(World::default());
    let rates = Rates { late: 300, late_calls_max: 1_000_000, ..Rates::default() };
    let run = |number: u64, skew, plan| Run {
        world: Rc::clone(&world),
        port: Port { store: root.handle(plan), broken },
        node: node(&format!("join-{number}")),
        incarnation: Incarnation(number),
        random: SplitMix64(seed ^ number.rotate_right(8)),
        skew,
        last: KnownAt(0),
        ceiling: KnownAt(0),
    };
    let mut context = Context::from_waker(Waker::noop());
    for number in 1..=3 {
        let plan = FaultPlan::seeded(random.next_u64(), rates);
        let skew = [0, 400][random.below(2) as usize];
        let mut life = Box::pin(run(number, skew, plan).live());
        assert!(life.as_mut().poll(&mut context).is_ready());
    }
    let mut last = run(4, 0, FaultPlan::none());
    let wrote = Box::pin(async {
        last.renew(KnownAt(1)).await?;
        let row = last.acquire().await?;
        last.put_head(row.floor, 250).await
    })
    .as_mut()
    .poll(&mut context)
    .is_ready();
    assert!(wrote);
    root.land();
    let mut head = Box::pin(root.load(vec![(entity(), Part::Head)]));
    let Poll::Ready(Ok(parts)) = head.as_mut().poll(&mut context) else {
        panic!("without interleaving and faults no call waits or fails");
    };
    parts[0].as_ref().is_some_and(|(_, bytes)| bytes[0] != 250)
}

#[test]
fn a_zombies_late_head_always_loses() {
    for seed in 0..1_500 {
        assert!(!zombie_wins(seed, Broken::Nothing), "seed {seed}");
    }
    assert!((0..1_500).any(|seed| zombie_wins(seed, Broken::FloorNotKept)));
}

/// Negative controls: each step is there for a reason.
#[test]
fn leaving_a_step_out_is_found_out() {
    for broken in [
        Broken::NoFence,
        Broken::NoConfirmation,
        Broken::IncarnationNotCompared,
        Broken::PagesInPlace,
        Broken::EndFromMemory,
        Broken::MarksAhead,
    ] {
        let found = (0..3_000).find(|seed| !history(*seed, broken).is_empty());
        assert!(found.is_some(), "{broken:?} went unnoticed");
    }
}
