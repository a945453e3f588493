//! The join services of a cluster, each asked about its own slots. Who owns which slot is read from what
//! the nodes tell of themselves in the store; a node that does not own a slot any more refuses and says who
//! does, as far as it knows: that one is asked next, while it is read anew.

mod owners;
mod redirects;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_placement::Slots;
use millrace_store::{Member, StoreError};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::port::{
    Failed, Holds, JoinError, JoinPort, PeerPort, PendingVerdicts, Place, ProcessRequest, Routes,
    SlotGrant, SlotPort, SlotStatus, StorePort,
};
use crate::security::ClientSecurity;
pub use owners::owners_of;
use owners::{Owner, Owners};
use redirects::Redirects;

/// How often owners are looked for, and for how long how often once somebody missed one: that slots are
/// served again is known soon after it is so.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a read waits for a slot that is between two owners: a node that dies is missed after its lease,
/// and its slots are served again a second later.
const MOVED_WITHIN: Duration = Duration::from_secs(15);

/// The join services.
#[derive(Debug)]
pub struct RemoteJoins {
    newest: watch::Receiver<Arc<Owners>>,
    /// The owners that requests of ingest go to since [`JoinPort::begin`] was called last.
    adopted: Mutex<Arc<Owners>>,
    redirects: Arc<Redirects>,
    /// All slots were served once.
    began: AtomicBool,
    _follows: AbortOnDropHandle<()>,
}

impl RemoteJoins {
    /// The join services of the cluster of this store. Must be made within a tokio runtime.
    #[must_use]
    pub fn new(store: Arc<dyn StorePort>, slots: Slots, security: ClientSecurity) -> Self {
        let first = Arc::new(Owners::nobody(slots));
        let (tell, newest) = watch::channel(first.clone());
        let redirects = Arc::new(Redirects::default());
        let follows = tokio::spawn(follow(store, slots, security, tell, redirects.clone()));
        let follows = AbortOnDropHandle::new(follows);
        let began = AtomicBool::new(false);
        Self { newest, adopted: Mutex::new(first), redirects, began, _follows: follows }
    }

    fn newest(&self) -> Arc<Owners> {
        self.newest.borrow().clone()
    }

    fn adopted(&self) -> Arc<Owners> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody owns the slot, as far as is known.
    fn nobody(&self, slot: SlotId) -> JoinError {
        self.redirects.look();
        JoinError::NotServing { slot }
    }

    /// What each owner gets of a request: facts for its slots, or what is stated of them.
    fn parts(
        &self,
        owners: &Owners,
        mut head: ProcessRequest,
    ) -> Result<Vec<(Arc<Owner>, ProcessRequest)>, JoinError> {
        let slots = std::mem::take(&mut head.slots);
        if slots.is_empty() {
            let part = |owner: &Arc<Owner>| {
                let routes = Routes::Slots(owner.slots.clone());
                (owner.clone(), ProcessRequest { routes, ..head.clone() })
            };
            return Ok(owners.all().iter().map(part).collect());
        }
        let mut by_owner: Vec<Vec<_>> = owners.all().iter().map(|_| Vec::new()).collect();
        for facts in slots {
            let slot = facts.slot;
            let owner = owners.index_of(slot).ok_or_else(|| self.nobody(slot))?;
            by_owner[owner].push(facts);
        }
        let parts = owners.all().iter().zip(by_owner).filter(|(_, facts)| !facts.is_empty());
        let part = |(owner, slots): (&Arc<Owner>, _)| {
            (owner.clone(), ProcessRequest { slots, ..head.clone() })
        };
        Ok(parts.map(part).collect())
    }
}

/// Looks for the owners again and again, and at once when asked to.
async fn follow(
    store: Arc<dyn StorePort>,
    slots: Slots,
    security: ClientSecurity,
    tell: watch::Sender<Arc<Owners>>,
    redirects: Arc<Redirects>,
) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed_until = Instant::now();
    let mut members = Vec::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = redirects.asked() => {
                missed_until = Instant::now() + MOVED_WITHIN;
                adopt(&tell, &redirects.over(&members, slots), slots, &security);
            }
        }
        let is_missed = Instant::now() < missed_until;
        tick.reset_after(if is_missed { LOOK_AGAIN } else { LOOK_EVERY });
        if !is_missed {
            redirects.forget();
        }
        match store.members().await {
            Ok(told) => members = told,
            Err(error) => {
                tracing::debug!(%error, "the join nodes are not known");
                continue;
            }
        }
        adopt(&tell, &redirects.over(&members, slots), slots, &security);
    }
}

/// Tells of the owners that these members are, where they are others than before.
fn adopt(
    tell: &watch::Sender<Arc<Owners>>,
    members: &[Member],
    slots: Slots,
    security: &ClientSecurity,
) {
    let now = tell.borrow().clone();
    if let Some(newer) = now.follow(slots, members, security) {
        tell.send_replace(Arc::new(newer));
    }
}

