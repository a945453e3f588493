//! Which slots this node should have, beside others: it tells of itself, looks at what the others tell,
//! and has its workers take and release slots. The plan is pure (`millrace_placement::members`); who
//! owns a slot is decided in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_placement::{Claim, Seen, Slots, Step, Watch};
use millrace_store::{Fencing, Incarnation, Member, MemberSlot, NodeId, StoreError};
use millrace_types::{KnownAt, SlotId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::clock::{Ceiling, now_us};
use crate::config::Beside;
use crate::elsewhere::Learn;
use crate::reach::Reach;
use crate::worker::Acquired;

/// How often it tells of itself and looks at the others.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A slot that could not be taken over is left alone for so long.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// This node.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) beside: Beside,
}

/// How often the lease was renewed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Renewals(Arc<AtomicU64>);

impl Renewals {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A slot changes hands.
enum Changed {
    Taken(SlotId, Result<Acquired, StoreError>),
    Given(SlotId, Offer),
}

/// What was released for another node.
#[derive(Debug, Clone)]
struct Offer {
    /// The epoch it was owned in.
    epoch: u64,
    /// What it costs.
    load: u64,
    to: NodeId,
}

/// Keeps this node's share of the slots.
pub(crate) struct Owners {
    me: Me,
    reach: Reach,
    renewals: Renewals,
    ceiling: Ceiling,
    leaving: watch::Receiver<bool>,
    /// Learns who owns the rest.
    learn: Learn,
    /// Told once the first plan is carried out.
    settled: watch::Sender<bool>,
    watch: Watch,
    began: Instant,
    changes: JoinSet<Changed>,
    under_way: BTreeSet<SlotId>,
    /// What was released for others, until they have it.
    offers: BTreeMap<SlotId, Offer>,
    not_before: BTreeMap<SlotId, Instant>,
}

impl Owners {
    pub(crate) fn new(
        me: Me,
        slots: Slots,
        reach: Reach,
        (renewals, ceiling): (Renewals, Ceiling),
        leaving: watch::Receiver<bool>,
        learn: Learn,
    ) -> (Self, watch::Receiver<bool>) {
        let lease = u64::try_from(me.beside.lease.as_millis()).unwrap_or(u64::MAX);
        let (settled, is_settled) = watch::channel(false);
        let watch = Watch::new(me.node.0.clone(), slots, lease);
        let owners = Self {
            me,
            reach,
            renewals,
            ceiling,
            leaving,
            learn,
            settled,
            watch,
            began: Instant::now(),
            changes: JoinSet::new(),
            under_way: BTreeSet::new(),
            offers: BTreeMap::new(),
            not_before: BTreeMap::new(),
        };
        (owners, is_settled)
    }

    pub(crate) async fn run(mut self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = false;
        loop {
            tokio::select! {
                _ = tick.tick() => match self.round().await {
                    Ok(()) => {
                        looked = true;
                        // As the lease of a silent node ends, not up to a pause after it.
                        let due = self.watch.due_ms().map(Duration::from_millis);
                        if let Some(due) = due.filter(|due| *due < LOOK_EVERY) {
                            tick.reset_after(due);
                        }
                    }
                    // The next round finds out whether it helps to try again.
                    Err(error) => tracing::debug!(%error, "the nodes are not known"),
                },
                Some(changed) = self.changes.join_next(), if !self.changes.is_empty() => {
                    match changed {
                        Ok(changed) => self.changed(changed),
                        Err(error) => tracing::error!(%error, "a slot changed hands"),
                    }
                    if self.under_way.is_empty() {
                        // The others learn of it now.
                        tick.reset_immediately();
                    }
                }
            }
            if looked && self.under_way.is_empty() {
                self.settled.send_replace(true);
            }
        }
    }

