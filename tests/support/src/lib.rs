//! What the tests of all crates share: the naive oracle that judges the product, a naive mapping
//! of records to facts, generators of random catalogs and histories, and the real data sets.
//!
//! The oracle, the `where` evaluator and the record mapping are written from the semantics alone.
//! They share the vocabulary (values, facts, entities) and the catalog's checked structure with the
//! product, and no computation.

pub mod condition;
pub mod exact;
pub mod generate;
pub mod ingest;
pub mod joined_row;
pub mod oracle;
pub mod order;
pub mod real_data;
pub mod record;
pub mod wheres;

pub use joined_row::JoinedRow;
pub use oracle::Oracle;
pub use record::RawRecord;
pub use wheres::Wheres;
