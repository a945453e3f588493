//! Which slots other nodes own: whoever asks here for one of them is told whom to ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_client::port::{JoinError, SlotOwner};
use millrace_client::remote::owners_of;
use millrace_store::{Incarnation, Member};
use millrace_types::SlotId;
use tokio::sync::watch;

type Others = Arc<BTreeMap<SlotId, SlotOwner>>;

/// What is known of the slots of others.
#[derive(Debug)]
pub(crate) struct Elsewhere(watch::Receiver<Others>);

/// Learns it.
#[derive(Debug)]
pub(crate) struct Learn {
    mine: Incarnation,
    tell: watch::Sender<Others>,
}

impl Elsewhere {
    /// Nothing is known yet by the node of this run.
    pub(crate) fn new(mine: Incarnation) -> (Learn, Self) {
        let (tell, others) = watch::channel(Others::default());
        (Learn { mine, tell }, Self(others))
    }

    /// A slot that is not served here is served there.
    pub(crate) fn redirect(&self, error: JoinError) -> JoinError {
        let JoinError::NotServing { slot } = error else { return error };
        match self.0.borrow().get(&slot) {
            Some(owner) => JoinError::Moved { slot, owner: Box::new(owner.clone()) },
            None => error,
        }
    }
}

impl Learn {
    /// This is what all nodes tell of themselves now.
    pub(crate) fn from(&self, members: &[Member]) {
        let owner = |(slot, index): (SlotId, usize)| {
            let Member { node, incarnation, endpoint, slots, .. } = &members[index];
            let claims = slots.iter().filter(|claim| claim.slot == slot);
            let epoch = claims.map(|claim| claim.epoch).max()?;
            let (node, endpoint) = (node.clone(), endpoint.clone());
            let owner = SlotOwner { node, incarnation: *incarnation, endpoint, epoch };
            (owner.incarnation != self.mine).then_some((slot, owner))
        };
        let others: BTreeMap<_, _> = owners_of(members).into_iter().filter_map(owner).collect();
        self.tell.send_if_modified(|known| {
            let is_news = **known != others;
            if is_news {
                *known = Arc::new(others);
            }
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use millrace_store::{MemberSlot, NodeId};

    use super::*;

    fn member(name: &str, run: u64, claims: &[(u32, u64)]) -> Member {
        let claim = |&(slot, epoch): &(u32, u64)| {
            let slot = SlotId(slot);
            MemberSlot { slot, epoch, load: 0, offered_to: None }
        };
        Member {
            node: NodeId(name.to_owned()),
            incarnation: Incarnation(run),
            endpoint: format!("http://{name}"),
            weight: 1,
            beat: 0,
            leaving: false,
            slots: claims.iter().map(claim).collect(),
        }
    }

    #[test]
    fn who_asks_for_a_slot_of_another_node_is_told_of_it() {
        let (learn, elsewhere) = Elsewhere::new(Incarnation(1));
        let not_here = |slot| JoinError::NotServing { slot: SlotId(slot) };
        assert_eq!(elsewhere.redirect(not_here(1)), not_here(1), "nothing is known");
        learn.from(&[
            member("join-0", 1, &[(0, 2), (1, 1)]),
            member("join-1", 2, &[(0, 1), (1, 3)]),
        ]);
        let JoinError::Moved { slot, owner } = elsewhere.redirect(not_here(1)) else {
            panic!("another node owns it")
        };
        assert_eq!((slot, &*owner.node.0, owner.epoch), (SlotId(1), "join-1", 3));
        assert_eq!((&*owner.endpoint, owner.incarnation), ("http://join-1", Incarnation(2)));
        // What this node claims itself, and what nobody does.
        assert_eq!(elsewhere.redirect(not_here(0)), not_here(0));
        assert_eq!(elsewhere.redirect(not_here(2)), not_here(2));
        let full = JoinError::Overloaded { slot: SlotId(1) };
        assert_eq!(elsewhere.redirect(full.clone()), full);
    }
}
