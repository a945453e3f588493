//! The vocabulary of every Millrace crate: values, rows, facts, entities, positions, verdicts and
//! chunks, with the one binary form each of them has.
//!
//! This crate is pure: no runtime, no driver and no clock. Every byte layout here is persisted in
//! the slot log or in snapshots, so a layout never changes without a new version byte.

pub mod chunk;
pub mod codec;
pub mod entity;
pub mod fact;
pub mod filled;
pub mod invariants;
pub mod limits;
pub mod outcome;
pub mod position;
pub mod retained;
pub mod row;
pub mod time;
pub mod value;
pub mod verdict;

pub use chunk::{
    Boundaries, Chunk, ChunkHeader, ErasedEntity, ErasureNotes, IncarnationWatermarks, Rebuilt,
    RetentionNotes, StreamWatermark,
};
pub use codec::DecodeError;
pub use entity::{Entity, EntityKey, KeyPart, KeyType, KindId, SlotId};
pub use fact::{Fact, FactBody, FactView, Op, OrderKey, StreamId};
pub use filled::Filled;
pub use outcome::{FeatureValue, Status};
pub use position::{KnownAt, Position, Sequence};
pub use retained::Retained;
pub use row::{Row, RowTypes, RowView};
pub use time::Micros;
pub use value::{FieldType, Value, ValueRef};
pub use verdict::{Judged, RejectReason, Verdict, VerdictCounts};
