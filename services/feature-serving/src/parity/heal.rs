//! Healing: an entity of which an answer was wrong is handed to the owner of its slot, which makes it dirty
//! and rebuilds it from the log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millrace_client::port::{JoinError, SlotPort};
use millrace_types::{Entity, KnownAt, Position, SlotId};
use tokio::time::Instant;

use super::sample::Sample;
use super::tally::Tally;

/// Entities that wait for an owner that does not answer; those beyond are left to the next run.
const WAITING_MAX: usize = 256;
/// How often an owner is asked.
const ATTEMPTS: u32 = 10;
/// How long it is left alone after the first time, and at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long an owner may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Entities that are remembered to be healed.
const HEALED_MAX: usize = 1_024;

/// Whether a sample's entity is, or is about to be, what the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Healed {
    Yes,
    NotYet,
}

#[derive(Debug)]
struct Waiting {
    slot: SlotId,
    entity: Entity,
    of: (u32, KnownAt),
    attempts: u32,
    due: Instant,
}

/// Hands entities over.
pub(super) struct Healer {
    owner: Arc<dyn SlotPort>,
    waiting: VecDeque<Waiting>,
    /// As of which position they were dirty: older answers say nothing of what they are now.
    healed: HashMap<Entity, Position>,
    tally: Arc<Tally>,
}

impl Healer {
    pub(super) fn new(owner: Arc<dyn SlotPort>, tally: Arc<Tally>) -> Self {
        Self { owner, waiting: VecDeque::new(), healed: HashMap::new(), tally }
    }

    /// Hands over the entity of a sample, which stands in this place at this version.
    pub(super) async fn heal(&mut self, sample: Sample, of: (u32, KnownAt)) -> Healed {
        if self.healed.get(&sample.entity).is_some_and(|healed| sample.position < *healed) {
            return Healed::Yes;
        }
        if self.hand_over(sample.slot, &sample.entity).await {
            return Healed::Yes;
        }
        if self.waiting.len() < WAITING_MAX {
            let Sample { slot, entity, .. } = sample;
            let due = Instant::now() + FIRST;
            self.waiting.push_back(Waiting { slot, entity, of, attempts: 1, due });
        }
        Healed::NotYet
    }

    async fn hand_over(&mut self, slot: SlotId, entity: &Entity) -> bool {
        let asked = self.owner.suspect(slot, vec![entity.clone()]);
        // An owner whose store does not answer does not either.
        let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        match answer.unwrap_or(Err(JoinError::NotServing { slot })) {
            Ok(position) => {
                self.tally.rebuilds();
                if self.healed.len() >= HEALED_MAX {
                    // At worst some are rebuilt twice.
                    self.healed.clear();
                }
                self.healed.insert(entity.clone(), position);
                true
            }
            Err(error) => {
                tracing::warn!(%error, slot = slot.0, "the owner of a slot is not told what to rebuild");
                false
            }
        }
    }

    /// How long until the next one is due.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = self.waiting.iter().map(|waits| waits.due).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Tries those that are due again; gives the samples whose entities need nothing more.
    pub(super) async fn again(&mut self) -> Vec<(u32, KnownAt)> {
        let (now, mut done) = (Instant::now(), Vec::new());
        for _ in 0..self.waiting.len() {
            let Some(mut waits) = self.waiting.pop_front() else { break };
            if waits.due > now {
                self.waiting.push_back(waits);
                continue;
            }
            if self.hand_over(waits.slot, &waits.entity).await {
                done.push(waits.of);
                continue;
            }
            waits.attempts += 1;
            if waits.attempts < ATTEMPTS {
                let pause = FIRST * 2u32.saturating_pow(waits.attempts - 1);
                waits.due = Instant::now() + pause.min(LONGEST);
                self.waiting.push_back(waits);
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use millrace_client::port::SlotStatus;

    use super::super::sample::tests::sample;
    use super::*;

    /// Answers the first so many calls with a refusal, then with a position.
    struct Owner {
        refusals: Mutex<u32>,
        position: Position,
        asked: Mutex<Vec<(SlotId, Vec<Entity>)>>,
    }

    #[async_trait]
    impl SlotPort for Owner {
        async fn close_up_to(&self, slot: SlotId, _: KnownAt) -> Result<Position, JoinError> {
            Err(JoinError::NotServing { slot })
        }

        async fn suspect(&self, slot: SlotId, of: Vec<Entity>) -> Result<Position, JoinError> {
            self.asked.lock().unwrap().push((slot, of));
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(JoinError::NotServing { slot });
            }
            Ok(self.position)
        }

        async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
            Ok(Vec::new())
        }
    }

    fn healer(refusals: u32) -> (Arc<Owner>, Healer) {
        let position = Position { epoch: 7, sequence: (1 << 40) + 5 };
        let owner =
            Arc::new(Owner { refusals: Mutex::new(refusals), position, asked: Mutex::default() });
        (owner.clone(), Healer::new(owner, Tally::new()))
    }

    fn asked(owner: &Owner) -> usize {
        owner.asked.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn an_entity_is_handed_over_once_for_all_answers_before() {
        let (owner, mut healer) = healer(0);
        assert_eq!(healer.heal(sample(), (1, KnownAt(10))).await, Healed::Yes);
        assert_eq!(*owner.asked.lock().unwrap(), [(sample().slot, vec![sample().entity])]);
        assert_eq!(healer.heal(sample(), (2, KnownAt(11))).await, Healed::Yes);
        assert_eq!(asked(&owner), 1, "an answer of before it was dirty");
        let later = Sample { position: owner.position, ..sample() };
        assert_eq!(healer.heal(later, (3, KnownAt(12))).await, Healed::Yes);
        assert_eq!(asked(&owner), 2, "an answer of after it was");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_does_not_answer_is_asked_again_later() {
        let (owner, mut healer) = healer(2);
        assert_eq!(healer.heal(sample(), (1, KnownAt(10))).await, Healed::NotYet);
        assert_eq!(healer.again().await, [], "not at once");
        assert_eq!(asked(&owner), 1);
        tokio::time::advance(healer.due().unwrap()).await;
        assert_eq!(healer.again().await, [], "it refuses again");
        let pause = healer.due().unwrap();
        assert!(pause > FIRST, "{pause:?}");
        tokio::time::advance(pause).await;
        assert_eq!(healer.again().await, [(1, KnownAt(10))]);
        assert_eq!((asked(&owner), healer.due()), (3, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_an_owner_is_bounded_in_number_and_time() {
        let (owner, mut healer) = healer(u32::MAX);
        for place in 0..WAITING_MAX as u32 + 10 {
            assert_eq!(healer.heal(sample(), (place, KnownAt(1))).await, Healed::NotYet);
        }
        assert_eq!(healer.waiting.len(), WAITING_MAX);
        while let Some(due) = healer.due() {
            tokio::time::advance(due).await;
            assert_eq!(healer.again().await, []);
        }
        assert_eq!(asked(&owner), WAITING_MAX * ATTEMPTS as usize + 10);
    }
}
