//! A Jaeger of a test: the program of `MILLRACE_JAEGER`, which `cargo xtask test --only tools` builds.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kept::Kept;
use crate::process::{ServerError, free_port};

/// It takes a second on an idle core.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Somebody else may take a port first.
const TRIES: usize = 5;
const PROGRAM: &str = "jaeger-v1.76.0/jaeger";
const HINT: &str = "`cargo xtask test --only tools` builds it, and MILLRACE_JAEGER names another \
                    program of Jaeger 2";

/// Which traces are kept where services are deployed.
const DEPLOYED: &str = include_str!("../../../deploy/jaeger/jaeger.yaml");

/// What a trace takes to be slow for [`Jaeger::start_as_deployed`]: the machine of a test is slow at times.
pub const SLOW_TRACE: Duration = Duration::from_secs(2);

/// A running Jaeger that keeps the last 20,000 traces in memory. It ends, and its folder goes, when
/// this is dropped and also when the process that started it ends in any way.
#[derive(Debug)]
pub struct Jaeger {
    ports: Ports,
    // Held for its end.
    _process: Kept,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    otlp: u16,
    query: u16,
    query_grpc: u16,
}

impl Jaeger {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start() -> Result<Self, ServerError> {
        Self::start_keeping("[]", "")
    }

    /// Starts one that keeps the traces that `deploy/jaeger/jaeger.yaml` keeps, and no share of the rest: those
    /// with an error, and those that take [`SLOW_TRACE`], where it says 250 ms.
    ///
    /// # Errors
    /// [`ServerError`].
    ///
    /// # Panics
    /// When the file says it in other words.
    pub fn start_as_deployed() -> Result<Self, ServerError> {
        Self::start_keeping("[tail_sampling]", &deployed_sampling())
    }

    fn start_keeping(processors: &str, described: &str) -> Result<Self, ServerError> {
        let folder = tempfile::tempdir().map_err(ServerError::io("make a folder"))?.keep();
        let mut tries = 1;
        loop {
            let ports = Ports { otlp: free_port()?, query: free_port()?, query_grpc: free_port()? };
            match Self::start_on(ports, &folder, &ports.yaml(processors, described)) {
                Err(ServerError::Ended { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(jaeger) => return Ok(jaeger),
            }
        }
    }

    fn start_on(ports: Ports, folder: &Path, yaml: &str) -> Result<Self, ServerError> {
        // One that ended before it was ready took its folder with it.
        let config = folder.join("jaeger.yaml");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&config, yaml))
            .map_err(ServerError::io("write jaeger.yaml"))?;
        let words = [
            program().display().to_string(),
            "--config".to_owned(),
            format!("file:{}", config.display()),
        ];
        let mut process = Kept::start(&words, folder, HINT)?;
        process.wait_ready(READY_WITHIN, || {
            TcpStream::connect(("127.0.0.1", ports.otlp)).is_ok()
                && ports.ask("/api/services").is_ok()
        })?;
        Ok(Self { ports, _process: process })
    }

    /// Where spans are sent over OTLP/gRPC, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it.
    #[must_use]
    pub fn otlp(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.otlp)
    }

    /// Where traces are asked for: `/api/services`, `/api/traces?service=…`, `/api/traces/ID`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.query)
    }

    /// The JSON of one page of the query API. A trace that is not there is an error, 404.
    ///
    /// # Errors
    /// [`ServerError::Io`] when nobody answers, or with another status than 200.
    pub fn get(&self, path: &str) -> Result<String, ServerError> {
        self.ports.ask(path).map_err(ServerError::io(format!("get {path} of Jaeger")))
    }
}

/// How the file of `deploy/` chooses traces, none of which are kept as a share, and what is slow.
fn deployed_sampling() -> String {
    let processors = DEPLOYED.find("\nprocessors:\n").expect("it has processors") + 1;
    let batch = DEPLOYED[processors..].find("  batch:\n").expect("which end with batches");
    let slow = format!("threshold_ms: {}", SLOW_TRACE.as_millis());
    let instead =
        [("\"${env:MILLRACE_TRACES_PERCENT:-100}\"", "0"), ("threshold_ms: 250", slow.as_str())];
    let mut sampling = DEPLOYED[processors..processors + batch].to_owned();
    for (deployed, of_a_test) in instead {
        assert!(sampling.contains(deployed), "deploy/jaeger/jaeger.yaml says no {deployed}");
        sampling = sampling.replace(deployed, of_a_test);
    }
    sampling
}

impl Ports {
    /// No batches: a span is there once it was sent.
    fn yaml(self, processors: &str, described: &str) -> String {
        let Self { otlp, query, query_grpc } = self;
        format!(
            "service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], processors: {processors}, exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 20000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: \"127.0.0.1:{query}\"}}
    grpc: {{endpoint: \"127.0.0.1:{query_grpc}\"}}
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{otlp}\"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
{described}"
        )
    }

    fn ask(self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.query))?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        // HTTP/1.0: the answer comes in one piece, and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: jaeger\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or_default();
        match status.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(std::io::Error::other(format!("{status}: {body}"))),
        }
    }
}

fn program() -> PathBuf {
    std::env::var_os("MILLRACE_JAEGER").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(PROGRAM),
        PathBuf::from,
    )
}
