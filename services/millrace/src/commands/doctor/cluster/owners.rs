//! Who owns slots by what stands in the store: leases, slots without owner, epochs that were sealed.

use std::collections::{BTreeMap, BTreeSet};

use millrace_store::{Incarnation, Member, NodeId, NodeLease, SlotEpoch, StoreError};
use millrace_store_scylla::inspect::Tables;
use millrace_types::{Micros, SlotId};

use super::report::Finding;
use crate::commands::slot_runs::slot_runs;

/// Nodes that a line names.
const NODES: usize = 16;
/// Runs that lost slots without a release and are asked about.
const RUNS: usize = 1_024;
/// Findings of one kind that are listed.
const LISTED: usize = 16;

/// A run of a node.
type Run = (NodeId, u64);

/// What stands in the store.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// The lease of every node that is told of or owns a slot.
    leases: BTreeMap<NodeId, Option<NodeLease>>,
    /// The newest epochs of each slot, ascending.
    epochs: Vec<Vec<SlotEpoch>>,
    /// Runs that lost slots to others without a release and were not fenced.
    unfenced: BTreeSet<Run>,
}

impl Owners {
    /// Reads it, of so many slots: the newest epochs of each, about a kilobyte a slot.
    pub(super) async fn read(tables: &Tables, slots: u32) -> Result<Self, StoreError> {
        let members = tables.members().await?;
        let epochs = tables.look(Vec::new(), (0..slots).map(SlotId).collect()).await?.epochs;
        let nodes: Vec<NodeId> = nodes(&members, &epochs).into_iter().collect();
        let leases = tables.look(nodes.clone(), Vec::new()).await?.leases;
        let mut unfenced = BTreeSet::new();
        // After the epochs: whoever opened one had fenced its last owner before.
        for (node, run) in lost(&epochs).into_iter().take(RUNS) {
            if tables.confirm(&node, Incarnation(run)).await? {
                unfenced.insert((node, run));
            }
        }
        Ok(Self { leases: nodes.into_iter().zip(leases).collect(), epochs, unfenced })
    }

    /// Every finding.
    pub(super) fn findings(&self, now: Micros) -> Vec<Finding> {
        let mut findings = self.lease_findings(now);
        findings.extend(self.slot_findings());
        findings.extend(self.epoch_findings());
        findings
    }

    /// How many slots each run owns by the last epochs.
    fn owned(&self) -> BTreeMap<&NodeId, u32> {
        let mut owned = BTreeMap::new();
        for row in self.epochs.iter().filter_map(|rows| rows.last()) {
            if self.is_owned(row) {
                *owned.entry(&row.node).or_default() += 1;
            }
        }
        owned
    }

    /// Whether who opened an epoch owns the slot, as far as nobody has fenced it.
    fn is_owned(&self, row: &SlotEpoch) -> bool {
        let lease = self.leases.get(&row.node).and_then(Option::as_ref);
        row.released.is_none() && lease.is_some_and(|lease| lease.is_of(row))
    }

    fn lease_findings(&self, now: Micros) -> Vec<Finding> {
        let check = "leases";
        let owned = self.owned();
        let (mut held, mut findings) = (Vec::new(), Vec::new());
        for (node, lease) in &self.leases {
            let Some(lease) = lease.as_ref().filter(|lease| !lease.fenced) else { continue };
            let slots = owned.get(node).copied().unwrap_or_default();
            let left = lease.ceiling.0.saturating_sub(now.0) as f64 / 1e6;
            let name = &node.0;
            if left > 0.0 {
                held.push(format!("{name} ({slots} slots, {left:.1} s left)"));
            } else if slots > 0 && findings.len() < LISTED {
                findings.push(Finding::warn(
                    check,
                    format!("that of {name} is over for {:.1} s, and it owns {slots} slots", -left),
                    format!(
                        "start it again: millrace serve join --node {name}; or another join node, which \
                         takes its slots"
                    ),
                ));
            }
        }
        let count = held.len();
        held.truncate(NODES);
        match count {
            0 => findings.push(Finding::warn(
                check,
                "no join node holds one: nothing is joined",
                "start one: millrace serve join",
            )),
            _ => findings.insert(0, Finding::ok(check, format!("held by {}", held.join(", ")))),
        }
        findings
    }

