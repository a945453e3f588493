//! Why a join service stops for good.

use millrace_client::port::JoinError;
use millrace_store::{NodeId, StoreError};
use millrace_types::SlotId;

/// Nothing more is acknowledged, and the process ends.
#[derive(Debug, Clone)]
pub enum Stop {
    /// Another process fenced this one.
    Fenced(NodeId),
    /// The store cannot write.
    Store(StoreError),
}

impl Stop {
    /// What whoever waits for this slot is told. A fenced node's slots are served by those who fenced it:
    /// what was not answered here is to be sent there, where what is in the log already is a DUPLICATE.
    pub(crate) fn told(&self, slot: SlotId) -> JoinError {
        match self {
            Self::Fenced(_) => JoinError::NotServing { slot },
            Self::Store(error) => JoinError::Store(error.clone()),
        }
    }

    /// The same to those of this process that need the store.
    pub(crate) fn error(&self) -> StoreError {
        match self {
            Self::Fenced(node) => {
                let reason = format!("node {} was fenced by another process", node.0);
                StoreError::Failed { reason }
            }
            Self::Store(error) => error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_node_sends_its_callers_on_and_a_broken_store_does_not() {
        let told = Stop::Fenced(NodeId("join-1".to_owned())).told(SlotId(3));
        assert!(matches!(told, JoinError::NotServing { slot: SlotId(3) }), "{told:?}");
        let broken = Stop::Store(StoreError::Failed { reason: "no space".to_owned() });
        assert!(matches!(broken.told(SlotId(3)), JoinError::Store(StoreError::Failed { .. })));
        let error = Stop::Fenced(NodeId("join-1".to_owned())).error();
        assert!(error.to_string().contains("join-1"), "the process says who was fenced: {error}");
    }
}
