//! Rings of samples: registers like the parts of snapshots, a partition a node.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use millrace_store::audit::first_after;
use millrace_store::{AuditSample, AuditStore, NodeId, StoreError};
use millrace_types::KnownAt;

use crate::keys::{read_versioned, versioned};
use crate::outcome::of_all;
use crate::statements::Statement;
use crate::store::CqlStore;

/// Samples of one call that are on their way at once.
const AT_ONCE: usize = 16;

impl CqlStore {
    /// Whatever stands in a ring.
    async fn ring(&self, node: &NodeId) -> Result<Vec<AuditSample>, StoreError> {
        let rows = self.all::<(i32, Option<Vec<u8>>)>(Statement::Samples, (&node.0,)).await?;
        let ring = rows.into_iter().filter_map(|(place, value)| Some((place, value?)));
        let read = |(place, value): (i32, Vec<u8>)| {
            let what = || format!("sample {place} of node {}", node.0);
            let (ver, bytes) = read_versioned(what, value)?;
            Ok(AuditSample { place: place.cast_unsigned(), ver, bytes })
        };
        ring.map(read).collect()
    }
}

#[async_trait]
impl AuditStore for CqlStore {
    async fn put_samples(
        &self,
        node: &NodeId,
        samples: Vec<AuditSample>,
    ) -> Result<(), StoreError> {
        let puts = samples.into_iter().map(|AuditSample { place, ver, bytes }| {
            let values = (&node.0, place.cast_signed(), versioned(ver, &bytes), ver.0);
            async move { self.run(Statement::PutSample, values).await.map(drop) }
        });
        let outcomes = stream::iter(puts).buffer_unordered(AT_ONCE).collect().await;
        of_all("put samples", outcomes)
    }

    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError> {
        Ok(first_after(self.ring(node).await?, after, max))
    }

    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError> {
        let nodes = self.all::<(String,)>(Statement::SampledNodes, ()).await?;
        for node in nodes.into_iter().map(|(name,)| NodeId(name)) {
            let mut old = self.ring(&node).await?;
            old.retain(|sample| sample.ver <= up_to);
            // At its own version: another one that took its place meanwhile stays.
            let forget = old.into_iter().map(|AuditSample { place, ver, .. }| {
                let values = (ver.0, &node.0, place.cast_signed());
                async move { self.run(Statement::ForgetSample, values).await.map(drop) }
            });
            let outcomes = stream::iter(forget).buffer_unordered(AT_ONCE).collect().await;
            of_all("forget samples", outcomes)?;
        }
        Ok(())
    }
}
