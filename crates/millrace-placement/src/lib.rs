//! Which slot an entity belongs to, and which worker serves a slot.
//!
//! Pure: the hash itself is [`millrace_types::entity::entity_hash`]; this crate takes its top bits.

pub mod slots;
pub mod workers;

pub use slots::{SLOTS_MAX, Slots, SlotsError};
pub use workers::{WorkerMap, WorkerMapError};
