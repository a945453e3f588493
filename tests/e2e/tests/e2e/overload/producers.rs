//! Producers: one that keeps to its credits, one that does not, and one that repeats refused calls at
//! once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use millrace_proto::v1;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Scene, connect, user};

/// Facts of a batch.
pub(super) const FACTS: u64 = 500;
/// 2026-03-01T12:00:00Z.
const NOON: i64 = 1_772_366_400_000_000;

/// Microseconds between two facts of a load, whoever sends them: about as many a second as the services
/// take, so that facts under way are as late as they are in life.
const APART: i64 = 10;

/// A batch whose first fact is the `first`-th of all.
pub(super) fn batch(producer: &str, first_sequence: u64, first: u64) -> v1::PublishRequest {
    let value = |n: i64| v1::Value { kind: Some(v1::value::Kind::Int64(n)) };
    let row = |n: u64| {
        let n = first + n;
        let fields = [("user_id", user(n)), ("ts", NOON + n as i64 * APART), ("amount", 1)];
        let values = fields.map(|(name, n)| (name.to_owned(), value(n)));
        v1::TypedRow { values: values.into() }
    };
    v1::PublishRequest {
        producer_id: producer.to_owned(),
        stream: "hits".to_owned(),
        first_sequence,
        rows: (0..FACTS).map(row).collect(),
        ..Default::default()
    }
}

/// What a producer has sent and has no answer to: what is sent again is what was sent.
#[derive(Clone)]
struct Sent {
    scene: Scene,
    producer: String,
    /// Which of all facts a batch begins with, by its first sequence.
    firsts: Arc<Mutex<BTreeMap<u64, u64>>>,
}

impl Sent {
    fn of(scene: &Scene, producer: String) -> Self {
        Self { scene: scene.clone(), producer, firsts: Arc::default() }
    }

    /// The batch that begins with this sequence: what happens now, or what was sent before.
    fn batch(&self, sequence: u64) -> v1::PublishRequest {
        let mut firsts = self.firsts.lock().expect("no panic");
        let first = *firsts.entry(sequence).or_insert_with(|| self.scene.next_facts(FACTS));
        batch(&self.producer, sequence, first)
    }

    /// Everything before this sequence is acknowledged.
    fn acknowledged(&self, next_sequence: u64) {
        let mut firsts = self.firsts.lock().expect("no panic");
        *firsts = firsts.split_off(&next_sequence);
    }
}

/// Facts of a batch that have an effect, whenever it was first sent: none may be lost.
fn settled(scene: &Scene, result: &v1::PublishResult) {
    let counts = result.counts.unwrap_or_default();
    assert_eq!((counts.late, counts.rejected), (0, 0), "{result:?}");
    scene.acknowledged.fetch_add(result.next_sequence - result.first_sequence, Ordering::AcqRel);
}

/// What a producer may be told when there is too much: typed, with a time to wait, and nothing else.
fn refused(scene: &Scene, status: &Status) {
    let typed = status.code() == Code::ResourceExhausted || status.code() == Code::Unavailable;
    assert!(typed, "{status:?}");
    assert!(status.get_details_error_info().is_some(), "{status:?}");
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(wait.is_some(), "{status:?}");
    scene.refused.fetch_add(1, Ordering::AcqRel);
}

/// Keeps to its credits, one batch more than those in flight allow at most; ends its call in order.
pub(super) async fn fair(scene: Scene, producer: String) {
    let mut client = IngestServiceClient::new(connect(&scene.ingest).await);
    let (requests, receiver) = mpsc::channel(1);
    let mut answers =
        client.publish(ReceiverStream::new(receiver)).await.expect("a call").into_inner();
    let mut requests = Some(requests);
    let batches = Sent::of(&scene, producer);
    let (mut sent, mut answered, mut credits) = (0, 0, 0);
    while let Some(answer) = answers.message().await.expect("a producer that keeps to its credits")
    {
        credits = answer.credits.map_or(credits, |credits| credits.facts);
        if let Some(result) = &answer.result {
            settled(&scene, result);
            batches.acknowledged(result.next_sequence);
            answered += FACTS;
        }
        while let Some(sender) = &requests {
            let in_flight = sent - answered;
            if sent > 0 && !scene.goes_on() {
                requests = None;
                break;
            }
            if in_flight + FACTS > credits.min(16 * FACTS) {
                break;
            }
            sender.send(batches.batch(sent)).await.expect("the call stands");
            sent += FACTS;
        }
    }
    assert_eq!(sent, answered, "every batch is answered");
}

/// Sends as fast as the transport takes it, whatever its credits are. When its call breaks it begins
/// another one after what was acknowledged.
pub(super) async fn heedless(scene: Scene, producer: String) {
    // What was ever sent may be in the log, and is sent again until it is acknowledged.
    let (mut acknowledged, mut sent) = (0, 0);
    let batches = Sent::of(&scene, producer);
    loop {
        let mut client = IngestServiceClient::new(connect(&scene.ingest).await);
        let (requests, receiver) = mpsc::channel(1);
        let call = client.publish(ReceiverStream::new(receiver)).await;
        let mut answers = match call {
            Ok(answers) => answers.into_inner(),
            Err(status) => {
                refused(&scene, &status);
                continue;
            }
        };
        let sending = {
            let (scene, batches) = (scene.clone(), batches.clone());
            tokio::spawn(async move {
                let mut first = acknowledged;
                while scene.goes_on() || first < sent {
                    if requests.send(batches.batch(first)).await.is_err() {
                        break;
                    }
                    first += FACTS;
                }
                first
            })
        };
        let broken = loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    if let Some(result) = &answer.result {
                        settled(&scene, result);
                        acknowledged = result.next_sequence;
                        batches.acknowledged(acknowledged);
                    }
                }
                Ok(None) => break false,
                Err(status) => {
                    refused(&scene, &status);
                    break true;
                }
            }
        };
        drop(answers);
        sent = sent.max(sending.await.expect("no panic"));
        if !broken {
            assert_eq!(sent, acknowledged, "a call that ended in order has answered everything");
            return;
        }
    }
}

/// Calls once a batch, and repeats at once what was refused, until it is taken.
pub(super) async fn impatient(scene: Scene, producer: String) {
    let mut client = IngestServiceClient::new(connect(&scene.ingest).await);
    let mut first = 0;
    while scene.goes_on() {
        let request = batch(&producer, first, scene.next_facts(FACTS));
        let request = v1::PublishBatchRequest::from(request);
        loop {
            match client.publish_batch(request.clone()).await {
                Ok(answer) => {
                    settled(&scene, &answer.into_inner().result.expect("a result"));
                    break;
                }
                Err(status) => refused(&scene, &status),
            }
            tokio::task::yield_now().await;
        }
        first += FACTS;
    }
}
