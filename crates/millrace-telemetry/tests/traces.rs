//! Spans as a collector receives them: whose children they are, what they are linked to, and that
//! the last ones are sent when the process ends.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace_telemetry::{Span, TraceContext, Traces};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<otlp::Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[expect(clippy::disallowed_methods, reason = "a collector of the tests, not a server of ours")]
async fn collector() -> (String, Collector) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (endpoint, collector)
}

/// One test: a process has one exporter.
#[tokio::test(flavor = "multi_thread")]
async fn spans_stand_where_they_belong_and_the_last_are_sent() {
    let read = |_: &str| None;
    assert!(Traces::install("test", "1.2.3", read).unwrap().is_none(), "nobody asks for it");

    let (endpoint, collector) = collector().await;
    let read = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.clone());
    let traces = Traces::install("test", "1.2.3", read).unwrap().expect("it is asked for");

    let parent = TraceContext::read(PARENT, "");
    let batches: Vec<Span> = (0..200).map(|_| Span::server("batch", || parent.clone())).collect();
    // Several slots have facts of one batch; a batch in no trace has no part in it.
    let mut contexts: Vec<TraceContext> = vec![TraceContext::default()];
    contexts.extend(batches.iter().flat_map(|b| [b.context(), b.context()]));
    let flush = Span::shared("flush", || contexts);
    let part = flush.around(async { Span::within("part") }).await;
    part.fail("STORE_FAILED");
    drop((part, flush, batches));
    assert_eq!(Span::within("outside").context(), TraceContext::default(), "in no trace");
    assert_eq!(Span::shared("idle", Vec::new).context(), TraceContext::default());
    drop(Span::server("root", TraceContext::default));

    let begun = Instant::now();
    traces.shut_down().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    let spans = collector.0.lock().unwrap().clone();
    let mut by_name: BTreeMap<&str, Vec<&otlp::Span>> = BTreeMap::new();
    for span in &spans {
        by_name.entry(&span.name).or_default().push(span);
    }
    assert_eq!(by_name.keys().copied().collect::<Vec<_>>(), ["batch", "flush", "part", "root"]);
    assert_eq!(by_name["batch"].len(), 200);
    let (flush, part, root) = (by_name["flush"][0], by_name["part"][0], by_name["root"][0]);
    let ids: BTreeSet<&[u8]> = by_name["batch"].iter().map(|b| b.span_id.as_slice()).collect();
    assert!(ids.contains(flush.parent_span_id.as_slice()), "it is below one of them");
    let linked: BTreeSet<&[u8]> = flush.links.iter().map(|l| l.span_id.as_slice()).collect();
    assert_eq!((flush.links.len(), linked.len()), (128, 128), "each at most once");
    assert!(linked.is_subset(&ids) && !linked.contains(flush.parent_span_id.as_slice()));
    assert_eq!(part.parent_span_id, flush.span_id);
    assert_eq!(part.status.as_ref().unwrap().message, "STORE_FAILED");
    assert!(root.parent_span_id.is_empty() && root.trace_id != flush.trace_id);
}