/// Waits for the verdicts of all owners.
async fn gather(pending: Vec<(Arc<Owner>, Option<PendingVerdicts>)>, holds: &Holds) -> Outcome {
    let (mut landed, mut failure) = (Vec::new(), None);
    for (owner, verdicts) in pending {
        let answer = match verdicts {
            None => None,
            Some(verdicts) => tokio::select! {
                answer = verdicts => answer.ok(),
                // Its slots belong to others: what it did not confirm so far it never will.
                () = owner.gone.cancelled() => None,
            },
        };
        match answer {
            Some(Ok(verdicts)) => landed.extend(verdicts),
            Some(Err(failed)) => {
                landed.extend(failed.landed);
                failure.get_or_insert((failed.error, failed.hold));
            }
            None => {
                let reason = format!("{} does not answer any more", owner.node.0);
                let unknown = StoreError::Unknown { operation: "process", reason };
                failure.get_or_insert_with(|| (JoinError::Store(unknown), holds.hold()));
            }
        }
    }
    match failure {
        None => Ok(landed),
        Some((error, hold)) => Err(Failed { error, hold, landed }),
    }
}

/// Whether another node may answer soon: the slot is between two owners, or its owner died and is not missed
/// yet. All else is told at once.
fn may_move(error: &JoinError) -> bool {
    matches!(
        error,
        JoinError::NotServing { .. }
            | JoinError::Moved { .. }
            | JoinError::Store(StoreError::Unavailable { .. })
    )
}

type Outcome = Result<Vec<crate::port::SlotVerdicts>, Failed>;

#[async_trait]
impl JoinPort for RemoteJoins {
    /// The least of any of them: a batch may have facts for all. Those that stated none yet give
    /// what they have once the first batch is there.
    fn credits(&self) -> SlotGrant {
        let newest = self.newest();
        let grants = newest.all().iter().map(|owner| owner.join.credits());
        let stated = grants.filter(|grant| grant.facts > 0);
        stated
            .reduce(|a, b| SlotGrant { facts: a.facts.min(b.facts), bytes: a.bytes.min(b.bytes) })
            .unwrap_or_default()
    }

    fn begin(&self) -> u64 {
        let newest = self.newest();
        for owner in newest.all() {
            owner.join.begin();
        }
        let version = newest.version();
        *self.adopted.lock().unwrap_or_else(PoisonError::into_inner) = newest;
        version
    }

    async fn moved(&self, since: u64) {
        let mut newest = self.newest.clone();
        if newest.wait_for(|owners| owners.version() != since).await.is_err() {
            // Nobody looks any more: the process goes down.
            std::future::pending::<()>().await;
        }
    }

    async fn process(
        &self,
        request: ProcessRequest,
        holds: &Holds,
    ) -> Result<PendingVerdicts, JoinError> {
        // A replay states no watermark that could pass facts on another way, and its sender never began:
        // it goes to the owners of now.
        let owners = if request.replays_late { self.newest() } else { self.adopted() };
        let parts = self.parts(&owners, request)?;
        let mut pending = Vec::with_capacity(parts.len());
        for (owner, part) in parts {
            let handed = tokio::select! {
                handed = owner.join.process(part, holds) => Some(handed?),
                // It is told as lost below.
                () = owner.gone.cancelled() => None,
            };
            pending.push((owner, handed));
        }
        let (sender, receiver) = oneshot::channel();
        let (holds, redirects) = (holds.clone(), self.redirects.clone());
        tokio::spawn(async move {
            let outcome = gather(pending, &holds).await;
            if let Err(failed) = &outcome {
                redirects.after(&failed.error);
            }
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(outcome);
        });
        Ok(receiver)
    }
}

#[async_trait]
impl SlotPort for RemoteJoins {
    async fn close_up_to(&self, slot: SlotId, known_at: KnownAt) -> Result<Position, JoinError> {
        let until = Instant::now() + MOVED_WITHIN;
        let mut newest = self.newest.clone();
        loop {
            let owners = newest.borrow_and_update().clone();
            let closed = match owners.index_of(slot) {
                Some(owner) => {
                    let owner = &owners.all()[owner];
                    tokio::select! {
                        closed = owner.join.close_up_to(slot, known_at) => closed,
                        // Its slots belong to others, whether it answers or not.
                        () = owner.gone.cancelled() => Err(JoinError::NotServing { slot }),
                    }
                }
                None => Err(JoinError::NotServing { slot }),
            };
            match closed {
                Err(error) if may_move(&error) && Instant::now() < until => {
                    self.redirects.after(&error);
                    let again = until.min(Instant::now() + LOOK_EVERY);
                    // Known or not by then, the slot is asked for again.
                    let _ = timeout_at(again, newest.changed()).await;
                }
                closed => return closed,
            }
        }
    }

