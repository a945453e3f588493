//! Freshness: how long after it is sent a click shows in a read, while other clicks come at half the
//! rate that publishing reached.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace_client::arrow::ArrowEncoder;
use millrace_client::{Batch, Client, PublisherOptions};
use millrace_proto::v1;
use millrace_types::FeatureValue;

use super::BenchError;
use super::workload::{Rng, Workload};

/// How long the load lasts.
const LASTS: Duration = Duration::from_secs(5);
const LOAD_ROWS: usize = 1_024;
/// How long one click may take to show.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two probes: they are to be few beside the load.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// A user whom the load does not touch.
const PROBE_USER: i64 = 1_000_000;

/// Freshness in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Runs the load and the probe beside it.
pub(super) async fn run(
    client: &Client,
    workload: &Workload,
    events_per_second: f64,
) -> Result<Fresh, BenchError> {
    let load = load(client, workload, events_per_second);
    let probe = probe(client, workload);
    let (_, histogram) = tokio::try_join!(load, probe)?;
    let ms = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
    Ok(Fresh { p50_ms: ms(0.5), p99_ms: ms(0.99) })
}

async fn load(
    client: &Client,
    workload: &Workload,
    events_per_second: f64,
) -> Result<(), BenchError> {
    let (publisher, mut outcomes) = client.publisher(PublisherOptions::default());
    let drain = tokio::spawn(async move { while let Some(Ok(_)) = outcomes.next().await {} });
    let mut rng = Rng::new(7);
    let every = Duration::from_secs_f64(LOAD_ROWS as f64 / events_per_second.max(1.0));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut encoder: Option<ArrowEncoder> = None;
    let until = Instant::now() + LASTS;
    // Numbers of ids beyond those of the workload.
    let first_id = workload.facts + 1_000_000_000;
    let mut sent = 0;
    while Instant::now() < until {
        ticks.tick().await;
        let rows = workload.more_clicks(&mut rng, first_id + sent, LOAD_ROWS)?;
        let encoder = match &mut encoder {
            Some(encoder) => encoder,
            None => encoder.insert(ArrowEncoder::try_new(&rows.schema())?),
        };
        let payload = encoder.encode(&rows)?;
        publisher.send(Batch::new("bench-load", "clicks", sent, payload)).await?;
        sent += LOAD_ROWS as u64;
    }
    drop(publisher);
    drain.await.map_err(|e| BenchError::Task(e.to_string()))
}

async fn probe(client: &Client, workload: &Workload) -> Result<Histogram<u64>, BenchError> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)
        .map_err(|e| BenchError::Task(e.to_string()))?;
    let at_us = workload.read_at_us();
    let until = Instant::now() + LASTS;
    let mut seen = 0;
    while Instant::now() < until {
        let sent = Instant::now();
        client.publish_batch(click(at_us, seen)).await?;
        seen += 1;
        while count(client, at_us).await? < seen as i64 {
            if sent.elapsed() > PATIENCE {
                return Err(BenchError::NotFresh(PATIENCE));
            }
        }
        histogram.saturating_record(sent.elapsed().as_micros() as u64);
        tokio::time::sleep(PROBE_PAUSE).await;
    }
    Ok(histogram)
}

fn click(at_us: i64, number: u64) -> v1::PublishBatchRequest {
    use v1::value::Kind;

    let value = |kind| v1::Value { kind: Some(kind) };
    let at = millrace_types::Micros(at_us - 1_000_000);
    let values = [
        ("user_id", value(Kind::Int64(PROBE_USER))),
        ("event_id", value(Kind::String(format!("probe-{number}")))),
        ("event_time", value(Kind::Timestamp(millrace_proto::convert::to_timestamp(at)))),
        ("item_id", value(Kind::Int64(1))),
        ("dwell_ms", value(Kind::Int64(1))),
    ];
    v1::PublishBatchRequest {
        producer_id: "bench-probe".to_owned(),
        stream: "clicks".to_owned(),
        first_sequence: number,
        next_sequence: number + 1,
        rows: vec![v1::TypedRow {
            values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }],
        ..Default::default()
    }
}

async fn count(client: &Client, at_us: i64) -> Result<i64, BenchError> {
    let request = super::reads::request(&[PROBE_USER], at_us, &["clicks_1h"]);
    let response = client.get_features(request).await?;
    let value = response.entities.first().and_then(|e| e.values.first());
    let value = value.and_then(|v| FeatureValue::try_from(v).ok());
    Ok(match value {
        Some(FeatureValue::Scalar(millrace_types::Value::Int64(n))) => n,
        _ => 0,
    })
}
