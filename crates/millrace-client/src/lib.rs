//! Ports between the services, and the gRPC client library for producers and readers.
//!
//! A hop between services is a port: a trait whose messages are owned data. In one process the
//! service behind it is called directly; apart, a gRPC client stands in its place.
//!
//! [`Client`] is for everybody else: it connects when it first has to, tries a service that cannot
//! be reached again for a while, gives every call a deadline, and turns statuses into typed errors.
//! [`Publisher`] sends batches on one call, many at a time, and sends what was not answered again
//! when the connection breaks.

#[cfg(feature = "arrow")]
pub mod arrow;
mod client;
mod endpoints;
mod error;
pub mod heads;
mod hedge;
mod pauses;
mod pool;
pub mod port;
mod publisher;
mod reach;
pub mod remote;
mod security;
mod subscription;
#[cfg(feature = "arrow")]
mod training;
mod trust;
pub mod wire;

pub use client::{Client, ClientOptions};
pub use endpoints::{DEFAULT_ENDPOINT, EndpointError, Endpoints};
pub use error::{ClientError, FieldViolation, Refusal};
pub use publisher::{Batch, Outcomes, Payload, Published, Publisher, PublisherOptions};
pub use security::ClientSecurity;
pub use subscription::Subscription;
#[cfg(feature = "arrow")]
pub use training::{TrainingRows, TrainingSet, TrainingSpine};
pub use trust::{NotTrusted, TrustProblem};
