//! Who owns which slot, as the nodes tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_placement::Slots;
use millrace_store::{Incarnation, Member, NodeId};
use millrace_types::SlotId;
use tokio_util::sync::CancellationToken;

use crate::remote::RemoteJoin;
use crate::security::ClientSecurity;

/// A node that owns slots.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) node: NodeId,
    incarnation: Incarnation,
    pub(super) endpoint: String,
    pub(super) join: Arc<RemoteJoin>,
    /// Its slots, ascending.
    pub(super) slots: Arc<[SlotId]>,
    /// It owns nothing any more: nothing of it is waited for.
    pub(super) gone: CancellationToken,
}

/// All of them, at one time.
#[derive(Debug)]
pub(super) struct Owners {
    version: u64,
    of: Vec<Option<usize>>,
    all: Vec<Arc<Owner>>,
}

impl Owners {
    /// Before anything is known.
    pub(super) fn nobody(slots: Slots) -> Self {
        Self { version: 0, of: vec![None; slots.count() as usize], all: Vec::new() }
    }

    /// Changes with every slot that changes hands.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn all(&self) -> &[Arc<Owner>] {
        &self.all
    }

    /// Which of them owns a slot.
    pub(super) fn index_of(&self, slot: SlotId) -> Option<usize> {
        self.of.get(slot.0 as usize).copied().flatten()
    }

    /// The first slot that nobody owns.
    pub(super) fn unowned(&self) -> Option<SlotId> {
        self.of.iter().position(Option::is_none).map(|slot| SlotId(slot as u32))
    }

    /// What the nodes tell now; `None` when it is what is known already.
    pub(super) fn follow(
        &self,
        slots: Slots,
        members: &[Member],
        security: &ClientSecurity,
    ) -> Option<Self> {
        let mut all: Vec<Arc<Owner>> = Vec::new();
        for (member, slots) in owned(slots, members) {
            let same = |owner: &&Arc<Owner>| {
                owner.node == member.node && owner.endpoint == member.endpoint
            };
            let known = self.all.iter().find(same);
            let unchanged = |owner: &&Arc<Owner>| {
                owner.incarnation == member.incarnation && *owner.slots == *slots
            };
            if let Some(owner) = known.filter(unchanged) {
                all.push(owner.clone());
                continue;
            }
            // Also of another run: one that listens where the last one did answers what was sent to it
            // before this was known, and what the last one got broke with its connections.
            let (join, gone) = match known {
                Some(owner) => (owner.join.clone(), owner.gone.clone()),
                None => match RemoteJoin::new(std::slice::from_ref(&member.endpoint), security) {
                    Ok(join) => (Arc::new(join), CancellationToken::new()),
                    Err(error) => {
                        let node = member.node.0.as_str();
                        tracing::warn!(node, %error, "a join node cannot be reached");
                        continue;
                    }
                },
            };
            all.push(Arc::new(Owner {
                node: member.node.clone(),
                incarnation: member.incarnation,
                endpoint: member.endpoint.clone(),
                join,
                slots: slots.into(),
                gone,
            }));
        }
        let unchanged = all.len() == self.all.len()
            && all.iter().zip(&self.all).all(|(new, old)| Arc::ptr_eq(new, old));
        if unchanged {
            return None;
        }
        for old in &self.all {
            if !all.iter().any(|new| Arc::ptr_eq(&new.join, &old.join)) {
                old.gone.cancel();
            }
        }
        let mut of = vec![None; slots.count() as usize];
        for (index, owner) in all.iter().enumerate() {
            for slot in owner.slots.iter() {
                of[slot.0 as usize] = Some(index);
            }
        }
        Some(Self { version: self.version + 1, of, all })
    }
}

/// Which of these members owns each slot, by its index: of two that claim one, the later epoch. What is
/// offered to another is owned by nobody.
#[must_use]
pub fn owners_of(members: &[Member]) -> BTreeMap<SlotId, usize> {
    let mut last: BTreeMap<SlotId, (u64, Option<usize>)> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for claim in &member.slots {
            let owner = claim.offered_to.is_none().then_some(index);
            let stands = last.entry(claim.slot).or_insert((claim.epoch, owner));
            if stands.0 < claim.epoch {
                *stands = (claim.epoch, owner);
            }
        }
    }
    last.into_iter().filter_map(|(slot, (_, owner))| Some((slot, owner?))).collect()
}

