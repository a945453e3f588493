//! The invariants of Millrace by name. Tests, the simulator and production counters use these ids,
//! so that a failure says which promise it breaks.

/// An invariant: its id and its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Invariant {
    /// The short name.
    pub id: &'static str,
    /// What must hold.
    pub statement: &'static str,
}

macro_rules! invariants {
    ($($name:ident: $statement:literal;)*) => {
        $(#[doc = $statement]
        pub const $name: Invariant = Invariant { id: stringify!($name), statement: $statement };)*
        /// Every invariant.
        pub const ALL: &[Invariant] = &[$($name),*];
    };
}

invariants! {
    ACK: "an acknowledged fact is in the log; it is never lost";
    ONCE: "a fact has one effect, however often and by whom it is sent";
    VERDICT: "each fact of an acknowledged batch gets exactly one verdict, and none before its evidence is confirmed";
    CONVERGE: "per (fact, entity): any order, duplication, crash or resize ends, once no entity is dirty, in the batch oracle's answer over all facts not REJECTED or LATE, bit for bit";
    POINT: "no value uses a fact with at beyond the read's at or known_at beyond its known_at";
    PARITY: "an online answer equals the offline one for its version token, bit for bit";
    EXACT_UNDO: "a retraction equals what was emitted";
    MARK: "a watermark never goes back; nothing final changes without a correction record";
    FENCE: "no snapshot or mark of a smaller version replaces a greater one; nothing beyond an epoch's end is ever read";
    BOUND: "every queue, cache and window has a bound in facts and bytes, and the counters show it kept";
}
