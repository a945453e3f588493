//! The credits of a kind of call, shared by the calls that are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millrace_client::wire::credits::Load;
use millrace_proto::v1;

/// A kind of call.
pub(super) struct Lane {
    all: Load,
    calls: Arc<AtomicUsize>,
}

/// An open call, which has its share until it is dropped.
pub(super) struct Call {
    all: Load,
    calls: Arc<AtomicUsize>,
}

impl Lane {
    /// Calls that may have this much under way together.
    pub(super) fn new(all: Load) -> Self {
        Self { all, calls: Arc::default() }
    }

    pub(super) fn open(&self) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call { all: self.all, calls: Arc::clone(&self.calls) }
    }
}

impl Call {
    /// What the call may have under way now.
    pub(super) fn credits(&self) -> Load {
        self.all.share(self.calls.load(Ordering::Relaxed))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer, which states credits.
pub(super) trait Answer: Default + Send + 'static {
    fn with(self, credits: Load) -> Self;
}

impl Answer for v1::AppendResponse {
    fn with(self, credits: Load) -> Self {
        Self { credits: Some(credits.into()), ..self }
    }
}

impl Answer for v1::PutResponse {
    fn with(self, credits: Load) -> Self {
        Self { credits: Some(credits.into()), ..self }
    }
}
