//! Traces of real processes, as a collector receives them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_e2e_tests::{Apart, ApartOptions, wait_until};
use millrace_proto::v1;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::fixture::{CLICKS, catalog};

/// A machine that builds beside the tests is slow.
pub(crate) const SOON: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// All that spans of a batch may tell.
const ATTRIBUTES: [&str; 6] = [
    "millrace.stream",
    "millrace.facts",
    "millrace.rejected",
    "millrace.chunks",
    "millrace.heads",
    "millrace.parts",
];

/// What was exported: spans by the service that they are of.
type Spans = Arc<Mutex<Vec<(String, Span)>>>;

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("no test panics with it");
        for of_resource in request.into_inner().resource_spans {
            let attributes = of_resource.resource.map(|r| r.attributes).unwrap_or_default();
            let service = attributes.iter().find(|a| a.key == "service.name");
            let service = format!("{:?}", service.and_then(|s| s.value.clone()));
            for span in of_resource.scope_spans.into_iter().flat_map(|s| s.spans) {
                kept.push((service.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[expect(clippy::disallowed_methods, reason = "a collector of the tests, not a server of ours")]
fn collector(runtime: &Runtime) -> (String, Spans) {
    let collector = Collector::default();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    runtime.spawn(server);
    (endpoint, collector.0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn publish(endpoint: String, producer: &str, traceparent: Option<&str>) {
    let channel = tonic::transport::Endpoint::from_shared(endpoint).expect("an endpoint");
    let mut client = IngestServiceClient::new(channel.connect().await.expect("connected"));
    let text = |text: &str| v1::Value { kind: Some(v1::value::Kind::String(text.to_owned())) };
    let int = |n: i64| v1::Value { kind: Some(v1::value::Kind::Int64(n)) };
    let at = prost_types::Timestamp { seconds: 1_767_261_600, nanos: 0 };
    let at = v1::Value { kind: Some(v1::value::Kind::Timestamp(at)) };
    let values = [("event_id", text(producer)), ("user_id", int(7)), ("ts", at)];
    let request = v1::PublishBatchRequest {
        producer_id: producer.to_owned(),
        stream: "clicks".to_owned(),
        rows: vec![v1::TypedRow {
            values: values.map(|(name, value)| (name.to_owned(), value)).into(),
        }],
        traceparent: traceparent.unwrap_or_default().to_owned(),
        ..v1::PublishBatchRequest::default()
    };
    let answer = client.publish_batch(request).await.expect("taken").into_inner();
    let counts = answer.result.and_then(|result| result.counts).expect("counts");
    assert_eq!(counts.accepted, 1, "{counts:?}");
}

fn apart(folder: &Path, env: Vec<(&'static str, String)>) -> Apart {
    let options = ApartOptions { env, ..ApartOptions::on(&folder.join("data")) };
    let apart = Apart::start(&options).expect("the services start");
    let applied = apart.cli().run([Path::new("apply"), &catalog("clickprofile.yaml")]);
    applied.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    apart
}

/// One batch is one trace through three processes, below the span of the one who sent it.
#[test]
fn a_batch_is_one_trace_through_all_hops() {
    let runtime = Runtime::new().expect("a runtime");
    let (endpoint, spans) = collector(&runtime);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("RUST_LOG", "info"),
    ];
    let environment = environment.map(|(name, value)| (name, value.to_owned()));
    let apart = apart(folder.path(), environment.to_vec());
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let unsampled = format!("00-{}-{CALLER}-00", TRACE.replace('0', "1"));
    runtime.block_on(publish(apart.endpoint("ingest"), "unsampled", Some(&unsampled)));
    runtime.block_on(publish(apart.endpoint("ingest"), "sampled", Some(&parent)));

    // Each with its service and the span that it is below.
    let spans_of_batch = [
        ("ingest batch", "ingest", None),
        ("join process", "join", Some("ingest batch")),
        ("join flush", "join", Some("join process")),
        ("store append", "store-writer", Some("join flush")),
        ("store commit", "store-writer", Some("store append")),
        ("join save", "join", Some("join process")),
        ("store put", "store-writer", Some("join save")),
    ];
    let of_trace = || -> BTreeMap<String, (String, Span)> {
        let kept = spans.lock().expect("no test panics with it");
        let ours = kept.iter().filter(|(_, span)| hex(&span.trace_id) == TRACE);
        ours.map(|(service, span)| (span.name.clone(), (service.clone(), span.clone()))).collect()
    };
    let found = wait_until("the spans of the batch", SOON, || {
        let found = of_trace();
        spans_of_batch.iter().all(|(name, ..)| found.contains_key(*name)).then_some(found)
    });
    for (name, service, above) in spans_of_batch {
        let (of, span) = &found[name];
        assert!(of.contains(&format!("millrace-{service}")), "{name} is of {of}");
        let above_id = above.map_or(CALLER.to_owned(), |above| hex(&found[above].1.span_id));
        assert_eq!(hex(&span.parent_span_id), above_id, "{name} is below {above:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{name}");
    }
    let kept = spans.lock().expect("no test panics with it").clone();
    let other = kept.iter().filter(|(_, span)| hex(&span.trace_id) == TRACE.replace('0', "1"));
    assert_eq!(other.count(), 0, "its caller did not sample it");
    for (_, span) in &kept {
        for attribute in &span.attributes {
            assert!(
                ATTRIBUTES.contains(&attribute.key.as_str()),
                "{} has {}",
                span.name,
                attribute.key
            );
        }
    }
}

/// A read is one trace from the command line to the store, and so is what it publishes.
#[test]
fn a_read_is_one_trace_from_the_client_to_the_store() {
    let runtime = Runtime::new().expect("a runtime");
    let (endpoint, spans) = collector(&runtime);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let variable = ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let delay = ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned());
    let apart = apart(folder.path(), vec![variable.clone(), delay]);
    let run = |args: &[&str]| {
        let mut command = apart.cli().command(args).expect("a binary");
        let ended = command.env(variable.0, &variable.1).output().expect("it runs");
        assert!(ended.status.success(), "{ended:?}");
    };
    let rows = folder.path().join("clicks.csv");
    let row = "e1,7,2026-01-01T12:00:00Z,1,,5,2.5,food";
    std::fs::write(&rows, format!("{CLICKS}\n{row}\n")).expect("a file");
    run(&["publish", &format!("clicks={}", rows.display())]);
    apart.settle();
    run(&["get", "user_activity", "7"]);

    let chains: [&[(&str, &str)]; 2] = [
        &[
            ("publish batch", "cli"),
            ("ingest batch", "ingest"),
            ("join process", "join"),
            ("join flush", "join"),
            ("store append", "store-writer"),
        ],
        &[
            ("get features", "cli"),
            ("read features", "feature-serving"),
            ("read heads", "feature-serving"),
            ("load heads", "feature-serving"),
            ("store load", "store-writer"),
        ],
    ];
    for chain in chains {
        wait_until("the spans of a chain", SOON, || {
            let kept = spans.lock().expect("no test panics with it").clone();
            stands(&kept, chain).then_some(())
        });
    }
}

/// Whether these spans stand in one trace, each below the one before it, the first one the head.
fn stands(kept: &[(String, Span)], chain: &[(&str, &str)]) -> bool {
    let mut above: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (depth, (name, service)) in chain.iter().enumerate() {
        let found = kept.iter().filter(|(of, span)| {
            let below = match depth {
                0 => span.parent_span_id.is_empty(),
                _ => above.contains(&(span.trace_id.clone(), span.parent_span_id.clone())),
            };
            span.name == *name && of.contains(&format!("millrace-{service}\"")) && below
        });
        above = found.map(|(_, span)| (span.trace_id.clone(), span.span_id.clone())).collect();
    }
    !above.is_empty()
}

/// Who asks for nothing sends nothing, whatever its callers say.
#[test]
fn nothing_is_exported_unless_it_is_asked_for() {
    let runtime = Runtime::new().expect("a runtime");
    let (endpoint, spans) = collector(&runtime);
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Not one of the variables that ask for it.
    let apart = apart(folder.path(), vec![("OTEL_EXPORTER_ENDPOINT", endpoint)]);
    let parent = format!("00-{TRACE}-{CALLER}-01");
    runtime.block_on(publish(apart.endpoint("ingest"), "p", Some(&parent)));
    let mut apart = apart;
    for name in ["feature-serving", "ingest", "join", "store-writer"] {
        // What was not sent yet would be sent now.
        assert_eq!(apart.terminate(name).expect("it ends"), 0, "{name}");
    }
    assert!(spans.lock().expect("no test panics with it").is_empty());
}
