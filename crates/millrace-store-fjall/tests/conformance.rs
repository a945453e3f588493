//! The suite every adapter passes, on a folder of its own a case.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::unused_async, reason = "the suite awaits a store that is made over a network too")]

use std::sync::Arc;

use millrace_store_fjall::{FjallStore, Options};
use tempfile::TempDir;

async fn empty() -> (Arc<FjallStore>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(FjallStore::open(folder.path(), &Options::default()).unwrap()), folder)
}

millrace_store::conformance_tests!(empty);
