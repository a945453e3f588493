//! A join node that comes: how many slots change hands, and how long nobody owns one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millrace_client::port::StorePort as _;
use millrace_client::remote::{RemoteStore, owners_of};
use millrace_store::{Member, NodeId};
use millrace_types::SlotId;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::super::{BenchError, say};
use super::services::Services;
use crate::cli::ServiceName;

/// How often the members are looked at: as finely are gaps told.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long slots may take to cost the same again, after a load.
const EVEN_WITHIN: Duration = Duration::from_secs(120);
/// All slots have moved when none did for so long.
const STILL_FOR: Duration = Duration::from_secs(3);
const MOVED_WITHIN: Duration = Duration::from_secs(60);

/// What a join node's coming did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Moved {
    pub(super) join_nodes: usize,
    pub(super) slots: usize,
    /// Slots that have another owner than before.
    pub(super) moved_slots: usize,
    /// 1.25 of what each node has if all have the same.
    pub(super) moved_slots_bound: f64,
    /// Of the slots that moved, the longest and the mean time without an owner, as the other services
    /// see it.
    pub(super) unowned_ms_max: f64,
    pub(super) unowned_ms_mean: f64,
}

/// Adds a join node once slots cost the same, with nothing published.
pub(super) async fn run(services: &mut Services) -> Result<Moved, BenchError> {
    say("waiting until all slots cost the same");
    let store = services.store()?;
    even(&store).await?;
    let (done, is_done) = oneshot::channel();
    let watching = tokio::spawn(watch(store, services.number(ServiceName::Join) + 1, is_done));
    services.add(ServiceName::Join).await?;
    // One that ended by an error waits for nothing.
    let _ = done.send(());
    let seen = watching.await.map_err(|e| BenchError::Task(e.to_string()))??;
    Ok(seen.moved(services.number(ServiceName::Join)))
}

/// Waits until every slot costs as much as any other: how many move is bounded where they do.
async fn even(store: &RemoteStore) -> Result<(), BenchError> {
    let started = Instant::now();
    while started.elapsed() < EVEN_WITHIN {
        let members = members(store).await?;
        let mut loads = members.iter().flat_map(|m| &m.slots).map(|slot| slot.load.max(1));
        let first = loads.next().unwrap_or(1);
        if loads.all(|load| load == first) {
            return Ok(());
        }
        // Nodes tell of themselves in the store, where only looking finds it.
        sleep(10 * LOOK_EVERY).await;
    }
    Err(BenchError::NotSettled(EVEN_WITHIN))
}

/// Waits until each of so many nodes has slots, and none is on its way.
pub(super) async fn shared(store: &RemoteStore, nodes: usize) -> Result<(), BenchError> {
    let started = Instant::now();
    while started.elapsed() < MOVED_WITHIN {
        let members = members(store).await?;
        let has_its_share =
            |m: &&Member| !m.slots.is_empty() && m.slots.iter().all(|s| s.offered_to.is_none());
        if members.iter().filter(has_its_share).count() == nodes {
            return Ok(());
        }
        // Nodes tell of themselves in the store, where only looking finds it.
        sleep(10 * LOOK_EVERY).await;
    }
    Err(BenchError::NotSettled(MOVED_WITHIN))
}

async fn members(store: &RemoteStore) -> Result<Vec<Member>, BenchError> {
    store.members().await.map_err(|e| BenchError::Store(e.to_string()))
}

/// Watches from before the node comes until it is there and slots stay where they are.
async fn watch(
    store: RemoteStore,
    nodes: usize,
    mut added: oneshot::Receiver<()>,
) -> Result<Watch, BenchError> {
    let mut watch = Watch::new(&members(&store).await?);
    let (started, mut is_added) = (Instant::now(), false);
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while started.elapsed() < MOVED_WITHIN {
        tick.tick().await;
        let members = members(&store).await?;
        watch.saw(Instant::now(), &members);
        is_added = is_added || added.try_recv() != Err(oneshot::error::TryRecvError::Empty);
        if is_added && watch.owners() == nodes && watch.still_for() > STILL_FOR {
            return Ok(watch);
        }
    }
    Err(BenchError::NotSettled(MOVED_WITHIN))
}

