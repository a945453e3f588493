//! The limits of the parts the suite is built on, in the same run: a gRPC call that does nothing, and
//! rows of the store.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_store::{Part, Put, SnapshotStore};
use millrace_store_fjall::{FjallStore, Options};
use millrace_types::{Entity, EntityKey, KeyPart, KindId, KnownAt, SlotId};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::BenchError;
use super::child::Child;
use super::reads::Load;

const LASTS: Duration = Duration::from_secs(2);
const ROWS: i64 = 20_000;
const ROW_BYTES: usize = 1_024;

/// Health checks a second, called as the reads are: what tonic does at most.
pub(super) async fn tonic_echo(child: &Child, load: Load) -> Result<f64, BenchError> {
    let failed = |e: String| BenchError::Server(e);
    let endpoint =
        Endpoint::from_shared(child.endpoint().to_owned()).map_err(|e| failed(e.to_string()))?;
    let mut channels = Vec::new();
    for _ in 0..load.connections {
        channels.push(endpoint.connect().await.map_err(|e| failed(e.to_string()))?);
    }
    let mut callers = JoinSet::new();
    let started = Instant::now();
    for channel in load.spread(&channels).cloned() {
        callers.spawn(async move {
            let mut client = HealthClient::new(channel);
            let mut calls = 0u64;
            while started.elapsed() < LASTS {
                let request = HealthCheckRequest { service: String::new() };
                client.check(request).await.map_err(|e| failed(e.to_string()))?;
                calls += 1;
            }
            Ok::<_, BenchError>(calls)
        });
    }
    let mut calls = 0;
    while let Some(one) = callers.join_next().await {
        calls += one.map_err(|e| BenchError::Task(e.to_string()))??;
    }
    Ok(calls as f64 / started.elapsed().as_secs_f64())
}

/// Rows of 1 KiB read a second from the embedded store, one by one.
pub(super) async fn store_rows() -> Result<f64, BenchError> {
    let failed = |e: String| BenchError::Store(e);
    let folder = tempfile::tempdir().map_err(|e| failed(e.to_string()))?;
    let store = FjallStore::open(folder.path().join("data"), &Options::default())
        .map_err(|e| failed(e.to_string()))?;
    let entity = |n: i64| -> Result<Entity, BenchError> {
        let key = EntityKey::try_new(&[KeyPart::Int64(n)]).map_err(|e| failed(e.to_string()))?;
        Ok(Entity { kind: KindId(0), key })
    };
    let bytes = Bytes::from(vec![7; ROW_BYTES]);
    let puts = (0..ROWS)
        .map(|n| {
            let bytes = bytes.clone();
            Ok(Put {
                slot: SlotId(0),
                entity: entity(n)?,
                part: Part::Head,
                ver: KnownAt(1),
                bytes,
            })
        })
        .collect::<Result<Vec<_>, BenchError>>()?;
    for some in puts.chunks(1_000) {
        store.put(some.to_vec()).await.map_err(|e| failed(e.to_string()))?;
    }
    let started = Instant::now();
    let mut rows = 0i64;
    while started.elapsed() < LASTS {
        let wanted = vec![(entity(rows * 7_919 % ROWS)?, Part::Head)];
        store.load(wanted).await.map_err(|e| failed(e.to_string()))?;
        rows += 1;
    }
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}
