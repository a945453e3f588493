//! Repeating a call until its outcome is known. When to try again, and how long to wait before,
//! is the caller's policy: nothing here knows a clock.

use std::future::Future;

use async_trait::async_trait;

use crate::port::StoreError;

/// A policy of trying again.
#[async_trait]
pub trait Retry: Send {
    /// Called after an attempt that ended in `error`. Waits as long as it sees fit, then says
    /// whether to try again.
    async fn again(&mut self, error: &StoreError) -> bool;

    /// Whether it gave up since too many calls are tried again as it is.
    fn is_spent(&self) -> bool {
        false
    }
}

/// The error after which `retry` gave up.
pub(crate) fn given_up(retry: &dyn Retry, error: StoreError) -> StoreError {
    if retry.is_spent() { StoreError::RetriesSpent { error: Box::new(error) } } else { error }
}

/// Repeats `call`, unchanged, while its outcome is unknown or the store is not available.
///
/// # Errors
/// What the last attempt ended in: an error that trying again cannot help, or one after which
/// `retry` gave up; [`StoreError::RetriesSpent`] where it had no retries left to give.
pub async fn until_known<T, F, Fut>(retry: &mut dyn Retry, mut call: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(
                error @ (StoreError::Unknown { .. }
                | StoreError::Unavailable { .. }
                | StoreError::NotTrusted { .. }
                | StoreError::RetriesSpent { .. }),
            ) => {
                if !retry.again(&error).await {
                    return Err(given_up(retry, error));
                }
            }
            Err(
                error @ (StoreError::ClockSkew { .. }
                | StoreError::Failed { .. }
                | StoreError::Damaged { .. }),
            ) => return Err(error),
        }
    }
}
