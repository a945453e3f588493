//! Publishing the workload: from the first batch sent to the last one durable and servable.

use std::time::Instant;

use millrace_client::arrow::ArrowEncoder;
use millrace_client::{Batch, Client, Outcomes, Publisher, PublisherOptions};
use millrace_types::VerdictCounts;

use super::BenchError;
use super::child::Child;
use super::workload::Workload;

/// What publishing cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    pub(super) events_per_second: f64,
    pub(super) cpu_seconds_per_million: f64,
    pub(super) peak_rss_bytes: u64,
    pub(super) disk_bytes: u64,
}

/// Sends everything, one producer a stream, and waits for every answer.
pub(super) async fn run(
    client: &Client,
    child: &Child,
    workload: &Workload,
) -> Result<Published, BenchError> {
    let cpu = child.cpu_seconds()?;
    let started = Instant::now();
    let (publisher, outcomes) = client.publisher(PublisherOptions::default());
    let counting = tokio::spawn(count(outcomes));
    send(publisher, workload).await?;
    let counts = counting.await.map_err(|e| BenchError::Task(e.to_string()))??;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = child.cpu_seconds()? - cpu;
    let accepted = counts.accepted + counts.repaired;
    if accepted != workload.facts {
        return Err(BenchError::NotAllAccepted { sent: workload.facts, accepted });
    }
    let millions = workload.facts as f64 / 1e6;
    Ok(Published {
        events_per_second: workload.facts as f64 / seconds,
        cpu_seconds_per_million: cpu / millions,
        peak_rss_bytes: child.peak_rss_bytes()?,
        disk_bytes: child.disk_bytes(),
    })
}

async fn send(publisher: Publisher, workload: &Workload) -> Result<(), BenchError> {
    let mut encoders: Vec<(&'static str, ArrowEncoder, u64)> = Vec::new();
    for (stream, rows) in &workload.batches {
        let index = match encoders.iter().position(|(name, ..)| name == stream) {
            Some(index) => index,
            None => {
                encoders.push((stream, ArrowEncoder::try_new(&rows.schema())?, 0));
                encoders.len() - 1
            }
        };
        let (_, encoder, next) = &mut encoders[index];
        let payload = encoder.encode(rows)?;
        let batch = Batch::new(format!("bench-{stream}"), *stream, *next, payload);
        *next += rows.num_rows() as u64;
        publisher.send(batch).await?;
    }
    for (stream, _, next) in encoders {
        let mut idle =
            Batch::new(format!("bench-{stream}"), stream, next, millrace_client::Payload::None);
        idle.idle = true;
        publisher.send(idle).await?;
    }
    Ok(())
}

async fn count(mut outcomes: Outcomes) -> Result<VerdictCounts, BenchError> {
    let mut counts = VerdictCounts::default();
    while let Some(published) = outcomes.next().await {
        if let Some(batch) = published?.result.counts {
            counts += batch.into();
        }
    }
    Ok(counts)
}
