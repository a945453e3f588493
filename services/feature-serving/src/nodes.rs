//! Who owns which slot, as `status` tells it: what join nodes tell of themselves, their leases, and the
//! last epochs of slots that nobody serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_client::port::{LOOK_MAX, SlotStatus, StorePort};
use millrace_client::remote::owners_of;
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_store::{Member, MemberSlot, NodeLease, SlotEpoch};
use millrace_types::{Micros, SlotId};

/// What was found of nodes and slots. Without anything where the store does not answer: that it does not
/// is said of it.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// By name.
    members: Vec<Member>,
    /// By slot the index of who says that it owns it.
    owners: BTreeMap<SlotId, usize>,
    /// By slot who says what of it that is of the greatest epoch.
    claims: BTreeMap<SlotId, (usize, MemberSlot)>,
    /// By the members' order; short where the store does not tell.
    leases: Vec<Option<NodeLease>>,
    /// The last epoch of slots that nobody serves; `None` for those that nobody ever owned.
    last: BTreeMap<SlotId, Option<SlotEpoch>>,
}

impl Nodes {
    /// Looks at the nodes, and at the slots that nobody serves, of the latter at [`LOOK_MAX`] at most.
    pub(crate) async fn look(store: &Arc<dyn StorePort>, slots: &[SlotStatus]) -> Self {
        let mut members = match store.members().await {
            Ok(members) => members,
            Err(error) => {
                tracing::debug!(%error, "the join nodes are not known");
                return Self::default();
            }
        };
        members.sort_by(|a, b| a.node.cmp(&b.node));
        let names = members.iter().take(LOOK_MAX).map(|member| member.node.clone()).collect();
        let unowned: Vec<SlotId> = unowned(slots).map(|slot| slot.slot).collect();
        let (leases, last) = match store.look(names, unowned.clone()).await {
            Ok(found) => {
                let last = found.epochs.into_iter().map(|mut epochs| epochs.pop());
                (found.leases, unowned.into_iter().zip(last).collect())
            }
            Err(error) => {
                tracing::debug!(%error, "leases and epochs are not known");
                (Vec::new(), BTreeMap::new())
            }
        };
        Self::of(members, leases, last)
    }

    fn of(
        members: Vec<Member>,
        leases: Vec<Option<NodeLease>>,
        last: BTreeMap<SlotId, Option<SlotEpoch>>,
    ) -> Self {
        let mut claims: BTreeMap<SlotId, (usize, MemberSlot)> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            for claim in &member.slots {
                if claims.get(&claim.slot).is_none_or(|(_, other)| other.epoch < claim.epoch) {
                    claims.insert(claim.slot, (index, claim.clone()));
                }
            }
        }
        Self { owners: owners_of(&members), members, claims, leases, last }
    }

    /// The name of who owns a slot, or owned it last; empty where that is not known.
    pub(crate) fn name_of(&self, slot: &SlotStatus) -> String {
        match (slot.is_owned, self.owners.get(&slot.slot)) {
            (true, Some(owner)) => self.members[*owner].node.0.clone(),
            (true, None) => String::new(),
            (false, _) => self.unowned_slot(slot.slot).node,
        }
    }

    /// A state a node, with sums over the slots that it owns.
    pub(crate) fn states(&self, slots: &[SlotStatus]) -> Vec<v1::JoinNodeState> {
        let mut owned: Vec<Vec<&SlotStatus>> = self.members.iter().map(|_| Vec::new()).collect();
        for slot in slots {
            if let Some(owner) = self.owners.get(&slot.slot) {
                owned[*owner].push(slot);
            }
        }
        let lease = |index: usize| self.leases.get(index).and_then(Option::as_ref);
        let all = self.members.iter().zip(&owned).enumerate();
        all.map(|(index, (member, slots))| node_state(member, slots, lease(index))).collect()
    }

    /// The slots that nobody serves, each with why.
    pub(crate) fn unowned(&self, slots: &[SlotStatus]) -> Vec<v1::UnownedSlot> {
        unowned(slots).map(|slot| self.unowned_slot(slot.slot)).collect()
    }

    fn unowned_slot(&self, slot: SlotId) -> v1::UnownedSlot {
        use v1::UnownedReason as Why;

        let told = |reason: Why, node: &str, epoch| v1::UnownedSlot {
            slot: slot.0,
            reason: reason.into(),
            node: node.to_owned(),
            next_node: String::new(),
            epoch,
        };
        let row = self.last.get(&slot);
        let claim = self.claims.get(&slot);
        // What is claimed in an epoch that another one followed is of no account.
        let is_last = |claim: &MemberSlot| match row {
            Some(Some(row)) => claim.epoch >= row.epoch,
            Some(None) | None => true,
        };
        match (claim.filter(|(_, claim)| is_last(claim)), row) {
            (Some((index, claim)), _) => {
                let node = &self.members[*index].node.0;
                match &claim.offered_to {
                    Some(to) => v1::UnownedSlot {
                        next_node: to.0.clone(),
                        ..told(Why::Offered, node, claim.epoch)
                    },
                    None => told(Why::Silent, node, claim.epoch),
                }
            }
            (None, Some(Some(row))) => {
                let why = match row.released {
                    Some(_) => Why::Released,
                    None if self.is_of_a_run_that_lives(row) => Why::Taking,
                    None => Why::Lost,
                };
                told(why, &row.node.0, row.epoch)
            }
            (None, Some(None)) => told(Why::NeverOwned, "", 0),
            (None, None) => told(Why::Unspecified, "", 0),
        }
    }

    /// Whether the run that opened this epoch is its node's newest, and nobody fenced it.
    fn is_of_a_run_that_lives(&self, row: &SlotEpoch) -> bool {
        let lease = self.members.iter().position(|member| member.node == row.node);
        let lease = lease.and_then(|index| self.leases.get(index)?.as_ref());
        lease.is_some_and(|lease| lease.is_of(row))
    }
}

