//! Typed configuration: what an operator may set, its default, and the rule it must keep.
//!
//! [`Settings`] is what was asked for and may be anything; [`Config`] is settings that keep every
//! rule. Nothing here reads files, flags or the environment.

mod rule;
mod settings;
mod share;

pub use rule::ConfigError;
pub use settings::{Config, Settings};
pub use share::{Share, ShareError};
