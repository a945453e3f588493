//! Parts of snapshots, as reads of stored heads load them.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use millrace_client::port::StorePort;
use millrace_store::{Part, StoreError};
use millrace_types::{Entity, KnownAt};

/// What was found of one part: its version and bytes.
pub(super) type Found = Option<(KnownAt, Bytes)>;

type Load =
    dyn Fn(Vec<(Entity, Part)>) -> BoxFuture<'static, Result<Vec<Found>, StoreError>> + Send + Sync;

/// Loads parts; nothing else of a store is needed here.
#[derive(Clone)]
pub(super) struct Parts(Arc<Load>);

impl Parts {
    pub(super) fn of(store: Arc<dyn StorePort>) -> Self {
        Self(Arc::new(move |parts| {
            let store = store.clone();
            async move { store.load(parts).await }.boxed()
        }))
    }

    #[cfg(test)]
    pub(super) fn fake(
        load: impl Fn(Vec<(Entity, Part)>) -> BoxFuture<'static, Result<Vec<Found>, StoreError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(load))
    }

    /// As [`StorePort::load`].
    pub(super) async fn load(&self, parts: Vec<(Entity, Part)>) -> Result<Vec<Found>, StoreError> {
        (self.0)(parts).await
    }
}
