use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LEASE: u64 = 4_000;
const LOOK: u64 = 500;

/// Name, run, beat, leaving, and what it owns and offers, with what that costs.
type Told = (String, u64, u64, bool, Vec<(SlotId, u64, u64, Option<String>)>);

/// A node of a simulated cluster.
struct Sim {
    name: String,
    run: u64,
    beat: u64,
    watch: Watch,
    /// Slot and epoch.
    owns: BTreeMap<SlotId, u64>,
    offers: BTreeMap<SlotId, (u64, String)>,
    /// What it told of slots, and tells again of those it offers.
    told: BTreeMap<SlotId, u64>,
    leaving: bool,
    up: bool,
}

/// Nodes, and who owns what as the store has it.
struct Cluster {
    now: u64,
    slots: Slots,
    nodes: Vec<Sim>,
    /// The epoch rows: owner's run, epoch, and whether it is open.
    rows: BTreeMap<SlotId, (u64, u64, bool)>,
    fenced: Vec<u64>,
    moves: usize,
    /// What each slot costs; owners learn of it by and by.
    loads: BTreeMap<SlotId, u64>,
}

impl Cluster {
    fn new(slots: u32) -> Self {
        let slots = Slots::try_new(slots).unwrap();
        let (nodes, rows) = (Vec::new(), BTreeMap::new());
        let (fenced, loads) = (Vec::new(), BTreeMap::new());
        Self { now: 0, slots, nodes, rows, fenced, moves: 0, loads }
    }

    fn start(&mut self, name: &str) {
        let run = self.nodes.len() as u64 + 1;
        self.nodes.push(Sim {
            name: name.into(),
            run,
            beat: 0,
            watch: Watch::new(name, self.slots, LEASE),
            owns: BTreeMap::new(),
            offers: BTreeMap::new(),
            told: BTreeMap::new(),
            leaving: false,
            up: true,
        });
    }

    /// Every node that is up tells of itself and looks, one after the other.
    fn round(&mut self) {
        self.now += LOOK;
        for index in 0..self.nodes.len() {
            if self.nodes[index].up {
                self.nodes[index].beat += 1;
                self.look(index);
            }
        }
    }

    fn look(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        for slot in node.owns.keys() {
            let told = node.told.entry(*slot).or_default();
            *told = (7 * *told + self.loads.get(slot).copied().unwrap_or(0)) / 8;
        }
        let told: Vec<Told> = self
            .nodes
            .iter()
            .map(|node| {
                let load = |slot: &SlotId| node.told.get(slot).copied().unwrap_or(0);
                let owns = node.owns.iter().map(|(slot, epoch)| (*slot, *epoch, load(slot), None));
                let offer = |(slot, (epoch, to)): (&SlotId, &(u64, String))| {
                    (*slot, *epoch, load(slot), Some(to.clone()))
                };
                let offers = node.offers.iter().map(offer);
                (node.name.clone(), node.run, node.beat, node.leaving, owns.chain(offers).collect())
            })
            .collect();
        let seen: Vec<Seen<'_>> = told
            .iter()
            .map(|(name, run, beat, leaving, claims)| Seen {
                name,
                run: *run,
                weight: 1,
                beat: *beat,
                leaving: *leaving,
                claims: claims
                    .iter()
                    .map(|(slot, epoch, load, to)| Claim {
                        slot: *slot,
                        epoch: *epoch,
                        load: *load,
                        offered_to: to.as_deref(),
                    })
                    .collect(),
            })
            .collect();
        let step = self.nodes[index].watch.look(self.now, &seen);
        for (slot, to) in step.give {
            let node = &mut self.nodes[index];
            let epoch = node.owns.remove(&slot).unwrap();
            node.offers.insert(slot, (epoch, to));
            self.rows.insert(slot, (node.run, epoch, false));
        }
        for (slot, load) in step.take {
            let offer = self.nodes.iter().find(|node| node.offers.contains_key(&slot));
            if let Some(giver) = offer {
                assert_eq!(load, giver.told[&slot], "it would look as if it cost nothing");
            }
            self.take(index, slot, &step.dead);
            self.nodes[index].told.insert(slot, load);
        }
        // An offer is over once somebody owns the slot in a later epoch.
        let rows = &self.rows;
        self.nodes[index].offers.retain(|slot, (epoch, _)| rows[slot].1 == *epoch);
    }

