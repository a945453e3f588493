//! What nodes that were asked for slots of others told of the owners.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use millrace_placement::Slots;
use millrace_store::{Member, MemberSlot};
use millrace_types::SlotId;
use tokio::sync::Notify;

use crate::port::{JoinError, SlotOwner};

/// Asks for a look at the owners, and takes along what is known of them: one of each slot at most.
#[derive(Debug, Default)]
pub(super) struct Redirects {
    look: Notify,
    told: Mutex<BTreeMap<SlotId, SlotOwner>>,
}

impl Redirects {
    /// Owners are to be looked for now.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// The same after this answer, which may say who owns a slot.
    pub(super) fn after(&self, error: &JoinError) {
        if let JoinError::Moved { slot, owner } = error {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let known = told.get(slot).is_some_and(|known| known.epoch >= owner.epoch);
            if !known {
                told.insert(*slot, (**owner).clone());
            }
        }
        self.look();
    }

    /// What was told is too long ago: its node may have given the slot up to nobody.
    pub(super) fn forget(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Resolves once somebody asked for a look.
    pub(super) async fn asked(&self) {
        self.look.notified().await;
    }

    /// What these members told of themselves, with what others told of them beside it. That is forgotten once
    /// the members tell of the epoch, or of a later one: a read of the store may be behind. A node of which
    /// another run is known is left to what it tells itself.
    pub(super) fn over<'m>(&self, members: &'m [Member], slots: Slots) -> Cow<'m, [Member]> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|slot, owner| {
            let mut claims = members.iter().flat_map(|member| &member.slots);
            let is_known = claims.any(|c| c.slot == *slot && c.epoch >= owner.epoch);
            let is_other = |m: &Member| m.node == owner.node && m.incarnation != owner.incarnation;
            !is_known && slot.0 < slots.count() && !members.iter().any(is_other)
        });
        if told.is_empty() {
            return Cow::Borrowed(members);
        }
        let mut all = members.to_vec();
        for (slot, owner) in &*told {
            let claim = MemberSlot { slot: *slot, epoch: owner.epoch, load: 0, offered_to: None };
            let is_it =
                |m: &&mut Member| (&m.node, m.incarnation) == (&owner.node, owner.incarnation);
            match all.iter_mut().find(is_it) {
                Some(member) => member.slots.push(claim),
                None => all.push(Member {
                    node: owner.node.clone(),
                    incarnation: owner.incarnation,
                    endpoint: owner.endpoint.clone(),
                    weight: 1,
                    beat: 0,
                    leaving: false,
                    slots: vec![claim],
                }),
            }
        }
        Cow::Owned(all)
    }
}

#[cfg(test)]
mod tests {
    use millrace_store::{Incarnation, NodeId};

    use super::super::owners_of;
    use super::*;

    fn moved(slot: u32, node: &str, run: u64, epoch: u64) -> JoinError {
        let owner = SlotOwner {
            node: NodeId(node.to_owned()),
            incarnation: Incarnation(run),
            endpoint: format!("http://{node}"),
            epoch,
        };
        JoinError::Moved { slot: SlotId(slot), owner: Box::new(owner) }
    }

    fn told(redirects: &Redirects, members: &[Member]) -> Vec<(u32, String)> {
        let members = redirects.over(members, Slots::try_new(8).expect("a power of two"));
        let owners = owners_of(&members).into_iter();
        owners.map(|(slot, owner)| (slot.0, members[owner].node.0.clone())).collect()
    }

    #[test]
    fn the_owner_of_the_later_epoch_is_followed_until_the_members_tell_of_it() {
        let redirects = Redirects::default();
        assert_eq!(told(&redirects, &[]), []);
        for moved in [moved(0, "a", 1, 3), moved(1, "b", 2, 5), moved(1, "a", 1, 4)] {
            redirects.after(&moved);
        }
        redirects.after(&JoinError::NotServing { slot: SlotId(2) });
        let slots = Slots::try_new(8).expect("a power of two");
        let mut members = redirects.over(&[], slots).into_owned();
        assert_eq!(members[0].endpoint, "http://a");
        let names = |of: [(u32, &str); 2]| of.map(|(slot, node)| (slot, node.to_owned()));
        let both = names([(0, "a"), (1, "b")]);
        // A read of the store that is behind takes nothing of it away, however often.
        assert_eq!((told(&redirects, &[]), told(&redirects, &[])), (both.to_vec(), both.to_vec()));
        let mut behind = members.clone();
        behind.iter_mut().flat_map(|member| &mut member.slots).for_each(|claim| claim.epoch -= 1);
        let earlier = MemberSlot { slot: SlotId(1), ..behind[0].slots[0].clone() };
        behind[0].slots.push(earlier);
        assert_eq!(told(&redirects, &behind), both);

        // They tell of it themselves from here on.
        assert_eq!(told(&redirects, &members), both);
        assert_eq!(told(&redirects, &[]), []);
        // Known already, of another run, of a slot that there is not.
        for moved in [moved(0, "b", 2, 3), moved(0, "b", 9, 8), moved(8, "a", 1, 9)] {
            redirects.after(&moved);
            assert_eq!(told(&redirects, &members), both, "{moved:?}");
        }
        redirects.after(&moved(0, "b", 2, 4));
        assert_eq!(told(&redirects, &members), names([(0, "b"), (1, "b")]));
        members.clear();
        assert_eq!(told(&redirects, &members), [(0, "b".to_owned())]);
        redirects.forget();
        assert_eq!(told(&redirects, &members), []);
    }
}
