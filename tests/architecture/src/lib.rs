//! The rules that keep the code in the shape of ARCHITECTURE.md, as pure checks over what cargo and
//! the source tree say.
//!
//! Reviews miss an arrow that points up; a test does not. Every check takes its input as a value, so
//! that its own tests can show it a made-up workspace in which it must fail. `tests/workspace.rs`
//! runs all of them on this one.

mod graph;
mod layers;
mod manifests;
mod protos;
mod rust_code;
mod sources;
mod text_rules;

use std::fmt;

pub use graph::{Dependency, DependencyKind, Graph, GraphError, Package};
pub use layers::{PURE_CRATES, check_adapters, check_arrows, check_pure_crates, check_xtask};
pub use manifests::check_manifest;
pub use protos::check_proto;
pub use rust_code::without_comments_and_text;
pub use sources::{SourceError, SourceFile, read_sources, workspace_root};
pub use text_rules::{check_machine_paths, check_rust_file, check_size};

/// A rule that is broken somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where: a crate, or a file with a line.
    pub place: String,
    /// Which rule, and what was found instead.
    pub problem: String,
}

impl Violation {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of violations, for comparisons.
    pub(crate) fn places(violations: &[Violation]) -> Vec<&str> {
        violations.iter().map(|violation| violation.place.as_str()).collect()
    }
}
