//! Storage ports: what Millrace asks of a store, in the steps of the slot-log protocol, plus the
//! in-memory adapter with injected faults and the conformance suite every adapter passes.

pub mod port;

pub use port::*;
