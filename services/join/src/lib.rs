//! The join service: owns slots, judges micro-batches into chunks of their logs, keeps heads, emits
//! changes. The decisions are the kernel's; here are threads, queues and the store.
//!
//! A worker thread owns a set of slots and shares nothing: everything comes and goes as messages.

mod clock;
mod config;
#[doc(hidden)]
pub mod decoders;
mod elsewhere;
mod grpc;
mod message;
pub mod metrics;
mod owners;
mod reach;
mod service;
mod stop;
mod subscribe;
mod worker;

pub use config::{BackfillLimits, Beside, JoinConfig};
pub use grpc::JoinGrpc;
pub use service::{JoinService, StartError};
pub use stop::Stop;
