//! Publishing the workload: from the first batch sent to the last one durable and servable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow_array::RecordBatch;
use hdrhistogram::Histogram;
use millrace_client::arrow::ArrowEncoder;
use millrace_client::{Batch, Client, Outcomes, Payload, Publisher, PublisherOptions};
use millrace_types::VerdictCounts;
use tokio::task::JoinSet;

use super::workload::Workload;
use super::{BenchError, reads};

/// What became of the workload.
#[derive(Debug)]
pub(super) struct Published {
    /// From the first batch sent to the last one answered.
    pub(super) seconds: f64,
    pub(super) counts: VerdictCounts,
    /// Microseconds from handing a batch to the client until it is acknowledged.
    pub(super) acknowledged_us: Histogram<u64>,
}

/// When each batch of a publisher was handed over, by its tag.
type Sent = Arc<Mutex<Vec<Instant>>>;

/// Sends everything and waits for every answer. Each client has a call of its own, with one producer a
/// stream; they send the batches of a stream in turn.
///
/// # Errors
/// [`BenchError`], also when not all facts were accepted.
pub(super) async fn run(
    clients: &[Client],
    workload: &Workload,
    options: PublisherOptions,
) -> Result<Published, BenchError> {
    let started = Instant::now();
    let mut calls = JoinSet::new();
    let shares = shares(workload, clients.len());
    for (number, (client, batches)) in clients.iter().zip(shares).enumerate() {
        let (publisher, outcomes) = client.publisher(options);
        calls.spawn(async move {
            let sent = Sent::default();
            let counting = tokio::spawn(count(outcomes, sent.clone()));
            send(publisher, number, batches, &sent).await?;
            counting.await.map_err(|e| BenchError::Task(e.to_string()))?
        });
    }
    let (mut counts, mut acknowledged_us) = (VerdictCounts::default(), reads::empty()?);
    while let Some(call) = calls.join_next().await {
        let (of_one, histogram) = call.map_err(|e| BenchError::Task(e.to_string()))??;
        counts += of_one;
        acknowledged_us.add(histogram).map_err(|e| BenchError::Task(e.to_string()))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let accepted = counts.accepted + counts.repaired;
    if accepted != workload.facts {
        return Err(BenchError::NotAllAccepted { sent: workload.facts, accepted });
    }
    Ok(Published { seconds, counts, acknowledged_us })
}

/// What each of so many publishers sends.
fn shares(workload: &Workload, count: usize) -> Vec<Vec<(&'static str, RecordBatch)>> {
    let mut shares = vec![Vec::new(); count];
    let mut seen: Vec<(&'static str, usize)> = Vec::new();
    for (stream, rows) in &workload.batches {
        let index = seen.iter().position(|(name, _)| name == stream).unwrap_or_else(|| {
            seen.push((stream, 0));
            seen.len() - 1
        });
        shares[seen[index].1 % count].push((*stream, rows.clone()));
        seen[index].1 += 1;
    }
    shares
}

async fn send(
    publisher: Publisher,
    number: usize,
    batches: Vec<(&'static str, RecordBatch)>,
    sent: &Sent,
) -> Result<(), BenchError> {
    let mut encoders: Vec<(&'static str, ArrowEncoder, u64)> = Vec::new();
    let producer = |stream: &str| format!("bench-{stream}-{number}");
    for (stream, rows) in batches {
        let index = match encoders.iter().position(|(name, ..)| *name == stream) {
            Some(index) => index,
            None => {
                encoders.push((stream, ArrowEncoder::try_new(&rows.schema())?, 0));
                encoders.len() - 1
            }
        };
        let (_, encoder, next) = &mut encoders[index];
        let payload = encoder.encode(&rows)?;
        let batch = Batch::new(producer(stream), stream, *next, payload);
        *next += rows.num_rows() as u64;
        hand_over(&publisher, sent, batch).await?;
    }
    for (stream, _, next) in encoders {
        let mut idle = Batch::new(producer(stream), stream, next, Payload::None);
        idle.idle = true;
        hand_over(&publisher, sent, idle).await?;
    }
    Ok(())
}

async fn hand_over(publisher: &Publisher, sent: &Sent, mut batch: Batch) -> Result<(), BenchError> {
    {
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        batch.tag = sent.len() as u64;
        sent.push(Instant::now());
    }
    Ok(publisher.send(batch).await?)
}

async fn count(
    mut outcomes: Outcomes,
    sent: Sent,
) -> Result<(VerdictCounts, Histogram<u64>), BenchError> {
    let (mut counts, mut histogram) = (VerdictCounts::default(), reads::empty()?);
    while let Some(published) = outcomes.next().await {
        let published = published?;
        let Some(batch) = published.result.counts else { continue };
        counts += batch.into();
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = sent.get(usize::try_from(published.tag).unwrap_or(usize::MAX)) {
            histogram.saturating_record(sent.elapsed().as_micros() as u64);
        }
    }
    Ok((counts, histogram))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::KeySpread;

    #[test]
    fn publishers_share_the_batches_of_each_stream_in_order() {
        let workload = Workload::generate(50_000, KeySpread::Uniform).unwrap();
        let of = |batches: &[(&'static str, RecordBatch)], stream: &str| -> Vec<RecordBatch> {
            batches.iter().filter(|(name, _)| *name == stream).map(|(_, b)| b.clone()).collect()
        };
        let shares = shares(&workload, 2);
        for stream in ["clicks", "profiles"] {
            let all = of(&workload.batches, stream);
            let (first, second) = (of(&shares[0], stream), of(&shares[1], stream));
            assert!(all.len() > 1, "{stream}");
            let in_turn = |number: usize| if number.is_multiple_of(2) { &first } else { &second };
            for (number, batch) in all.iter().enumerate() {
                assert_eq!(in_turn(number)[number / 2], *batch, "{stream} {number}");
            }
            assert_eq!(first.len() + second.len(), all.len());
        }
    }
}