/// Who owned each slot, and who does.
struct Watch {
    first: BTreeMap<SlotId, NodeId>,
    now: BTreeMap<SlotId, NodeId>,
    changed: Instant,
    /// Since when slots have no owner.
    unowned: BTreeMap<SlotId, Instant>,
    /// The longest time each had none.
    gaps: BTreeMap<SlotId, Duration>,
}

fn owners(members: &[Member]) -> BTreeMap<SlotId, NodeId> {
    let owners = owners_of(members).into_iter();
    owners.map(|(slot, member)| (slot, members[member].node.clone())).collect()
}

impl Watch {
    fn new(members: &[Member]) -> Self {
        let now = owners(members);
        Self {
            first: now.clone(),
            now,
            changed: Instant::now(),
            unowned: BTreeMap::new(),
            gaps: BTreeMap::new(),
        }
    }

    /// Takes in what the members tell at an instant.
    fn saw(&mut self, at: Instant, members: &[Member]) {
        let now = owners(members);
        if now != self.now {
            self.changed = at;
        }
        for slot in self.first.keys() {
            if !now.contains_key(slot) {
                self.unowned.entry(*slot).or_insert(at);
            } else if let Some(since) = self.unowned.remove(slot) {
                let gap = self.gaps.entry(*slot).or_default();
                *gap = (*gap).max(at.duration_since(since));
            }
        }
        self.now = now;
    }

    /// How many nodes own slots, if all slots are owned.
    fn owners(&self) -> usize {
        if self.unowned.is_empty() { self.now.values().collect::<BTreeSet<_>>().len() } else { 0 }
    }

    fn still_for(&self) -> Duration {
        self.changed.elapsed()
    }

    fn moved(&self, join_nodes: usize) -> Moved {
        let slots = self.first.len();
        let elsewhere = |(slot, node): &(&SlotId, &NodeId)| self.now.get(slot) != Some(*node);
        let moved_slots = self.first.iter().filter(elsewhere).count();
        let ms = |gap: &Duration| gap.as_secs_f64() * 1e3;
        let gaps: Vec<f64> = self.gaps.values().map(ms).collect();
        Moved {
            join_nodes,
            slots,
            moved_slots,
            moved_slots_bound: 1.25 * slots as f64 / join_nodes.max(1) as f64,
            unowned_ms_max: gaps.iter().copied().fold(0.0, f64::max),
            unowned_ms_mean: gaps.iter().sum::<f64>() / gaps.len().max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_store::{Incarnation, MemberSlot};

    use super::*;

    fn member(name: &str, claims: &[(u32, u64, Option<&str>)]) -> Member {
        let node = |name: &str| NodeId(name.to_owned());
        let claim = |(slot, epoch, to): &(u32, u64, Option<&str>)| MemberSlot {
            slot: SlotId(*slot),
            epoch: *epoch,
            load: 0,
            offered_to: to.map(node),
        };
        Member {
            node: node(name),
            incarnation: Incarnation(1),
            endpoint: String::new(),
            weight: 1,
            beat: 0,
            leaving: false,
            slots: claims.iter().map(claim).collect(),
        }
    }

    #[test]
    fn slots_that_change_hands_and_their_time_without_an_owner_are_counted() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let before = [(0, 1, None), (1, 1, None), (2, 1, None), (3, 1, None)];
        let mut watch = Watch::new(&[member("join-0", &before)]);
        assert_eq!(watch.owners(), 1);
        let offered = [(0, 1, None), (1, 1, None), (2, 1, Some("join-1")), (3, 1, Some("join-1"))];
        watch.saw(at(10), &[member("join-0", &offered)]);
        assert_eq!(watch.owners(), 0, "two have none");
        let some = [member("join-0", &offered), member("join-1", &[(2, 2, None)])];
        watch.saw(at(30), &some);
        let all =
            [member("join-0", &offered[..2]), member("join-1", &[(2, 2, None), (3, 2, None)])];
        watch.saw(at(70), &all);
        assert_eq!((watch.owners(), watch.changed), (2, at(70)));
        watch.saw(at(90), &all);
        assert_eq!(watch.changed, at(70));
        let expected = Moved {
            join_nodes: 2,
            slots: 4,
            moved_slots: 2,
            moved_slots_bound: 2.5,
            unowned_ms_max: 60.0,
            unowned_ms_mean: 40.0,
        };
        assert_eq!(watch.moved(2), expected);
    }
}
