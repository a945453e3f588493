//! The catalog: what streams, entities and views there are, read from one YAML file, checked whole
//! and lowered to what the kernel runs.
//!
//! Pure: no runtime, no driver, no clock. [`model`] is what every other crate sees.

pub mod model;
pub mod program;

pub use model::{
    Aggregate, BeyondRepair, Catalog, Feature, Field, FieldRef, KeyMapping, Kind, OpMapping,
    Source, Stream, StreamKind, TimeUnit, View, Window,
};
pub use program::{FieldSource, Program};
