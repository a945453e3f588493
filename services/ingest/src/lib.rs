//! The ingest service: takes batches of facts in, checks every fact, shards them by slot, hands
//! them to the join service in order, and answers with one verdict a fact.
//!
//! - Pure: [`arrow`], [`batch`], [`encode`], [`reject`], [`verdicts`] and [`watermark`] know no
//!   runtime and no clock.
//! - [`ingest`] is the core that both RPCs share, behind the ports of `millrace-client`;
//!   [`service`] puts it on a gRPC server, and [`catalog`] keeps the catalog.

pub mod arrow;
pub mod batch;
pub mod budget;
pub mod catalog;
mod catalog_service;
pub mod clock;
mod columns;
pub mod encode;
pub mod error;
mod flight;
pub mod ingest;
pub mod metrics;
mod publish;
pub mod reject;
mod request;
mod rows;
pub mod service;
mod settled;
mod slot_credits;
#[cfg(test)]
mod testing;
mod typed;
pub mod verdicts;
pub mod watermark;
mod windows;

pub use catalog::CatalogHandle;
pub use catalog_service::CatalogApi;
pub use clock::{Clock, SystemClock};
pub use error::IngestError;
pub use ingest::{Ingest, IngestConfig, IngestPorts};
pub use service::{IngestApi, punctuate};