    fn slot_findings(&self) -> Vec<Finding> {
        let check = "slots";
        let (mut never, mut released, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let (mut first, mut last, mut owned) = (u64::MAX, 0, 0_u32);
        for (slot, rows) in self.epochs.iter().enumerate() {
            let slot = slot as u32;
            match rows.last() {
                None => never.push(slot),
                Some(row) if self.is_owned(row) => {
                    owned += 1;
                    (first, last) = (first.min(row.epoch), last.max(row.epoch));
                }
                Some(row) if row.released.is_some() => released.push(slot),
                Some(_) => lost.push(slot),
            }
        }
        let count = self.epochs.len();
        let mut findings = Vec::new();
        if owned > 0 {
            let found = format!("{owned} of {count} are owned, in epochs {first} to {last}");
            findings.push(Finding::ok(check, found));
        }
        let next = "start a join node: millrace serve join; where one runs, its log says why it does not \
                    take them";
        for (slots, what) in [
            (never, "nobody owned them yet"),
            (released, "their owner released them and nobody took them"),
            (lost, "their owner is gone and nobody took them"),
        ] {
            if !slots.is_empty() {
                let found = format!("{} without owner: {what}", slot_runs(&slots));
                findings.push(Finding::warn(check, found, next));
            }
        }
        findings
    }

    fn epoch_findings(&self) -> Vec<Finding> {
        let check = "epochs";
        let mut findings = Vec::new();
        let mut sealed = 0_u64;
        for (slot, rows) in self.epochs.iter().enumerate() {
            for pair in rows.windows(2) {
                let [before, after] = pair else { continue };
                sealed += 1;
                if let Some(problem) = self.problem(before, after)
                    && findings.len() < LISTED
                {
                    findings.push(Finding::fail(
                        check,
                        format!("epoch {} of slot {slot}: {problem}", before.epoch),
                        "stop every join node and keep the keyspace as it is: two owners may have \
                         confirmed chunks; report it with this output",
                    ));
                }
            }
        }
        if findings.is_empty() {
            let found = format!(
                "the newest {sealed} that were sealed follow each other, and who lost a slot had released \
                 it or is fenced"
            );
            findings.push(Finding::ok(check, found));
        }
        findings
    }

    /// What is wrong between an epoch and the next one.
    fn problem(&self, before: &SlotEpoch, after: &SlotEpoch) -> Option<String> {
        if after.epoch != before.epoch + 1 {
            return Some(format!("epoch {} follows it", after.epoch));
        }
        if after.floor <= before.floor {
            return Some("the next one stamps versions below its own".to_owned());
        }
        match before.released {
            Some((end, _)) if end != after.previous_end => Some(format!(
                "it was released at chunk {end}, and the next one says that it ends at {}",
                after.previous_end
            )),
            Some(_) => None,
            None => self
                .unfenced
                .contains(&run_of(before))
                .then(|| format!("it was sealed, and its owner {} is not fenced", before.node.0)),
        }
    }
}

fn run_of(row: &SlotEpoch) -> Run {
    (row.node.clone(), row.incarnation.0)
}

/// Every node that is told of, or was the last owner of a slot.
fn nodes(members: &[Member], epochs: &[Vec<SlotEpoch>]) -> BTreeSet<NodeId> {
    let told = members.iter().map(|member| &member.node);
    let owners = epochs.iter().filter_map(|rows| rows.last()).map(|row| &row.node);
    told.chain(owners).cloned().collect()
}

/// Runs that lost a slot to another one without a release.
fn lost(epochs: &[Vec<SlotEpoch>]) -> BTreeSet<Run> {
    let pairs = epochs.iter().flat_map(|rows| rows.windows(2));
    let lost = pairs.filter_map(|pair| {
        let [before, after] = pair else { return None };
        let lost = before.released.is_none() && before.incarnation != after.incarnation;
        lost.then(|| run_of(before))
    });
    lost.collect()
}

#[cfg(test)]
mod tests {
    use millrace_types::KnownAt;

    use super::super::report::State;
    use super::*;

    const NOW: Micros = Micros(100_000_000);

    fn node(name: &str) -> NodeId {
        NodeId(name.to_owned())
    }