fn unowned(slots: &[SlotStatus]) -> impl Iterator<Item = &SlotStatus> {
    slots.iter().filter(|slot| !slot.is_owned).take(LOOK_MAX)
}

/// A node with the slots that it owns.
fn node_state(
    member: &Member,
    slots: &[&SlotStatus],
    lease: Option<&NodeLease>,
) -> v1::JoinNodeState {
    let sum = |of: fn(&SlotStatus) -> u64| slots.iter().map(|slot| of(slot)).sum();
    let epochs = || member.slots.iter().filter(|c| c.offered_to.is_none()).map(|c| c.epoch);
    // What others own by now is told of still by a node that is gone.
    let (first, last) =
        if slots.is_empty() { (None, None) } else { (epochs().min(), epochs().max()) };
    v1::JoinNodeState {
        node: member.node.0.clone(),
        endpoint: member.endpoint.clone(),
        weight: member.weight,
        leaving: member.leaving,
        slots: slots.len() as u32,
        queued_facts: sum(|s| s.queued),
        unmarked_chunks: sum(SlotStatus::unmarked_chunks),
        dirty_entities: sum(|s| s.dirty),
        incarnation: member.incarnation.0,
        lease: lease.map(lease_state),
        first_epoch: first.unwrap_or_default(),
        last_epoch: last.unwrap_or_default(),
        unmarked_for: age(slots.iter().filter_map(|slot| slot.unmarked_for).max()),
    }
}

fn lease_state(lease: &NodeLease) -> v1::LeaseState {
    v1::LeaseState {
        incarnation: lease.incarnation.0,
        until: Some(to_timestamp(Micros(lease.ceiling.0))),
        fenced: lease.fenced,
        renewals: lease.renewals,
    }
}

/// How old something is, as a message says it.
pub(crate) fn age(age: Option<Duration>) -> Option<prost_types::Duration> {
    age.and_then(|age| age.try_into().ok())
}

#[cfg(test)]
mod tests {
    use millrace_store::{Incarnation, NodeId};
    use millrace_types::{KnownAt, Position};

    use super::*;

    fn member(name: &str, claims: &[(u32, u64, Option<&str>)]) -> Member {
        let claim = |(slot, epoch, to): &(u32, u64, Option<&str>)| MemberSlot {
            slot: SlotId(*slot),
            epoch: *epoch,
            load: 0,
            offered_to: to.map(|to| NodeId(to.to_owned())),
        };
        Member {
            node: NodeId(name.to_owned()),
            incarnation: Incarnation(7),
            endpoint: "http://127.0.0.1:1".to_owned(),
            weight: 1,
            beat: 0,
            leaving: false,
            slots: claims.iter().map(claim).collect(),
        }
    }

