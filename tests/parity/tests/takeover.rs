//! Entities that wait for a rebuild when their node dies are rebuilt by the node that takes their slot over,
//! which knows of them from the log alone.

use std::sync::Arc;
use std::time::Duration;

use millrace_client::port::{
    HeadAnswer, HeadPort as _, HeadRequest, Holds, JoinPort as _, ProcessRequest, SlotFacts,
    SlotPort as _, SlotStatus,
};
use millrace_e2e_tests::wait_until;
use millrace_join::{Beside, JoinConfig, JoinService};
use millrace_parity_tests::{OneCatalog, SOON};
use millrace_store::memory::{Call, Fault, FaultPlan, Landing, MemoryStore};
use millrace_store::{Incarnation, LogStore as _, NodeId, SnapshotStore as _};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::chunk::fingerprint;
use millrace_types::entity::entity_hash;
use millrace_types::{
    Chunk, Entity, EntityKey, Fact, FactBody, FeatureValue, KeyPart, KindId, KnownAt, Micros, Op,
    Position, Row, SlotId, StreamId, Value, Verdict,
};
use tokio::runtime::Runtime;
use tokio::time::{interval, timeout};

const SLOT: SlotId = SlotId(0);
const HELD: Fault = Fault::Delayed(Landing::OnDemand);
/// Users who wait since before the slot's mark, those who wait since after it, and the others.
const MARKED: [i64; 2] = [1, 2];
const UNMARKED: [i64; 1] = [3];
const WELL: [i64; 1] = [4];
const ALL: [i64; 4] = [1, 2, 3, 4];

/// A node on a runtime of its own, so that it can be killed.
struct Node {
    join: JoinService,
    store: Arc<MemoryStore>,
    runtime: Runtime,
}

impl Node {
    fn start(root: &MemoryStore, name: &str, run: u64, plan: FaultPlan) -> Self {
        let beside = Beside {
            endpoint: format!("http://127.0.0.1:{run}"),
            weight: 1,
            lease: Duration::from_secs(1),
        };
        // Heads and marks follow at once.
        let config = JoinConfig {
            slots: 1,
            mark_interval: Duration::ZERO,
            head_delay: Duration::ZERO,
            head_interval: Duration::ZERO,
            beside: Some(beside),
            ..JoinConfig::default()
        };
        let store = Arc::new(root.handle(plan));
        let runtime = Runtime::new().expect("a runtime");
        let (node, run) = (NodeId(name.to_owned()), Incarnation(run));
        let join = runtime.block_on(async {
            let writer = Arc::new(StoreWriter::spawn(store.clone(), Options::default()));
            let catalog = Arc::new(OneCatalog::counting());
            JoinService::start(config, node, run, writer, catalog).await
        });
        Self { join: join.expect("it serves"), store, runtime }
    }

    /// Ends it without a farewell. Nothing of it reaches the store after this.
    fn kill(self) {
        let Self { join, store, runtime } = self;
        drop(join);
        // With its tasks goes whoever could still send its worker something.
        drop(runtime);
        wait_until("the end of its worker", SOON, || {
            (Arc::strong_count(&store) == 1).then_some(())
        });
    }
}

fn user(id: i64) -> Entity {
    let key = EntityKey::try_new(&[KeyPart::Int64(id)]).expect("a short key");
    Entity { kind: KindId(0), key }
}

/// Hands over the nth click of each of these users, and gives the verdicts.
async fn click(join: &JoinService, users: &[i64], nth: i64) -> Vec<Verdict> {
    let (mut facts, mut fingerprints) = (Vec::new(), Vec::new());
    for id in users {
        let name = format!("{id}/{nth}");
        let at = Micros(nth);
        let row = [Value::String(name.as_str().into()), Value::Int64(*id), Value::Timestamp(at)];
        let body = FactBody {
            id: name.as_bytes().into(),
            revision: 0,
            at,
            seq: 0,
            op: Op::Assert,
            row: Row::from_values(&row),
            known_at: None,
        };
        let entity = user(*id);
        fingerprints.push(fingerprint(entity_hash("user", entity.key.as_bytes())));
        Fact { stream: StreamId(0), entity, body }.encode(&mut facts);
    }
    let count = users.len() as u32;
    let request = ProcessRequest {
        incarnation: 7,
        catalog_version: 1,
        slots: vec![SlotFacts { slot: SLOT, count, facts: facts.into(), fingerprints }],
        watermarks: Vec::new(),
        routes: Default::default(),
        order: Default::default(),
        departs: false,
        replays_late: false,
        trace: Default::default(),
    };
    let pending = join.process(request, &Holds::default()).await.expect("it is queued");
    let verdicts = pending.await.expect("it goes on").expect("it is confirmed");
    verdicts.iter().flat_map(|of| &of.judged).map(|judged| judged.verdict).collect()
}

/// Makes these users wait for a rebuild, since the position that it gives.
async fn suspect(join: &JoinService, users: &[i64]) -> Position {
    let users = users.iter().map(|id| user(*id)).collect();
    join.suspect(SLOT, users).await.expect("they are dirty")
}

