//! The server against real clients on the loopback: what tonic alone gets wrong stays right.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

mod calls;
mod drain;
mod reflection;
mod support;
mod wire;
