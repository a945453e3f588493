//! The pure core of Millrace: sets of facts, as-of joins, windows, exact aggregates, repair,
//! rebuilds, verdicts and watermarks. No runtime, no driver, no clock: every decision is a function
//! of what is passed in.

pub mod aggregate;
mod changes;
mod entity;
pub mod erase;
mod evaluate;
mod evict;
pub mod explain;
mod facts;
#[cfg(all(feature = "fault-injection", debug_assertions))]
pub mod fault;
mod fold;
mod folds;
mod follow;
pub mod late;
mod left;
mod page;
mod partly;
mod plan;
mod retention;
mod rewrite;
mod row;
mod series;
pub mod slot;
mod snapshot;
pub mod training;
pub mod watermark;
mod windows;

pub use changes::{ChangeSet, EmittedRow, RowChange, ViewChange};
pub use entity::{EntityState, Outcome};
pub use evaluate::{Evaluation, FeatureOutcome};
pub use follow::ViewFollower;
pub use page::{MissingPage, PageLimits, PageName};
pub use partly::{PartlyLoaded, StoredPage};
pub use plan::{KindPlan, Plan};
pub use retention::{RetentionScrub, TooEarly};
pub use snapshot::{Head, SnapshotParts};