/// Looks at the slot until it is so; while the node has no slot there is nothing to look at.
async fn slot_where(join: &JoinService, is_so: impl Fn(&SlotStatus) -> bool) -> SlotStatus {
    let mut looks = interval(Duration::from_millis(20));
    let found = async {
        loop {
            let slots = join.status().await.expect("it answers");
            if let Some(slot) = slots.into_iter().find(&is_so) {
                return slot;
            }
            looks.tick().await;
        }
    };
    timeout(SOON, found).await.expect("in time")
}

/// The clicks that are told of each user, and whether the user waits for a rebuild.
async fn read(join: &JoinService) -> Vec<(i64, bool)> {
    let request = HeadRequest {
        slot: SLOT,
        view: "activity".into(),
        features: [0].into(),
        catalog_version: 1,
        entities: ALL.map(user).to_vec(),
        at: Micros(1 << 50),
        known_at: KnownAt::MAX,
    };
    let told = |answer: &HeadAnswer| {
        let HeadAnswer::Answer(of) = answer else { panic!("{answer:?}") };
        let FeatureValue::Scalar(Value::Int64(clicks)) = &of.features[0].value else {
            panic!("a count: {of:?}")
        };
        (*clicks, of.rebuilding)
    };
    join.read_heads(request).await.expect("an answer").iter().map(told).collect()
}

/// Makes users wait, of whom more comes meanwhile. Their rebuild never gets to read the log.
async fn leave_waiting(root: &MemoryStore, node: &Node) {
    let join = &node.join;
    assert_eq!(click(join, &ALL, 1).await, [Verdict::Accepted; 4]);
    let held = || FaultPlan::none().on_first(1_000, Call::ReadLog, HELD);
    node.store.set_plan(held());
    let since = suspect(join, &MARKED).await;
    assert_eq!(click(join, &MARKED, 2).await, [Verdict::Queued; 2]);
    slot_where(join, |slot| slot.marked > since).await;

    node.store.set_plan(held().on_first(1_000, Call::PutMark, HELD));
    let unmarked_since = suspect(join, &UNMARKED).await;
    assert_eq!(click(join, &UNMARKED, 2).await, [Verdict::Queued]);
    assert_eq!(click(join, &WELL, 2).await, [Verdict::Accepted]);
    let slot = slot_where(join, |_| true).await;
    assert_eq!((slot.position.epoch, slot.dirty), (1, 3), "{slot:?}");
    let (_, mark) = root.load_mark(SLOT).await.expect("it is read").expect("there is one");
    assert_eq!(mark.oldest_waiting, Some(since));
    assert!(mark.position > since && mark.position < unmarked_since, "{mark:?}");
}

/// Whom the log of an epoch says to be rebuilt.
async fn rebuilt_in(root: &MemoryStore, epoch: u64) -> Vec<Entity> {
    let page = root.read_log(SLOT, Position::START, Position::END, 1 << 20).await;
    let page = page.expect("it is read");
    let of_epoch = page.chunks.iter().filter(|(position, _)| position.epoch == epoch);
    let rebuilt =
        of_epoch.flat_map(|(_, bytes)| Chunk::decode(bytes).expect("a chunk").header.rebuilt);
    let mut rebuilt: Vec<Entity> = rebuilt.map(|rebuilt| rebuilt.entity).collect();
    rebuilt.sort_unstable();
    rebuilt
}

/// Not async: a runtime cannot be dropped within another one.
#[test]
fn who_waits_for_a_rebuild_is_rebuilt_by_the_node_that_takes_over() {
    let root = MemoryStore::new();
    let dying = Node::start(&root, "join-0", 1, FaultPlan::none());
    dying.runtime.block_on(leave_waiting(&root, &dying));
    dying.kill();

    // What it rebuilds does not reach the store before it was looked at.
    let held = FaultPlan::none().on_first(1_000, Call::Put, HELD);
    let next = Node::start(&root, "join-1", 2, held);
    next.runtime.block_on(async {
        let taken = slot_where(&next.join, |_| true).await;
        assert_eq!((taken.position.epoch, taken.dirty), (2, 3), "{taken:?}");
        let waiting = [(1, true), (1, true), (1, true), (2, false)];
        assert_eq!(read(&next.join).await, waiting, "values stay as they were before, and say so");

        next.store.set_plan(FaultPlan::none());
        let healed = slot_where(&next.join, |slot| {
            // Each time: a put that had its plan from before may begin to wait after the first.
            root.land();
            slot.dirty == 0
        });
        let healed = healed.await;
        assert_eq!(read(&next.join).await, [(2, false); 4], "with all clicks in the log");
        assert_eq!(rebuilt_in(&root, 1).await, []);
        assert_eq!(rebuilt_in(&root, 2).await, [1, 2, 3].map(user));
        // The next owner has nothing to rebuild.
        slot_where(&next.join, |slot| {
            root.land();
            slot.marked >= healed.position
        })
        .await;
        let (_, mark) = root.load_mark(SLOT).await.expect("it is read").expect("there is one");
        assert_eq!(mark.oldest_waiting, None, "{mark:?}");
    });
}
