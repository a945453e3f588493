//! Reads of ten features, one or a hundred entities a request.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace_client::Client;
use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_types::Micros;
use tokio::task::JoinSet;

use super::BenchError;
use super::workload::{Rng, Users};

/// How long reads are counted.
const LASTS: Duration = Duration::from_secs(4);

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Connections, at least one.
    pub(super) connections: usize,
    /// Calls in flight on each, at least one.
    pub(super) in_flight: usize,
}

impl Load {
    /// The connection of each caller.
    pub(super) fn spread<C>(self, connections: &[C]) -> impl Iterator<Item = &C> {
        connections.iter().flat_map(move |one| std::iter::repeat_n(one, self.in_flight))
    }
}

/// How fast reads were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Reads these users, at an instant, over the connections of these clients, with so many in flight on each.
pub(super) async fn run(
    clients: &[Client],
    users: &Users,
    at_us: i64,
    load: Load,
    entities: usize,
) -> Result<Reads, BenchError> {
    let mut readers = JoinSet::new();
    let started = Instant::now();
    for (reader, client) in load.spread(clients).cloned().enumerate() {
        let users = users.clone();
        let mut rng = Rng::new(1_000 + reader as u64);
        readers.spawn(async move {
            let mut histogram = empty()?;
            while started.elapsed() < LASTS {
                let keys: Vec<i64> = (0..entities).map(|_| users.draw(&mut rng)).collect();
                let request = request(&keys, at_us, &[]);
                let sent = Instant::now();
                client.get_features(request).await?;
                histogram.saturating_record(sent.elapsed().as_micros() as u64);
            }
            Ok::<_, BenchError>(histogram)
        });
    }
    let mut all = empty()?;
    while let Some(one) = readers.join_next().await {
        let one = one.map_err(|e| BenchError::Task(e.to_string()))??;
        all.add(one).map_err(|e| BenchError::Task(e.to_string()))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let ms = |q: f64| all.value_at_quantile(q) as f64 / 1e3;
    Ok(Reads {
        requests: all.len(),
        requests_per_second: all.len() as f64 / seconds,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    })
}

pub(super) fn empty() -> Result<Histogram<u64>, BenchError> {
    Histogram::new_with_bounds(1, 60_000_000, 3).map_err(|e| BenchError::Task(e.to_string()))
}

/// A read of users at an instant.
pub(super) fn request(users: &[i64], at_us: i64, features: &[&str]) -> v1::GetFeaturesRequest {
    let key = |user: &i64| v1::EntityKey {
        parts: vec![v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(*user)) }],
    };
    v1::GetFeaturesRequest {
        view: "user_activity".to_owned(),
        entities: users.iter().map(key).collect(),
        features: features.iter().map(|f| (*f).to_owned()).collect(),
        instant: Some(v1::get_features_request::Instant::At(to_timestamp(Micros(at_us)))),
        known_at: None,
    }
}