    fn take(&mut self, index: usize, slot: SlotId, dead: &[u64]) {
        let run = self.nodes[index].run;
        let (owner, epoch, open) = self.rows.get(&slot).copied().unwrap_or((0, 0, false));
        if open && owner != run {
            if !dead.contains(&owner) {
                return;
            }
            self.fenced.push(owner);
        }
        self.rows.insert(slot, (run, epoch + 1, true));
        self.nodes[index].owns.insert(slot, epoch + 1);
        self.moves += 1;
    }

    fn owned(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.owns.len()).collect()
    }
}

#[test]
fn nodes_share_the_slots_and_then_rest() {
    let mut cluster = Cluster::new(64);
    cluster.start("join-0");
    cluster.round();
    assert_eq!(cluster.owned(), [64]);
    cluster.start("join-1");
    for _ in 0..6 {
        cluster.round();
    }
    let [a, b] = cluster.owned()[..] else { panic!() };
    assert_eq!(a + b, 64);
    assert!(a <= 40 && b <= 40, "{a} {b}");
    assert!(cluster.moves - 64 <= 40, "a node that comes moves at most 1.25 K/n");
    let moved = cluster.moves;
    for _ in 0..20 {
        cluster.round();
    }
    assert_eq!(cluster.moves, moved, "nothing moves any more");
    assert_eq!(cluster.fenced, []);
}

/// One of two gives slots to a third and tells so before the other one looks again: that one does not wait.
#[test]
fn a_node_that_comes_has_its_share_soon() {
    let mut cluster = Cluster::new(64);
    cluster.start("join-0");
    cluster.start("join-1");
    for _ in 0..6 {
        cluster.round();
    }
    cluster.start("join-2");
    // What the first one gives is taken before the second one looks.
    for index in [0, 2, 0, 2, 1, 2, 0, 2, 1, 2, 0, 1, 2, 0, 1, 2] {
        cluster.now += LOOK / 3;
        cluster.nodes.iter_mut().for_each(|node| node.beat += 1);
        cluster.look(index);
    }
    assert!(cluster.owned().iter().all(|owned| *owned <= 27), "{:?}", cluster.owned());
}

#[test]
fn the_slots_of_a_node_that_dies_are_served_again_after_the_lease() {
    let mut cluster = Cluster::new(64);
    for name in ["join-0", "join-1", "join-2"] {
        cluster.start(name);
    }
    for _ in 0..8 {
        cluster.round();
    }
    cluster.nodes[1].up = false;
    let died = cluster.now;
    let lost = std::mem::take(&mut cluster.nodes[1].owns);
    // What it told stays in the store.
    cluster.nodes[1].owns = lost.clone();
    let others = |cluster: &Cluster| cluster.owned()[0] + cluster.owned()[2];
    while others(&cluster) < 64 {
        cluster.round();
        assert!(cluster.now - died <= LEASE + 1_000, "{:?}", cluster.owned());
    }
    assert!(cluster.now - died >= LEASE);
    assert!(cluster.fenced.iter().all(|run| *run == 2));
    assert_eq!(cluster.fenced.len(), lost.len(), "no other slot moved");
}

/// However late each look is: the last one is made as the lease ends, not up to a whole pause after it.
#[test]
fn a_silent_node_is_dead_as_soon_as_its_lease_is_over() {
    let told = |name, run| Seen { name, run, weight: 1, beat: 7, leaving: false, claims: vec![] };
    for late in [0, 1, 30, 499] {
        let mut watch = Watch::new("join-0", Slots::try_new(8).unwrap(), LEASE);
        let (mut now, pause) = (0, LOOK + late);
        while watch.look(now, &[told("join-0", 1), told("join-1", 2)]).dead.is_empty() {
            let due = watch.due_ms().unwrap();
            assert!(now + due <= LEASE, "{due} at {now}");
            now += due.min(pause);
        }
        assert_eq!((now, watch.due_ms()), (LEASE, None), "looks {late} ms late");
    }
}

#[test]
fn who_does_not_look_takes_nobody_for_dead() {
    let mut cluster = Cluster::new(16);
    cluster.start("join-0");
    cluster.start("join-1");
    for _ in 0..6 {
        cluster.round();
    }
    // The store is away for a minute: nobody tells anything, nobody looks.
    cluster.now += 60_000;
    for _ in 0..6 {
        cluster.round();
    }
    assert_eq!(cluster.fenced, []);
}

