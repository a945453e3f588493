//! The feature-serving service: online and as-of reads, from live heads where they cover a read and
//! from the slot log, by the same function, where they do not.

mod admin;
mod answer;
mod clock;
mod confirmed;
#[doc(hidden)]
pub mod decoders;
mod erase;
mod error;
mod explain;
mod lane;
mod late;
mod log_read;
pub mod metrics;
mod nodes;
pub mod parity;
mod pipeline;
mod plans;
mod read;
mod service;
mod stored;
mod training;

pub use admin::Admin;
pub use error::ReadError;
pub use lane::LaneLimits;
pub use read::{HeadPath, Moment, Read, Reader, ReaderConfig, ReaderPorts};
pub use service::FeatureServing;
pub use stored::{StoredHeads, StoredLimits};
