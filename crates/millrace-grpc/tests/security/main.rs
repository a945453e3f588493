//! TLS, and who may do what, with certificates made here.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

mod access;
mod certificates;
mod support;
mod tls;
