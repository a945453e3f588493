//! Whom limits count as one caller.

use std::net::{IpAddr, Ipv6Addr};

use tonic::Request;

use crate::PeerInfo;

/// What counts as one caller where callers share something: an address, or the network of 64 bits of
/// an IPv6 address, all of which whoever has one address has. Callers whose address is not known are
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PeerNetwork(Option<IpAddr>);

impl PeerNetwork {
    /// The network of an address.
    #[must_use]
    pub fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(network))
    }
}

/// Who makes a call.
pub fn peer_of<T>(request: &Request<T>) -> PeerNetwork {
    let info = request.extensions().get::<PeerInfo>();
    PeerNetwork::of(info.and_then(PeerInfo::address).map(|address| address.ip()))
}

/// What counts as one address. Whoever has an IPv6 address has the whole network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}
