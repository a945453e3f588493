//! Spans as a collector receives them over mutual TLS: whose children they are, what they are linked
//! to, and that the last ones are sent when the process ends.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

const NAMES: [&str; 5] = ["batch", "flush", "part", "root", "save"];
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
async fn collector(tls: ServerTlsConfig) -> (String, Collector) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (endpoint, collector)
}

/// What a collector shows and asks for; `folder` gets the files of its clients.
fn tls(folder: &Path) -> ServerTlsConfig {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
    };
    let (cert, key) = signed();
    for (name, text) in [("ca.pem", ca.pem()), ("cert.pem", cert), ("key.pem", key)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let (cert, key) = signed();
    let identity = Identity::from_pem(cert, key);
    ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(ca.pem()))
}

/// One test: a process has one exporter.
#[tokio::test(flavor = "multi_thread")]
async fn spans_stand_where_they_belong_and_the_last_are_sent() {
    let read = |_: &str| None;
    assert!(Traces::install("test", "1.2.3", read).unwrap().is_none(), "nobody asks for it");

    let folder = tempfile::tempdir().unwrap();
    let (endpoint, collector) = collector(tls(folder.path())).await;
    let file = |name: &str| Some(folder.path().join(name).display().to_string());
    let read = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_EXPORTER_OTLP_CERTIFICATE" => file("ca.pem"),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" => file("cert.pem"),
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY" => file("key.pem"),
        _ => None,
    };
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
    // Found where a save of heads came after two batches, the first of them not sampled.
    let unsampled = format!("00-{}-{}-00", "1".repeat(32), "2".repeat(16));
    let contexts = [TraceContext::read(&unsampled, ""), parent.clone()];
    drop(Span::shared("save", || contexts.to_vec()));

    let begun = Instant::now();
    traces.shut_down().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    let spans = collector.0.lock().unwrap().clone();
    let mut by_name: BTreeMap<&str, Vec<&otlp::Span>> = BTreeMap::new();
    for span in &spans {
        by_name.entry(&span.name).or_default().push(span);
    }
    assert_eq!(by_name.keys().copied().collect::<Vec<_>>(), NAMES);
    assert_eq!(by_name["batch"].len(), 200);
    let (flush, part, root) = (by_name["flush"][0], by_name["part"][0], by_name["root"][0]);
    let ids: BTreeSet<&[u8]> = by_name["batch"].iter().map(|b| b.span_id.as_slice()).collect();
    assert!(ids.contains(flush.parent_span_id.as_slice()), "it is below one of them");
    let linked: BTreeSet<&[u8]> = flush.links.iter().map(|l| l.span_id.as_slice()).collect();
    assert_eq!((flush.links.len(), linked.len()), (128, 128), "each at most once");
    assert!(linked.is_subset(&ids) && !linked.contains(flush.parent_span_id.as_slice()));
    let save = by_name["save"][0];
    assert_eq!(save.trace_id, flush.trace_id, "it is seen by whoever asked for traces");
    assert_eq!((save.links.len(), save.links[0].trace_id[0]), (1, 0x11));
    assert_eq!(part.parent_span_id, flush.span_id);
    assert_eq!(part.status.as_ref().unwrap().message, "STORE_FAILED");
    assert!(root.parent_span_id.is_empty() && root.trace_id != flush.trace_id);
}