#[test]
fn what_a_node_that_goes_down_releases_is_taken_by_others() {
    let mut cluster = Cluster::new(64);
    cluster.start("join-0");
    cluster.start("join-1");
    for _ in 0..6 {
        cluster.round();
    }
    cluster.nodes[0].leaving = true;
    for (slot, epoch) in std::mem::take(&mut cluster.nodes[0].owns) {
        cluster.rows.insert(slot, (1, epoch, false));
    }
    cluster.round();
    assert_eq!(cluster.owned(), [0, 64]);
    assert_eq!(cluster.fenced, []);
}

/// Slots cost what they cost, within the bound, and all at once: each owner learns of it in its own time.
#[test]
fn a_load_that_begins_moves_nothing_where_shares_are_even() {
    let mut cluster = Cluster::new(64);
    cluster.start("join-0");
    cluster.start("join-1");
    for _ in 0..6 {
        cluster.round();
    }
    let before = cluster.moves;
    cluster.loads = (0..64).map(|slot| (SlotId(slot), 1_000)).collect();
    // One that looked right before the load began knows of it a round later.
    cluster.look(0);
    for _ in 0..60 {
        cluster.round();
    }
    cluster.loads.clear();
    for _ in 0..60 {
        cluster.round();
    }
    assert_eq!(cluster.moves, before);
}

/// What moves away keeps its load for who takes it: the new owner does not look idle, and nothing comes back.
#[test]
fn slots_that_cost_more_move_once() {
    let mut cluster = Cluster::new(64);
    cluster.start("join-0");
    cluster.start("join-1");
    for _ in 0..6 {
        cluster.round();
    }
    let of_first: Vec<SlotId> = cluster.nodes[0].owns.keys().copied().collect();
    let cost = |slot: &SlotId| if of_first.contains(slot) { 3_000 } else { 1_000 };
    let loads = (0..64).map(|slot| (SlotId(slot), cost(&SlotId(slot))));
    cluster.loads = loads.collect();
    let before = cluster.moves;
    for _ in 0..60 {
        cluster.round();
    }
    let held = |node: &Sim| node.owns.keys().map(|slot| cluster.loads[slot]).sum::<u64>();
    let [first, second] = [0, 1].map(|index| held(&cluster.nodes[index]));
    assert!(first.max(second) * 8 <= (first + second) * 5, "{first} {second}");
    let moved = of_first.iter().filter(|slot| !cluster.nodes[0].owns.contains_key(slot)).count();
    assert_eq!(cluster.moves - before, moved, "each moved once");
}

proptest! {
    /// Whatever nodes come, die and go down: in the end every slot has one owner, who is up, shares are
    /// within the bound, and nobody who is up was fenced.
    #[test]
    fn it_settles(changes in prop::collection::vec((0u8..3, 0usize..8, 1usize..14), 1..12)) {
        let mut cluster = Cluster::new(32);
        cluster.start("join-first");
        for (number, (what, which, rounds)) in changes.into_iter().enumerate() {
            let up: Vec<usize> =
                (0..cluster.nodes.len()).filter(|i| cluster.nodes[*i].up).collect();
            let one = up[which % up.len()];
            match what {
                0 if up.len() < 5 => cluster.start(&format!("join-{number}")),
                1 if up.len() > 1 => cluster.nodes[one].up = false,
                2 if up.len() > 1 => {
                    let node = &mut cluster.nodes[one];
                    (node.leaving, node.up) = (true, false);
                    for (slot, epoch) in std::mem::take(&mut node.owns) {
                        cluster.rows.insert(slot, (one as u64 + 1, epoch, false));
                    }
                }
                _ => {}
            }
            let before = cluster.fenced.len();
            for _ in 0..rounds {
                cluster.round();
            }
            for run in &cluster.fenced[before..] {
                prop_assert!(!cluster.nodes[*run as usize - 1].up);
            }
        }
        for _ in 0..30 {
            cluster.round();
        }
        let up: Vec<&Sim> = cluster.nodes.iter().filter(|node| node.up).collect();
        let owned: usize = up.iter().map(|node| node.owns.len()).sum();
        prop_assert_eq!(owned, 32);
        for node in &up {
            prop_assert!(node.owns.len() <= (32 * 5usize).div_ceil(4 * up.len()));
            for (slot, epoch) in &node.owns {
                prop_assert_eq!(cluster.rows[slot], (node.run, *epoch, true));
            }
        }
    }
}
