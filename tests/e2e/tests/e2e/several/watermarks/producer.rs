//! A producer that keeps its call open, whether it has something to say or not.

use millrace_e2e_tests::Forwarder;
use millrace_proto::v1;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{SECOND, START};

/// A click.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) user: i64,
    pub(super) second: i64,
    /// Its price, whose sums are exact in doubles.
    pub(super) quarters: i64,
}

/// One call of a producer.
pub(super) struct Producer {
    name: &'static str,
    requests: mpsc::Sender<v1::PublishRequest>,
    answers: Streaming<v1::PublishResponse>,
    way: Forwarder,
    sent: u64,
}

impl Producer {
    pub(super) async fn connect(name: &'static str, ingest: &str) -> Self {
        let port = ingest.rsplit(':').next().and_then(|port| port.parse().ok());
        let way = Forwarder::to(port.expect("a port")).expect("a way");
        let endpoint = format!("http://127.0.0.1:{}", way.port());
        let endpoint = Channel::from_shared(endpoint).expect("an endpoint");
        let channel = endpoint.connect().await.expect("it serves");
        let (requests, receiver) = mpsc::channel(1);
        let mut client = IngestServiceClient::new(channel);
        let call = client.publish(ReceiverStream::new(receiver)).await;
        let answers = call.expect("a call").into_inner();
        Self { name, requests, answers, way, sent: 0 }
    }

    /// Goes on with the numbers of an earlier call.
    pub(super) fn after(self, earlier: &Self) -> Self {
        Self { sent: earlier.sent, ..self }
    }

    /// Breaks its connection: who ends a call in order says that it is idle.
    pub(super) fn cut_off(&self) {
        self.way.cut();
    }

    /// Sends facts and waits for their verdicts.
    pub(super) async fn send(&mut self, facts: &[Fact]) -> v1::VerdictCounts {
        let row = |(index, fact): (usize, &Fact)| {
            use v1::value::Kind;
            let id = format!("{}-{}", self.name, self.sent + index as u64);
            let at = START + fact.second * SECOND;
            let at = Timestamp { seconds: at / SECOND, nanos: 0 };
            let values = [
                ("event_id", Kind::String(id)),
                ("user_id", Kind::Int64(fact.user)),
                ("ts", Kind::Timestamp(at)),
                ("price", Kind::Double(fact.quarters as f64 / 4.0)),
            ];
            let value =
                |(name, kind): (&str, Kind)| (name.to_owned(), v1::Value { kind: Some(kind) });
            v1::TypedRow { values: values.map(value).into_iter().collect() }
        };
        let request = v1::PublishRequest {
            producer_id: self.name.to_owned(),
            stream: "clicks".to_owned(),
            first_sequence: self.sent,
            rows: facts.iter().enumerate().map(row).collect(),
            ..v1::PublishRequest::default()
        };
        self.sent += facts.len() as u64;
        self.requests.send(request).await.expect("the call stands");
        loop {
            let answer = self.answers.message().await.expect("the call stands");
            let answer = answer.expect("the call goes on");
            // The others change credits alone.
            if let Some(result) = answer.result {
                return result.counts.expect("counts");
            }
        }
    }
}
