//! The protocol of one slot as a state machine, searched whole within bounds.
//!
//! Runs of nodes take the slot over from each other, append, confirm, put marks, release, are cut off
//! and come back; every write they send may land at once, later, in parts, or never, also after its
//! sender is gone or believes it failed. [`search`] visits every state that can be reached and holds
//! each against the promises of the slot log. Where [`crate::history`] plays seeded histories through
//! the code itself, this knows nothing of the code and leaves no order of steps out.
//!
//! What is not modelled: versions of single entities (marks stand for all registers), clocks (a
//! version is an epoch and a count; a run may be ahead), several slots (they share nothing but the
//! node's row).

mod search;
mod state;
mod steps;

pub use search::{Found, search};
pub use state::State;

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Runs that are started, of two nodes in turn.
    pub runs: u8,
    /// Epochs that are opened.
    pub epochs: u8,
    /// Chunks that are appended to an epoch.
    pub chunks: u8,
    /// Conditional writes whose outcome their sender does not learn; they may execute later, or never.
    pub unknown: u8,
    /// Marks that a run puts.
    pub marks: u8,
    /// Whether owners release the slot.
    pub releases: bool,
}

/// The step of the protocol that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// None of them: every promise holds.
    Nothing,
    /// Fencing the old owner before its epoch is sealed.
    Fence,
    /// The confirmation before a chunk is acknowledged.
    Confirmation,
    /// Beginning the confirmation after the append succeeded: it is read before.
    ConfirmationAfterAppend,
    /// Comparing the run in the confirmation, not its fence alone.
    Incarnation,
    /// Writing the last chunk found once more before its epoch is sealed.
    RewriteOfLast,
    /// Taking the end from the row that stands, whoever wrote it.
    EndOfRow,
    /// A floor of versions that is kept per slot.
    Floor,
    /// Marks of confirmed chunks alone.
    ConfirmedMarks,
    /// Silence after a release was sent.
    SilenceAfterRelease,
    /// Releasing only when no append is under way.
    QuietRelease,
}