/// The members that own slots, and which.
fn owned(slots: Slots, members: &[Member]) -> Vec<(&Member, Vec<SlotId>)> {
    let mut all: Vec<(&Member, Vec<SlotId>)> =
        members.iter().map(|member| (member, Vec::new())).collect();
    for (slot, owner) in owners_of(members) {
        if slot.0 < slots.count() {
            all[owner].1.push(slot);
        }
    }
    all.retain(|(_, slots)| !slots.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use millrace_store::MemberSlot;

    use super::*;

    fn member(name: &str, run: u64, claims: &[(u32, u64, Option<&str>)]) -> Member {
        let claim = |(slot, epoch, to): &(u32, u64, Option<&str>)| MemberSlot {
            slot: SlotId(*slot),
            epoch: *epoch,
            load: 0,
            offered_to: to.map(|to| NodeId(to.to_owned())),
        };
        Member {
            node: NodeId(name.to_owned()),
            incarnation: Incarnation(run),
            endpoint: format!("http://127.0.0.1:{run}"),
            weight: 1,
            beat: 0,
            leaving: false,
            slots: claims.iter().map(claim).collect(),
        }
    }

    #[tokio::test]
    async fn the_later_epoch_owns_a_slot_and_what_is_offered_is_owned_by_nobody() {
        let (slots, security) = (Slots::try_new(4).unwrap(), ClientSecurity::default());
        let all = |owners: &Owners| (0..4).map(|s| owners.index_of(SlotId(s))).collect::<Vec<_>>();
        let nobody = Owners::nobody(slots);
        assert_eq!(nobody.unowned(), Some(SlotId(0)));
        let a = |claims| member("join-0", 1, claims);
        let b = |claims| member("join-1", 2, claims);
        let told = [
            a(&[(0, 1, None), (1, 1, None), (2, 3, Some("join-1")), (9, 1, None)]),
            b(&[(1, 2, None), (2, 2, None), (3, 1, None)]),
        ];
        let first = nobody.follow(slots, &told, &security).unwrap();
        assert_eq!(all(&first), [Some(0), Some(1), None, Some(1)]);
        assert_eq!((first.unowned(), first.version()), (Some(SlotId(2)), 1));
        assert!(first.follow(slots, &told, &security).is_none(), "nothing new");
        let beats = told.map(|member| Member { beat: 7, ..member });
        assert!(first.follow(slots, &beats, &security).is_none(), "a beat is no news");

        // join-1 takes what was offered: its connection stays, with its slots changed.
        let told = [a(&[(0, 1, None)]), b(&[(1, 2, None), (2, 4, None), (3, 1, None)])];
        let second = first.follow(slots, &told, &security).unwrap();
        assert_eq!(all(&second), [Some(0), Some(1), Some(1), Some(1)]);
        assert!(Arc::ptr_eq(&first.all[1].join, &second.all[1].join));
        assert!(!first.all[1].gone.is_cancelled());

        // Another run of join-1 answers where the last one did: its verdicts are waited for.
        let again = Member { incarnation: Incarnation(4), ..told[1].clone() };
        let again = second.follow(slots, &[told[0].clone(), again], &security).unwrap();
        assert_eq!((all(&again), again.version()), (all(&second), 3));
        assert!(Arc::ptr_eq(&second.all[1].join, &again.all[1].join));
        assert!(!second.all[1].gone.is_cancelled());

        // Another run of join-0 took everything: nobody waits for the others any more.
        let claims = [(0, 2, None), (1, 3, None), (2, 5, None), (3, 2, None)];
        let told = [member("join-0", 3, &claims), told[1].clone()];
        let third = second.follow(slots, &told, &security).unwrap();
        assert_eq!(all(&third), [Some(0); 4]);
        assert!(second.all.iter().all(|owner| owner.gone.is_cancelled()));
        assert!(!third.all[0].gone.is_cancelled());
    }
}
