//! A small model of the slot log: nodes take slots over from each other, append, put heads and
//! marks, release, crash and start again, through the real store-writer and the real steps of
//! ownership, on the in-memory store whose calls are lost, torn, delayed, unknown or landing late.
//!
//! [`protocol`] is the other half: the protocol itself as a state machine, every state of it visited.
//!
//! A seed decides everything: who goes on ([`schedule`]), which calls go wrong, what each node does
//! ([`node`]). What readers and owners saw is written down on the way ([`world`]) and held against
//! the log that stands in the end ([`verdict`]). With one step of the protocol left out
//! ([`Broken`]), some history must break a promise: a checker that finds nothing proves nothing.

pub mod history;
pub mod node;
pub mod port;
pub mod protocol;
pub mod reader;
pub mod schedule;
pub mod server;
pub mod snapshot;
pub mod verdict;
pub mod world;

/// The step that is left out. Each is done by a wrapper around the store or by the model's node:
/// the code under test has no such switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// None: every promise holds.
    Nothing,
    /// The old owner is not fenced before its epoch is sealed.
    NoFence,
    /// A chunk is acknowledged once it is appended: a verdict before its confirmation.
    NoConfirmation,
    /// The confirmation reads the node's newest run instead of the writer's own.
    IncarnationNotCompared,
    /// The floor is that of the fenced owner alone, not kept per slot.
    FloorNotKept,
    /// The end of an epoch is what its taker read before the fence, not what the row states.
    EndFromMemory,
    /// A mark is written for a chunk that is not confirmed yet.
    MarkAhead,
    /// A page keeps its name when its content changes.
    PageInPlace,
    /// A dropped page is deleted without a confirmation after the head that dropped it.
    DeleteUnconfirmed,
    /// A slot is released while an append is under way.
    ReleaseEarly,
}
