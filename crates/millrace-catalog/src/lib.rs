//! The catalog: what streams, entities and views there are, read from one YAML file, checked whole
//! and lowered to what the kernel runs.
//!
//! Pure: no runtime, no driver, no clock. [`model`] is what every other crate sees;
//! [`Catalog::compile`] makes it, [`diff()`] tells two versions apart, and [`Program`] evaluates
//! conditions.

mod compile;
mod diagnostic;
pub mod diff;
mod duration;
pub mod limits;
pub mod model;
pub mod program;
mod render;
mod yaml;

pub use diagnostic::{Diagnostic, Rule};
pub use diff::{Change, diff};
pub use model::{
    Aggregate, BeyondRepair, Catalog, Feature, Field, FieldRef, KeyColumn, KeyMapping, Kind,
    OpMapping, Source, Stream, StreamKind, TimeUnit, View, Window,
};
pub use program::{FieldSource, Program};