    fn row(
        epoch: u64,
        name: &str,
        run: u64,
        released: Option<u64>,
        previous_end: u64,
    ) -> SlotEpoch {
        SlotEpoch {
            epoch,
            node: node(name),
            incarnation: Incarnation(run),
            floor: KnownAt(10 * epoch.cast_signed()),
            previous_end,
            released: released.map(|end| (end, KnownAt(5))),
        }
    }

    fn lease(run: u64, seconds: i64, fenced: bool) -> Option<NodeLease> {
        let ceiling = KnownAt(NOW.0 + seconds * 1_000_000);
        Some(NodeLease { incarnation: Incarnation(run), renewals: 1, ceiling, fenced })
    }

    fn told(owners: &Owners) -> Vec<(State, String)> {
        owners.findings(NOW).into_iter().map(|f| (f.state, f.found)).collect()
    }

    #[test]
    fn a_cluster_in_good_order_is_all_ok() {
        let owners = Owners {
            leases: [(node("join-0"), lease(1, 3, false)), (node("join-1"), lease(9, 4, true))]
                .into(),
            epochs: vec![
                vec![row(1, "join-0", 1, None, 0)],
                vec![row(4, "join-1", 9, None, 0), row(5, "join-0", 1, None, 7)],
            ],
            unfenced: BTreeSet::new(),
        };
        let told = told(&owners);
        assert!(told.iter().all(|(state, _)| *state == State::Ok), "{told:?}");
        assert_eq!(told[0].1, "held by join-0 (2 slots, 3.0 s left)");
        assert_eq!(told[1].1, "2 of 2 are owned, in epochs 1 to 5");
        assert!(told[2].1.starts_with("the newest 1 that were sealed"), "{told:?}");
    }

    #[test]
    fn owners_that_are_gone_and_slots_without_one_are_named() {
        let owners = Owners {
            leases: [(node("join-0"), lease(1, -5, false)), (node("join-1"), lease(9, -9, true))]
                .into(),
            epochs: vec![
                vec![row(1, "join-0", 1, None, 0)],
                vec![row(1, "join-1", 9, None, 0)],
                vec![row(1, "join-0", 1, Some(3), 0)],
                vec![],
                vec![],
            ],
            unfenced: BTreeSet::new(),
        };
        let told = told(&owners);
        let warned: Vec<&str> =
            told.iter().filter(|(s, _)| *s == State::Warn).map(|(_, found)| &**found).collect();
        assert_eq!(
            warned,
            [
                "that of join-0 is over for 5.0 s, and it owns 1 slots",
                "no join node holds one: nothing is joined",
                "slots 3-4 without owner: nobody owned them yet",
                "slot 2 without owner: their owner released them and nobody took them",
                "slot 1 without owner: their owner is gone and nobody took them",
            ]
        );
    }

    #[test]
    fn epochs_that_do_not_follow_each_other_fail() {
        let run = (node("join-0"), 1);
        let problem = |rows: [SlotEpoch; 2], unfenced: bool| {
            let epochs = vec![rows.to_vec()];
            assert!(lost(&epochs).contains(&run) || !unfenced);
            let unfenced = unfenced.then(|| run.clone()).into_iter().collect();
            let leases = [(node("join-1"), lease(2, 3, false))].into();
            let owners = Owners { leases, epochs, unfenced };
            let failed = told(&owners).into_iter().find(|(state, _)| *state == State::Fail);
            failed.map(|(_, found)| found)
        };
        let next = |epoch, end| row(epoch, "join-1", 2, None, end);
        assert_eq!(problem([row(1, "join-0", 1, None, 0), next(2, 4)], false), None);
        assert_eq!(problem([row(1, "join-0", 1, Some(4), 0), next(2, 4)], false), None);
        for (rows, unfenced, found) in [
            ([row(1, "join-0", 1, None, 0), next(3, 4)], false, "epoch 3 follows it"),
            ([row(1, "join-0", 1, Some(5), 0), next(2, 4)], false, "released at chunk 5"),
            ([row(1, "join-0", 1, None, 0), next(2, 4)], true, "join-0 is not fenced"),
        ] {
            let told = problem(rows, unfenced);
            assert!(told.as_ref().is_some_and(|told| told.contains(found)), "{told:?}: {found}");
        }
        let low = SlotEpoch { floor: KnownAt(10), ..next(2, 4) };
        let told = problem([row(1, "join-0", 1, None, 0), low], false).unwrap();
        assert!(told.contains("versions below"), "{told}");
    }
}
