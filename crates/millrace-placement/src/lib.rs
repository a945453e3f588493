//! Which slot an entity belongs to, which node should own a slot, and which worker of it serves it.
//!
//! Pure: the hash itself is [`millrace_types::entity::entity_hash`]; this crate takes its top bits.

pub mod members;
pub mod nodes;
pub mod slots;
pub mod workers;

pub use members::{Claim, Seen, Step, Watch};
pub use nodes::{Move, Node, NodesError, Ring, SlotNow};
pub use slots::{SLOTS_MAX, Slots, SlotsError};
pub use workers::{WorkerMap, WorkerMapError};