    /// Tells of itself, looks at the others, and does what the plan says.
    async fn round(&mut self) -> Result<(), StoreError> {
        if !self.ceiling.holds() {
            // It was away past its lease: another run of this node may be there by now.
            let reason = "its lease is not renewed".to_owned();
            return Err(StoreError::Unavailable { operation: "put member", reason });
        }
        let store = self.reach.store.clone();
        let owned = self.reach.owned().await;
        store.put_member(KnownAt(now_us()), self.member(owned)).await?;
        let members = store.members().await?;
        self.learn.from(&members);
        self.offers.retain(|slot, offer| {
            let is_later = |c: &MemberSlot| c.slot == *slot && c.epoch > offer.epoch;
            let later = |m: &Member| m.slots.iter().any(is_later);
            !members.iter().any(later)
        });
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let seen: Vec<Seen<'_>> = members.iter().map(seen).collect();
        let step = self.watch.look(millis, &seen);
        self.carry_out(step, &members);
        Ok(())
    }

    fn member(&self, mut slots: Vec<MemberSlot>) -> Member {
        let offers = self.offers.iter().map(|(slot, offer)| MemberSlot {
            slot: *slot,
            epoch: offer.epoch,
            load: offer.load,
            offered_to: Some(offer.to.clone()),
        });
        slots.extend(offers);
        slots.sort_by_key(|slot| (slot.slot, slot.epoch));
        Member {
            node: self.me.node.clone(),
            incarnation: self.me.incarnation,
            endpoint: self.me.beside.endpoint.clone(),
            weight: self.me.beside.weight,
            beat: self.renewals.get(),
            leaving: *self.leaving.borrow(),
            slots,
        }
    }

    fn carry_out(&mut self, step: Step, members: &[Member]) {
        let now = Instant::now();
        self.not_before.retain(|_, until| *until > now);
        let fencing = Fencing::Dead(step.dead.into_iter().map(Incarnation).collect());
        for (slot, load) in step.take {
            if self.not_before.contains_key(&slot) || !self.under_way.insert(slot) {
                continue;
            }
            let (reach, fencing) = (self.reach.clone(), fencing.clone());
            self.changes.spawn(async move {
                Changed::Taken(slot, reach.acquire(slot, fencing, load).await)
            });
        }
        for (slot, to) in step.give {
            let mine = members.iter().filter(|m| m.incarnation == self.me.incarnation);
            let mut claims = mine.flat_map(|m| &m.slots);
            let claim = claims.find(|c| c.slot == slot && c.offered_to.is_none());
            let Some(MemberSlot { epoch, load, .. }) = claim.cloned() else { continue };
            if !self.under_way.insert(slot) {
                continue;
            }
            tracing::info!(slot = slot.0, to, "a slot goes to another node");
            let reach = self.reach.clone();
            self.changes.spawn(async move {
                reach.release(slot).await;
                Changed::Given(slot, Offer { epoch, load, to: NodeId(to) })
            });
        }
    }

    fn changed(&mut self, changed: Changed) {
        match changed {
            Changed::Taken(slot, outcome) => {
                self.under_way.remove(&slot);
                match outcome {
                    Ok(Acquired::Mine) => tracing::info!(slot = slot.0, "owns a slot"),
                    Ok(Acquired::Theirs) => tracing::debug!(slot = slot.0, "it has an owner"),
                    Err(error) => {
                        tracing::error!(slot = slot.0, %error, "a slot is served by nobody");
                        self.not_before.insert(slot, Instant::now() + AGAIN_AFTER);
                    }
                }
            }
            Changed::Given(slot, offer) => {
                self.under_way.remove(&slot);
                self.offers.insert(slot, offer);
            }
        }
    }
}

fn seen(member: &Member) -> Seen<'_> {
    let claims = member.slots.iter().map(|claim| Claim {
        slot: claim.slot,
        epoch: claim.epoch,
        load: claim.load,
        offered_to: claim.offered_to.as_ref().map(|node| node.0.as_str()),
    });
    Seen {
        name: &member.node.0,
        run: member.incarnation.0,
        weight: member.weight,
        beat: member.beat,
        leaving: member.leaving,
        claims: claims.collect(),
    }
}
