//! A database of three nodes, of which one is killed and brought back under writes: what was
//! acknowledged is there, and nothing is owned twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_store::{Applied, Incarnation, LogStore, NodeId, SlotEpoch, until_known};
use millrace_store_scylla::{CqlConfig, CqlStore, Inspection, OpenError, Replication};
use millrace_test_servers::{CassandraOptions, Ring};
use millrace_types::{KnownAt, SlotId};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::forged::{chunk, chunks, epoch};
use super::proxied::Repeats;
use super::{now, open};

const SLOT: SlotId = SlotId(1_000);
/// Appends before the kill, while the node is gone, and after it is back; at least.
const STEPS: u64 = 40;
/// A question without a quorum fails at once, or once the database gives up.
const QUORUM_LOST_WITHIN: Duration = Duration::from_secs(60);

/// A process: it appends to its own slot, and wants every slot that is free.
struct Claimant {
    store: CqlStore,
    node: NodeId,
    run: Incarnation,
}

impl Claimant {
    /// Opens the first epoch of a slot, and says whether it believes that the slot is its own.
    async fn claims(&self, slot: SlotId) -> bool {
        let mine = epoch(1, &self.node, self.run, 0);
        let insert = || self.store.insert_epoch(slot, mine.clone());
        loop {
            match until_known(&mut Repeats::new(), insert).await.unwrap() {
                Applied::Yes => return true,
                Applied::No(Some(there)) => return there == mine,
                Applied::No(None) => {} // settles nothing
            }
        }
    }

    async fn renews(&self, ceiling: u64) {
        let ceiling = KnownAt(ceiling.cast_signed());
        let renew = || self.store.renew_node(&self.node, self.run, ceiling);
        let renewed = until_known(&mut Repeats::new(), renew).await;
        assert_eq!(renewed, Ok(Applied::Yes));
    }
}

async fn claimants(config: &CqlConfig) -> Arc<[Claimant; 2]> {
    let store = async |number: u64| Claimant {
        store: open(config).await.unwrap(),
        node: NodeId(format!("join-{number}")),
        run: Incarnation(number),
    };
    Arc::new([store(0).await, store(1).await])
}

/// One append, both renewals, and a race for one slot; who believes to have it.
async fn step(both: &[Claimant; 2], number: u64) -> [bool; 2] {
    let slot = SlotId(number as u32);
    let append = async {
        let append = || both[0].store.append(vec![chunk(SLOT, number)]);
        until_known(&mut Repeats::new(), append).await.unwrap();
        let confirm = || both[0].store.confirm(&both[0].node, both[0].run);
        assert_eq!(until_known(&mut Repeats::new(), confirm).await, Ok(true));
    };
    let claims = async |one: &Claimant| {
        one.renews(number).await;
        one.claims(slot).await
    };
    let ((), first, second) = tokio::join!(append, claims(&both[0]), claims(&both[1]));
    [first, second]
}

#[tokio::test]
async fn one_of_three_nodes_dies_and_comes_back() {
    let ring = spawn_blocking(|| Ring::start(3, &CassandraOptions::default()));
    let mut ring = ring.await.unwrap().unwrap();
    let mut config = CqlConfig::new(ring.addresses(), "ring", "one", 64);
    config.create = Some(Replication { datacenter: "datacenter1".into(), factor: 3 });
    let both = claimants(&config).await;
    both[0].renews(0).await;
    both[1].renews(0).await;
    assert!(both[0].claims(SLOT).await);

    let mut believed = Vec::new();
    let mut number = 0;
    let mut steps = async |until: &AtomicBool| {
        let least = number + STEPS;
        while number < least || !until.load(Ordering::SeqCst) {
            number += 1;
            believed.push((number, step(&both, number).await));
        }
    };
    let done = AtomicBool::new(true);
    steps(&done).await;
    // In the middle of calls: it dies while the next steps are under way.
    let is_back = Arc::new(AtomicBool::new(false));
    let mut killer = JoinSet::new();
    let tell = Arc::clone(&is_back);
    killer.spawn_blocking(move || {
        ring.node(1).kill().unwrap();
        ring.node(1).start_again().unwrap();
        tell.store(true, Ordering::SeqCst);
        ring
    });
    steps(&is_back).await;
    let mut ring = killer.join_next().await.unwrap().unwrap();
    steps(&done).await;

    // Another one dies: what the one that came back has missed is known to the third.
    ring.node(2).kill().unwrap();
    let reader = &open(&CqlConfig { create: None, ..config.clone() }).await.unwrap();
    let expected: Vec<_> = (1..=number).map(|number| (number, chunk(SLOT, number).bytes)).collect();
    assert_eq!(chunks(reader, SLOT).await, expected);
    for (number, believed) in believed {
        let owned = |number: u64| reader.last_epoch(SlotId(number as u32));
        let row = until_known(&mut Repeats::new(), || owned(number)).await.unwrap();
        let owner = row.map(|row: SlotEpoch| row.incarnation.0);
        let expected = [owner == Some(0), owner == Some(1)];
        assert_eq!(believed, expected, "slot {number}");
        assert!(owner.is_some(), "slot {number}");
    }

    let look = Inspection::connect(&config).await.unwrap();
    let told = look.nodes(now).await.iter().filter(|node| node.told.is_some()).count();
    assert_eq!(told, 2, "of three, and that is a quorum");
    assert_eq!(look.whose().await.unwrap().cluster.as_deref(), Some("one"));
    ring.node(1).kill().unwrap();
    let without_quorum = timeout(QUORUM_LOST_WITHIN, async {
        loop {
            // Until the one that is left has noticed, it waits for the others in vain.
            if let Err(error) = look.whose().await {
                break error;
            }
        }
    });
    let error = without_quorum.await.unwrap();
    assert!(matches!(error, OpenError::Statement { .. }), "{error}");
}
