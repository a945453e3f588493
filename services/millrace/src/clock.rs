//! The wall clock of commands.

use std::time::{SystemTime, UNIX_EPOCH};

use millrace_types::Micros;

/// Now.
#[expect(clippy::disallowed_methods, reason = "commands read the wall clock here and nowhere else")]
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
