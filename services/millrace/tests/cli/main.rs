//! The binary as scripts use it: real processes against a server that the tests play, which answers
//! by rules written down in [`server`].

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

mod catalogs;
mod damaged;
mod doctor;
mod help;
mod imports;
mod operations;
mod parity;
mod process;
mod publish;
mod reads;
mod secure;
mod server;
