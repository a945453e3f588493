//! What every gRPC server of Millrace shares: how errors become statuses, the limits of a server in
//! one place, deadlines, admission, turns, health, reflection and a drain that ends in bounded time.
//!
//! tonic alone leaves gaps that a server must not have: no bound on streams and resets of a
//! connection, none on control frames, silent connections and responses that nobody takes, deadlines
//! that do not reach streams and end as CANCELLED, a graceful shutdown that one open stream holds up
//! for ever. They are closed here, once, for all services.

mod access;
mod code;
mod deadline;
mod drain;
mod health;
mod limits;
pub mod metrics;
mod peer;
mod security;
pub mod server;
pub mod services;
pub mod status;
mod tls;
mod trace;
mod turns;

pub use access::{Access, AccessError, Caller, Need, Roles, need};
pub use code::ErrorCode;
pub use deadline::Deadline;
pub use drain::Drain;
pub use health::Health;
pub use limits::{DrainLimits, FrameLimits, ServerLimits};
pub use peer::{PeerNetwork, peer_of};
pub use security::{ExposedError, Security};
pub use server::{Drained, GrpcServer, PeerInfo, ServeError};
pub use status::{Coded, ERROR_DOMAIN, Fault, status};
pub use tls::{ClientCertificates, ServerTls, TlsError};
pub use trace::{carry_trace, trace_of};
pub use turns::{Place, Turn, Turns};
