//! The ports over gRPC: what stands in a service's place when it runs in another process.
//!
//! A call that breaks has an unknown outcome. [`RemoteStore`] repeats such calls unchanged, as the
//! slot-log protocol wants it; [`RemoteJoin`] reports them, since ingest has to hold its watermarks
//! back before it sends facts again.

mod erasures;
mod hop;
mod join;
mod joins;
mod loads;
mod patience;
mod peer;
mod store;

pub use join::RemoteJoin;
pub use joins::{RemoteJoins, owners_of};
pub use patience::Persistence;
pub use peer::RemotePeer;
pub use store::RemoteStore;