    /// By its owner now; whoever asks asks again later.
    async fn suspect(&self, slot: SlotId, entities: Vec<Entity>) -> Result<Position, JoinError> {
        let owners = self.newest();
        match owners.index_of(slot) {
            Some(owner) => {
                let suspected = owners.all()[owner].join.suspect(slot, entities).await;
                suspected.inspect_err(|error| self.redirects.after(error))
            }
            None => {
                self.redirects.look();
                Err(JoinError::NotServing { slot })
            }
        }
    }

    /// Of the slots that have an owner, as these say.
    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        let owners = self.newest();
        let asked = owners.all().iter().map(|owner| owner.join.status());
        let mut slots: Vec<SlotStatus> = Vec::new();
        let answers = futures::future::join_all(asked).await;
        let none = answers.iter().all(Result::is_err);
        for answer in answers {
            match answer {
                Ok(of_one) => slots.extend(of_one),
                Err(error) if none => return Err(error),
                Err(error) => tracing::debug!(%error, "the state of a join node"),
            }
        }
        // In the middle of a move two may say that they have it: the later epoch is right.
        slots.sort_by_key(|slot| (slot.slot, std::cmp::Reverse(slot.position)));
        slots.dedup_by_key(|slot| slot.slot);
        Ok(slots)
    }
}

#[async_trait]
impl PeerPort for RemoteJoins {
    fn name(&self) -> &'static str {
        "join"
    }

    /// At first every slot has an owner, and all owners serve. From then on one that serves is enough: a
    /// slot that moves, or whose owner died, keeps what waits for it waiting, and nothing else.
    async fn serves(&self) -> Result<(), String> {
        let owners = self.newest();
        let unowned = owners.unowned();
        if unowned.is_some() {
            self.redirects.look();
        }
        let peers: Vec<_> = owners.all().iter().map(|owner| owner.join.peer()).collect();
        let answers = futures::future::join_all(peers.iter().map(PeerPort::serves)).await;
        let named = |(owner, answer): (&Arc<Owner>, Result<(), String>)| {
            answer.map_err(|why| format!("{}: {why}", owner.node.0))
        };
        let answers: Vec<Result<(), String>> =
            owners.all().iter().zip(answers).map(named).collect();
        if self.began.load(Ordering::Acquire) {
            return one_serves(answers);
        }
        all_serve(unowned, answers)?;
        self.began.store(true, Ordering::Release);
        Ok(())
    }

    /// The nodes that own slots.
    async fn places(&self) -> Vec<Place> {
        let owners = self.newest();
        let place = |owner: &Arc<Owner>| {
            let owner = owner.clone();
            async move {
                let silence = owner.join.peer().asked().await.err();
                let (node, endpoint) = (owner.node.0.clone(), owner.endpoint.clone());
                Place { node: Some(node), endpoint, silence }
            }
        };
        futures::future::join_all(owners.all().iter().map(place)).await
    }
}

/// Every slot has an owner, and each of these owners said that it serves.
fn all_serve(unowned: Option<SlotId>, answers: Vec<Result<(), String>>) -> Result<(), String> {
    match unowned {
        Some(slot) => Err(format!("slot {} has no owner yet", slot.0)),
        None => answers.into_iter().collect(),
    }
}

/// One of these owners said that it serves.
fn one_serves(answers: Vec<Result<(), String>>) -> Result<(), String> {
    let none = Err("no node owns a slot".to_owned());
    answers.into_iter().reduce(|one, another| one.or(another)).unwrap_or(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_first_all_slots_are_served_and_later_one_node_is_enough() {
        let gone = || Err("join-1: it is not reachable".to_owned());
        let unowned = Err("slot 3 has no owner yet".to_owned());
        assert_eq!(all_serve(Some(SlotId(3)), vec![Ok(()), Ok(())]), unowned);
        assert_eq!(all_serve(None, vec![Ok(()), gone()]), gone());
        assert_eq!(all_serve(None, vec![Ok(()), Ok(())]), Ok(()));
        assert_eq!(one_serves(vec![gone(), Ok(())]), Ok(()));
        assert_eq!(one_serves(vec![Ok(()), gone()]), Ok(()));
        assert_eq!(one_serves(vec![gone(), gone()]), gone());
        assert_eq!(one_serves(Vec::new()), Err("no node owns a slot".to_owned()));
    }

    #[test]
    fn a_slot_is_waited_for_where_another_node_may_answer_and_nowhere_else() {
        let reason = || "a reason".to_owned();
        let unreachable = StoreError::Unavailable { operation: "join", reason: reason() };
        assert!(may_move(&JoinError::NotServing { slot: SlotId(1) }));
        assert!(may_move(&JoinError::Store(unreachable)));
        for told in [
            StoreError::NotTrusted { reason: reason() },
            StoreError::Failed { reason: reason() },
            StoreError::Damaged { what: reason(), reason: reason() },
        ] {
            assert!(!may_move(&JoinError::Store(told.clone())), "{told}");
        }
        assert!(!may_move(&JoinError::UnknownCatalog(2)));
    }
}
