//! The commands, one module each.

pub mod apply;
mod catalog_file;
pub mod doctor;
pub mod erase;
pub mod explain;
mod failure;
pub mod get;
pub mod import;
pub mod late;
pub mod parity;
pub mod publish;
mod session;
mod slot_runs;
pub mod status;
pub mod tail;
pub mod training;
pub mod validate;

pub use catalog_file::{Problem, Problems};
pub use failure::Failure;
