//! What nodes that were asked for slots of others told of the owners.

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

    /// Resolves once somebody asked for a look.
    pub(super) async fn asked(&self) {
        self.look.notified().await;
    }

    /// Adds what was told to what the members told of themselves; true where that is news. A node of which
    /// another run is known is left to what it tells itself.
    pub(super) fn add_to(&self, members: &mut Vec<Member>, slots: Slots) -> bool {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        let mut is_news = false;
        for (slot, owner) in told {
            let mut claims = members.iter().flat_map(|member| &member.slots);
            let is_known = claims.any(|c| c.slot == slot && c.epoch >= owner.epoch);
            if is_known || slot.0 >= slots.count() {
                continue;
            }
            let claim = MemberSlot { slot, epoch: owner.epoch, load: 0, offered_to: None };
            match members.iter_mut().find(|member| member.node == owner.node) {
                Some(member) if member.incarnation == owner.incarnation => member.slots.push(claim),
                Some(_) => continue,
                None => members.push(Member {
                    node: owner.node,
                    incarnation: owner.incarnation,
                    endpoint: owner.endpoint,
                    weight: 1,
                    beat: 0,
                    leaving: false,
                    slots: vec![claim],
                }),
            }
            is_news = true;
        }
        is_news
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

    #[test]
    fn the_owner_of_the_later_epoch_is_followed_and_no_run_that_is_not_known_to_be_the_last() {
        let slots = Slots::try_new(8).expect("a power of two");
        let redirects = Redirects::default();
        let mut members = Vec::new();
        assert!(!redirects.add_to(&mut members, slots), "nothing was told");
        for told in [moved(0, "a", 1, 3), moved(1, "b", 2, 5), moved(1, "a", 1, 4)] {
            redirects.after(&told);
        }
        redirects.after(&JoinError::NotServing { slot: SlotId(2) });
        assert!(redirects.add_to(&mut members, slots));
        let names = |members: &[Member]| -> Vec<(u32, String)> {
            let owners = owners_of(members).into_iter();
            owners.map(|(slot, owner)| (slot.0, members[owner].node.0.clone())).collect()
        };
        let expected = [(0, "a"), (1, "b")].map(|(slot, node)| (slot, node.to_owned()));
        assert_eq!(names(&members), expected);
        assert_eq!(members[0].endpoint, "http://a");

        // Known already, of another run, of a slot that there is not.
        for told in [moved(0, "b", 2, 3), moved(0, "b", 9, 8), moved(8, "a", 1, 9)] {
            redirects.after(&told);
            assert!(!redirects.add_to(&mut members, slots), "{told:?}");
        }
        assert_eq!(names(&members), expected);
        redirects.after(&moved(0, "b", 2, 4));
        assert!(redirects.add_to(&mut members, slots));
        assert_eq!(names(&members)[0], (0, "b".to_owned()));
    }
}
