//! Samples of online answers, kept until somebody compared them with the log: a ring of places for each
//! node that answers, so that it is bounded however long nobody looks.

use async_trait::async_trait;
use bytes::Bytes;
use millrace_types::KnownAt;

use crate::port::{NodeId, StoreError};

/// Places that a ring has at most.
pub const AUDIT_PLACES_MAX: u32 = 65_536;
/// Bytes of one sample at most.
pub const AUDIT_SAMPLE_BYTES_MAX: usize = 16 << 10;
/// Samples of one call at most: with all of them as large as they may be, a message holds them.
pub const AUDIT_SAMPLES_MAX: usize = 128;

/// A sample of an answer, in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSample {
    /// Its place in the ring, below [`AUDIT_PLACES_MAX`]; whatever stood there is overwritten.
    pub place: u32,
    /// When it was taken, by the clock of who took it, no two of a node alike. The greatest of a place stands.
    pub ver: KnownAt,
    /// What was answered, at most [`AUDIT_SAMPLE_BYTES_MAX`]; none once it was looked at.
    pub bytes: Bytes,
}

/// Rings of samples. They decide nothing: what is lost of them was not compared, and no more.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Writes samples of a node, each into its place unless a greater version stands there. Need not
    /// survive a power failure.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_samples(&self, node: &NodeId, samples: Vec<AuditSample>)
    -> Result<(), StoreError>;

    /// The first samples of a node that were taken after `after`, at most `max`, in the order they were
    /// taken; those that were looked at are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn samples(
        &self,
        node: &NodeId,
        after: KnownAt,
        max: usize,
    ) -> Result<Vec<AuditSample>, StoreError>;

    /// Takes away what was written up to a version, of every node: also of those that never come back.
    ///
    /// # Errors
    /// [`StoreError`]; repeated, it goes on.
    async fn forget_samples(&self, up_to: KnownAt) -> Result<(), StoreError>;
}

/// Of all samples of a ring those that are asked for. For adapters that read a ring whole.
#[must_use]
pub fn first_after(mut ring: Vec<AuditSample>, after: KnownAt, max: usize) -> Vec<AuditSample> {
    ring.retain(|sample| sample.ver > after && !sample.bytes.is_empty());
    ring.sort_unstable_by_key(|sample| (sample.ver, sample.place));
    ring.truncate(max);
    ring
}