    fn epoch(epoch: u64, node: &str, released: bool) -> SlotEpoch {
        SlotEpoch {
            epoch,
            node: NodeId(node.to_owned()),
            incarnation: Incarnation(7),
            floor: KnownAt(0),
            previous_end: 0,
            released: released.then_some((1, KnownAt(1))),
        }
    }

    fn slot(slot: u32, is_owned: bool) -> SlotStatus {
        SlotStatus { is_owned, ..SlotStatus::new(SlotId(slot)) }
    }

    #[test]
    fn a_slot_that_nobody_serves_says_why() {
        let members = vec![
            member("join-0", &[(0, 2, None), (1, 3, Some("join-1")), (2, 1, None)]),
            member("join-1", &[(1, 1, None), (6, 1, None)]),
        ];
        let last = [
            (0, Some(epoch(2, "join-0", false))),
            (1, Some(epoch(3, "join-0", true))),
            // A claim that join-1 followed, which is gone itself by now.
            (2, Some(epoch(2, "join-1", false))),
            (3, Some(epoch(4, "join-1", true))),
            (4, None),
            // Nobody fenced the run that took it last, and it claims nothing yet.
            (7, Some(epoch(5, "join-0", false))),
            // Its node runs once more since.
            (8, Some(SlotEpoch { incarnation: Incarnation(6), ..epoch(5, "join-0", false) })),
        ];
        let last = last.into_iter().map(|(slot, row)| (SlotId(slot), row)).collect();
        let lease = |fenced| {
            let (incarnation, ceiling) = (Incarnation(7), KnownAt(5_000_000));
            Some(NodeLease { incarnation, renewals: 3, ceiling, fenced })
        };
        let nodes = Nodes::of(members, vec![lease(false), lease(true)], last);
        let slots: Vec<_> = (0..9).map(|number| slot(number, number == 6)).collect();
        let told = nodes.unowned(&slots);
        let told: Vec<_> =
            told.iter().map(|t| (t.slot, t.reason(), &*t.node, &*t.next_node, t.epoch)).collect();
        use v1::UnownedReason as Why;
        assert_eq!(
            told,
            [
                (0, Why::Silent, "join-0", "", 2),
                (1, Why::Offered, "join-0", "join-1", 3),
                (2, Why::Lost, "join-1", "", 2),
                (3, Why::Released, "join-1", "", 4),
                (4, Why::NeverOwned, "", "", 0),
                (5, Why::Unspecified, "", "", 0),
                (7, Why::Taking, "join-0", "", 5),
                (8, Why::Lost, "join-0", "", 5),
            ]
        );
        assert_eq!(nodes.name_of(&slots[6]), "join-1");
        assert_eq!(nodes.name_of(&slots[1]), "join-0");
    }

    #[test]
    fn a_node_is_told_with_its_lease_its_epochs_and_its_oldest_chunk() {
        let members = vec![
            member("join-0", &[(0, 2, None), (1, 5, None), (2, 9, Some("join-1"))]),
            member("join-1", &[(0, 1, None)]),
        ];
        let lease = NodeLease {
            incarnation: Incarnation(7),
            renewals: 3,
            ceiling: KnownAt(5_000_000),
            fenced: true,
        };
        let nodes = Nodes::of(members, vec![Some(lease), None], BTreeMap::new());
        let aged = |number, seconds| SlotStatus {
            unmarked_for: Some(Duration::from_secs(seconds)),
            position: Position { epoch: 2, sequence: 4 },
            marked: Position { epoch: 2, sequence: 1 },
            ..slot(number, true)
        };
        let told = nodes.states(&[aged(0, 3), aged(1, 8)]);
        let first = &told[0];
        assert_eq!((first.slots, first.first_epoch, first.last_epoch), (2, 2, 5));
        assert_eq!((first.unmarked_chunks, first.unmarked_for.unwrap().seconds), (6, 8));
        let lease = first.lease.unwrap();
        assert_eq!((lease.until.unwrap().seconds, lease.fenced, lease.renewals), (5, true, 3));
        let second = &told[1];
        assert_eq!((second.slots, second.first_epoch, &second.lease), (0, 0, &None));
    }
}
