//! Calls of libraries that read files and panic on some damaged ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls such a library; a panic is an error of the file like any other. What it was reading is not used
/// again.
pub(crate) fn guarded<T, E>(
    read: impl FnOnce() -> Result<T, E>,
    damaged: impl FnOnce(String) -> E,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let texts = (panic.downcast_ref::<&str>().copied(), panic.downcast_ref::<String>());
        let why = texts.0.or(texts.1.map(String::as_str)).unwrap_or("it cannot be read");
        Err(damaged(format!("the file is damaged: {why}")))
    })
}
