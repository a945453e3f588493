//! The admin port over real connections: what it answers, and whom it cuts off.

#![expect(clippy::unwrap_used, reason = "a test stops at whatever it does not expect")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_telemetry::admin::{AdminLimits, AdminPort};
use millrace_telemetry::{AdminServer, Measure, Metric, Metrics};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// No test waits longer for anything.
const SOON: Duration = Duration::from_secs(20);
const MEASURED: Metric =
    Metric::gauge("millrace_test_measured", &["name"], "What was measured for this scrape");

/// Counts how often it was asked.
struct Counted(opentelemetry::metrics::Gauge<f64>, std::sync::atomic::AtomicU32);

#[async_trait::async_trait]
impl Measure for Counted {
    async fn measure(&self) {
        let times = self.1.fetch_add(1, Ordering::SeqCst) + 1;
        let name = opentelemetry::KeyValue::new("name", "a \"quoted\"\nname");
        self.0.record(times.into(), &[name]);
    }
}

/// Never answers, as a service that hangs.
struct Hangs;

#[async_trait::async_trait]
impl Measure for Hangs {
    async fn measure(&self) {
        std::future::pending().await
    }
}

async fn port(server: AdminServer) -> AdminPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.spawn(listener).unwrap()
}

fn quick() -> AdminLimits {
    AdminLimits {
        connections: 4,
        header_within: Duration::from_millis(300),
        connection_within: Duration::from_millis(900),
        ..AdminLimits::default()
    }
}

async fn send(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    timeout(SOON, exchange).await.expect("answered in time")
}

async fn get(address: SocketAddr, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n")).await
}

/// One test for all that needs the registry: a process has one.
#[tokio::test]
async fn metrics_are_measured_when_they_are_asked_for_and_health_is_told() {
    let metrics = Metrics::install("test", "1.2.3").unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let told = ready.clone();
    let counted = Arc::new(Counted(MEASURED.set(), Default::default()));
    let port = port(AdminServer::new(metrics)).await;
    let address = port.address();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "), "nothing serves yet");
    port.serves(move || told.load(Ordering::SeqCst));
    port.measures(counted);
    port.measures(Arc::new(Hangs));

    let answer = get(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"));
    assert!(answer.contains("millrace_build_info{service=\"test\",version=\"1.2.3\"} 1"));
    assert!(answer.contains("# TYPE millrace_test_measured gauge"));
    let series = r#"millrace_test_measured{name="a \"quoted\"\nname"} "#;
    assert!(answer.contains(&format!("{series}1")), "{answer}");
    assert!(cfg!(not(target_os = "linux")) || answer.contains("process_resident_memory_bytes"));
    assert!(get(address, "/metrics").await.contains(&format!("{series}2")));

    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
    ready.store(true, Ordering::SeqCst);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
    let post = "POST /metrics HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n";
    assert!(send(address, post).await.starts_with("HTTP/1.1 405 "));
}

fn plain(limits: AdminLimits) -> AdminServer {
    // Nothing counts here: the registry is another test's.
    AdminServer::new(Metrics::default()).with_limits(limits)
}

#[tokio::test]
async fn heads_that_are_too_large_or_too_slow_are_cut_off() {
    let port = port(plain(quick())).await;
    let large = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(16 << 10));
    let mut stream = TcpStream::connect(port.address()).await.unwrap();
    // It may be cut off before everything is written.
    let _ = stream.write_all(large.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("ended");
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200 "));

    let begun = Instant::now();
    let mut slow = TcpStream::connect(port.address()).await.unwrap();
    slow.write_all(b"GET /livez HT").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, slow.read_to_end(&mut answer)).await.expect("cut off");
    assert!(begun.elapsed() >= quick().header_within);
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let port = port(plain(quick())).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(TcpStream::connect(port.address()).await.unwrap());
    }
    // 40 at 4 a time, each cut off after 300 ms, and then it is our turn.
    assert!(get(port.address(), "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let port = port(plain(AdminLimits { connections: 1, ..quick() })).await;
    let mut deaf = TcpStream::connect(port.address()).await.unwrap();
    // A request that is not over keeps the connection open: its body never comes.
    deaf.write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\ncontent-length: 9999\r\n\r\n")
        .await
        .unwrap();
    assert!(get(port.address(), "/livez").await.starts_with("HTTP/1.1 200 "));
}
