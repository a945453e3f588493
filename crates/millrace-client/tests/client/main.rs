//! The client against servers that a test plays.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

mod calls;
mod credits;
mod hop;
mod publisher;
mod support;
mod trust;
