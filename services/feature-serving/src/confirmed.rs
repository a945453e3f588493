//! What is confirmed in the log now. Only the owner of a slot knows; what a mark says of a slot that nobody
//! owns lacks what was acknowledged since.

use std::time::Duration;

use millrace_client::port::{JoinError, SlotPort, SlotStatus};
use millrace_placement::Slots;
use millrace_types::SlotId;
use tokio::time::{Instant, sleep};

/// How long a read waits for slots without an owner. A node that dies is missed after its lease, and its
/// slots are served again a second later.
const OWNED_WITHIN: Duration = Duration::from_secs(15);

/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The states of the slots that are wanted as their owners have them, with everything that was acknowledged
/// before the call. Waits for slots that are between two owners.
///
/// # Errors
/// [`JoinError::NotServing`] when a slot has no owner for too long; those of the port.
pub(crate) async fn confirmed(
    owner: &dyn SlotPort,
    slots: Slots,
    wanted: impl Fn(SlotId) -> bool,
) -> Result<Vec<SlotStatus>, JoinError> {
    let until = Instant::now() + OWNED_WITHIN;
    loop {
        let mut states = owner.status().await?;
        states.retain(|state| wanted(state.slot));
        let is_owned = |id: SlotId| states.iter().any(|state| state.slot == id && state.is_owned);
        let Some(slot) = slots.iter().find(|id| wanted(*id) && !is_owned(*id)) else {
            return Ok(states);
        };
        if Instant::now() >= until {
            return Err(JoinError::NotServing { slot });
        }
        // Nothing tells of a new owner but asking.
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use millrace_types::{Entity, KnownAt, Position};

    use super::*;

    /// Two slots: the first is always owned, the second after so many looks.
    struct Owners {
        looks: AtomicU64,
        owned_after: u64,
    }

    impl Owners {
        fn of(owned_after: u64) -> Self {
            Self { looks: AtomicU64::new(0), owned_after }
        }

        fn state(slot: u32, is_owned: bool, sequence: u64) -> SlotStatus {
            let position = Position { epoch: 1, sequence };
            SlotStatus { is_owned, position, ..SlotStatus::new(SlotId(slot)) }
        }
    }

    #[async_trait]
    impl SlotPort for Owners {
        async fn close_up_to(&self, slot: SlotId, _: KnownAt) -> Result<Position, JoinError> {
            Err(JoinError::NotServing { slot })
        }

        async fn suspect(&self, slot: SlotId, _: Vec<Entity>) -> Result<Position, JoinError> {
            Err(JoinError::NotServing { slot })
        }

        async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
            let looks = self.looks.fetch_add(1, Ordering::Relaxed);
            // Its mark is older than what it acknowledged.
            let second = match looks >= self.owned_after {
                true => Self::state(1, true, 9),
                false => Self::state(1, false, 3),
            };
            Ok(vec![Self::state(0, true, 5), second])
        }
    }

    fn two() -> Slots {
        Slots::try_new(2).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_between_two_owners_is_waited_for() {
        let states = confirmed(&Owners::of(7), two(), |_| true).await.unwrap();
        let ends: Vec<u64> = states.iter().map(|state| state.position.sequence).collect();
        assert_eq!(ends, [5, 9], "not what its mark says");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_nobody_takes_is_told() {
        let error = confirmed(&Owners::of(u64::MAX), two(), |_| true).await.unwrap_err();
        assert!(matches!(error, JoinError::NotServing { slot: SlotId(1) }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_slots_that_are_wanted_are_waited_for() {
        let owners = Owners::of(u64::MAX);
        let states = confirmed(&owners, two(), |slot| slot.0 == 0).await.unwrap();
        assert_eq!(states.len(), 1);
        assert_eq!(owners.looks.into_inner(), 1, "it is there at once");
    }
}
