//! A setting that breaks a rule.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

/// A setting that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} = {value}: {rule}")]
pub struct ConfigError {
    /// The setting, as it is called in files and flags.
    pub key: &'static str,
    /// What was asked for.
    pub value: String,
    /// What is allowed.
    pub rule: String,
}

impl ConfigError {
    pub(crate) fn new(key: &'static str, value: impl Display, rule: impl Into<String>) -> Self {
        Self { key, value: value.to_string(), rule: rule.into() }
    }
}

/// A number within bounds.
pub(crate) fn within<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let rule = format!("must be between {} and {}", allowed.start(), allowed.end());
    Err(ConfigError::new(key, value, rule))
}

/// A span of time within bounds.
pub(crate) fn lasts(
    key: &'static str,
    value: Duration,
    allowed: RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let rule = format!("must be between {:?} and {:?}", allowed.start(), allowed.end());
    Err(ConfigError::new(key, format!("{value:?}"), rule))
}
