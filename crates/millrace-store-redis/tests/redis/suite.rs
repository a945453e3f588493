//! The suite of windows, on one process's handle and between processes.

use std::sync::Arc;

use async_trait::async_trait;
use millrace_store::{ProducerWindows, Seen, StoreError};
use millrace_store_redis::RedisWindows;
use millrace_test_servers::Redis;

use super::{another, redis, within};

async fn one_process() -> (Arc<RedisWindows>, Redis) {
    let redis = redis(&[]);
    (Arc::new(another(&redis).await), redis)
}

mod in_one_process {
    use super::one_process;
    millrace_store::window_conformance_tests!(one_process);
}

/// Every mark and every question comes from a process of its own, so that only Redis knows.
struct Strangers(Redis);

#[async_trait]
impl ProducerWindows for Strangers {
    async fn seen(&self, producer: &str, first: u64, next: u64) -> Result<Vec<Seen>, StoreError> {
        another(&self.0).await.seen(producer, first, next).await
    }

    async fn mark(&self, producer: &str, first: u64, next: u64) -> Result<(), StoreError> {
        let windows = another(&self.0).await;
        windows.mark(producer, first, next).await?;
        within(windows.written()).await;
        Ok(())
    }
}

async fn strangers() -> (Arc<Strangers>, ()) {
    (Arc::new(Strangers(redis(&[]))), ())
}

mod between_processes {
    use super::strangers;
    millrace_store::window_conformance_tests!(strangers);
}
