//! Whoever asks a node for a slot of another one is told which node to ask, and where.

use millrace_e2e_tests::wait_until;
use millrace_proto::v1::join_service_client::JoinServiceClient;
use millrace_proto::v1::{CloseUpToRequest, JoinFault, JoinFaultKind, SlotOwner};
use tonic::transport::Channel;

use super::MOVED_WITHIN;
use crate::apart::Place;

/// How a node refuses a slot; `None` where it owns it.
async fn refusal(node: &mut JoinServiceClient<Channel>, slot: u32) -> Option<JoinFault> {
    let request = CloseUpToRequest { slot, known_at_us: 0 };
    node.close_up_to(request).await.expect("it answers").into_inner().fault
}

/// Asks each node for every slot, until all say the same: its owner serves it, and the others name the owner.
/// They learn of each other twice a second.
pub(super) fn assert_told(place: &Place, nodes: &[&'static str], slots: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    wait_until("owners that all nodes agree on", MOVED_WITHIN, || {
        runtime.block_on(agree(place, nodes, slots)).then_some(())
    });
}

async fn agree(place: &Place, nodes: &[&'static str], slots: u32) -> bool {
    let mut clients = Vec::new();
    for node in nodes {
        let endpoint = Channel::from_shared(place.services.endpoint(node)).expect("an address");
        clients.push(JoinServiceClient::new(endpoint.connect().await.expect("it listens")));
    }
    for slot in 0..slots {
        let (mut served, mut told) = (Vec::new(), Vec::new());
        for (node, client) in nodes.iter().zip(&mut clients) {
            match refusal(client, slot).await {
                None => served.push(*node),
                Some(fault) => told.push(fault),
            }
        }
        let [owner] = served.as_slice() else { return false };
        let endpoint = place.services.endpoint(owner);
        let is_right = |fault: &JoinFault| {
            assert_eq!(fault.slot, slot, "{fault:?}");
            let names = |to: &SlotOwner| to.node == *owner && to.endpoint == endpoint;
            fault.kind() == JoinFaultKind::Moved && fault.owner.as_ref().is_some_and(names)
        };
        if !told.iter().all(is_right) {
            return false;
        }
    }
    true
}
