//! A server, its legitimate reader, and an attacker who writes frames.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use millrace_grpc::{
    Access, ClientCertificates, Drain, GrpcServer, Security, ServerLimits, ServerTls, services,
};
use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::feature_service_server::FeatureService;
use millrace_proto::v1::join_service_server::JoinService;
use millrace_proto::v1::{
    Change, GetFeaturesRequest, GetFeaturesResponse, StreamFeaturesRequest, StreamFeaturesResponse,
    SubscribeRequest, SubscribeResponse,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Nothing takes longer, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);
/// Whoever does what nobody may is closed within this, on a busy machine too.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);

/// What the reader shows where that is asked for, and who may read and who may not.
pub(crate) const READER: &str = "reader-s3cret-token";
pub(crate) const PUBLISHER: &str = "publisher-s3cret-token";
const ACCESS: &str = r#"
    [[token]]
    name = "reader"
    token = "reader-s3cret-token"
    roles = ["read"]
    [[token]]
    name = "publisher"
    token = "publisher-s3cret-token"
    roles = ["publish"]
"#;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const READ: &str = "/millrace.v1.FeatureService/GetFeatures";
pub(crate) const STREAM: &str = "/millrace.v1.FeatureService/StreamFeatures";
pub(crate) const SUBSCRIBE: &str = "/millrace.v1.JoinService/Subscribe";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers reads, with much where it is asked to, and subscriptions without an end.
#[derive(Clone, Copy)]
struct Served;

#[tonic::async_trait]
impl FeatureService for Served {
    type GetTrainingSetStream =
        futures::stream::Empty<Result<millrace_proto::v1::GetTrainingSetResponse, Status>>;

    async fn get_training_set(
        &self,
        _: Request<Streaming<millrace_proto::v1::GetTrainingSetRequest>>,
    ) -> Result<Response<Self::GetTrainingSetStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type StreamFeaturesStream = Answers<StreamFeaturesResponse>;

    async fn get_features(
        &self,
        request: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        let view = request.into_inner().view;
        let text = if view == "large" { "v".repeat(4 << 20) } else { String::new() };
        Ok(Response::new(GetFeaturesResponse { changelogs: vec![text], ..Default::default() }))
    }

    async fn stream_features(
        &self,
        request: Request<Streaming<StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        let requests = request.into_inner();
        Ok(Response::new(Box::pin(requests.map(|r| r.map(|_| StreamFeaturesResponse::default())))))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

#[tonic::async_trait]
impl JoinService for Served {
    type SubscribeStream = Answers<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let change = Change { cursor: "c".repeat(64 << 10), ..Change::default() };
        let flood = SubscribeResponse { changes: vec![change], ..SubscribeResponse::default() };
        Ok(Response::new(match request.into_inner().view.as_str() {
            "flood" => Box::pin(futures::stream::repeat(Ok(flood))),
            _ => Box::pin(futures::stream::pending()),
        }))
    }

    type ProcessStream = Answers<v1::ProcessResponse>;

    async fn process(
        &self,
        _: Request<Streaming<v1::ProcessRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn close_up_to(
        &self,
        _: Request<v1::CloseUpToRequest>,
    ) -> Result<Response<v1::CloseUpToResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn suspect_entities(
        &self,
        _: Request<v1::SuspectEntitiesRequest>,
    ) -> Result<Response<v1::SuspectEntitiesResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_slots(
        &self,
        _: Request<v1::GetSlotsRequest>,
    ) -> Result<Response<v1::GetSlotsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// A server under attack.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The server's certificate, where it speaks TLS.
    certificate: Option<String>,
    reader: JoinHandle<Vec<Duration>>,
    stop_reader: oneshot::Sender<()>,
    _served: JoinHandle<()>,
}

impl Target {
    /// Starts a server with these limits, and a reader that calls it all the time.
    pub(crate) async fn start(limits: ServerLimits) -> Self {
        Self::protected(limits, Security::default(), None).await
    }

    /// The same where everybody must show a token, of the [`READER`] or the [`PUBLISHER`].
    pub(crate) async fn start_with_access(limits: ServerLimits) -> Self {
        let access = Some(Arc::new(Access::parse(ACCESS).unwrap()));
        Self::protected(limits, Security { access, tls: None }, None).await
    }

    /// The same under TLS.
    pub(crate) async fn start_with_tls(limits: ServerLimits) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (chain, key) = (certificate.as_bytes(), key.as_bytes());
        let tls = ServerTls::from_pem(chain, key, ClientCertificates::NotAsked).unwrap();
        let security = Security { access: None, tls: Some(tls) };
        Self::protected(limits, security, Some(certificate)).await
    }

    async fn protected(
        limits: ServerLimits,
        security: Security,
        certificate: Option<String>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = GrpcServer::new(limits, Drain::new())
            .with_security(security)
            .add_service(services::features(Served, &limits))
            .add_service(services::join(Served, &limits));
        server.health().set_serving(true).await;
        let served = tokio::spawn(async move {
            server.serve(listener, std::future::pending()).await.unwrap();
        });
        let mut client = FeatureServiceClient::new(channel(address, certificate.as_deref()));
        let (stop_reader, mut stopped) = oneshot::channel();
        let reader = tokio::spawn(async move {
            let mut took = Vec::new();
            while stopped.try_recv().is_err() {
                // A call that fails, or takes too long, is noticed.
                let begun = Instant::now();
                soon(client.get_features(read_request())).await.unwrap();
                took.push(begun.elapsed());
                // Pacing, not waiting: the machine is shared with the attacker.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            took
        });
        Self { address, certificate, reader, stop_reader, _served: served }
    }

    /// A channel from the reader's address.
    pub(crate) fn channel(&self) -> Channel {
        channel(self.address, self.certificate.as_deref())
    }

    /// A client's side of TLS that trusts the server.
    pub(crate) fn tls_config(&self) -> Arc<ClientConfig> {
        let pem = self.certificate.as_ref().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// Ends the reader: all its calls were answered, and one that comes now is. How long they took is
    /// printed; a machine that does other things beside proves nothing about it.
    #[expect(clippy::print_stdout, reason = "it is for whoever asks for it with --nocapture")]
    pub(crate) async fn reader_noticed_nothing(self) {
        let channel = self.channel();
        self.stop_reader.send(()).unwrap();
        let mut took = soon(self.reader).await.unwrap();
        took.sort_unstable();
        let within = |percent: usize| took.get((took.len() * percent).div_ceil(100) - 1);
        let slowest = took.last().expect("the reader called");
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        println!(
            "{test}: reader: {} calls, {:?} at the median, {:?} at the 99th percentile, {slowest:?} at most",
            took.len(),
            within(50).expect("it called"),
            within(99).expect("it called"),
        );
        let mut newcomer = FeatureServiceClient::new(channel);
        soon(newcomer.get_features(read_request())).await.unwrap();
    }
}

/// The reader's request.
fn read_request() -> Request<GetFeaturesRequest> {
    let mut request = Request::new(GetFeaturesRequest::default());
    let token = format!("Bearer {READER}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

/// A connection of its own, under TLS where there is a certificate to trust.
fn channel(address: SocketAddr, certificate: Option<&str>) -> Channel {
    let endpoint = match certificate {
        None => Endpoint::from_shared(format!("http://{address}")).unwrap(),
        Some(pem) => {
            let trusted = Certificate::from_pem(pem);
            let tls = ClientTlsConfig::new().ca_certificate(trusted).domain_name("localhost");
            Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap()
        }
    };
    endpoint.connect_lazy()
}

/// The name that the server's certificate has.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}

/// How a connection ended for the attacker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The code of the last GOAWAY, if there was one.
    pub(crate) goaway: Option<u32>,
    /// Streams that the server reset.
    pub(crate) resets: usize,
    /// Frames of the attacker that were sent before it was closed, about.
    pub(crate) sent: usize,
    /// How long that took.
    pub(crate) took: Duration,
}

/// Bytes to the server and back, under TLS or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

/// The streams that an attacker opens.
pub(crate) struct Numbers(u32);

impl Numbers {
    /// The number of a new stream.
    pub(crate) fn open(&mut self) -> u32 {
        let stream = self.0;
        self.0 += 2;
        stream
    }
}

/// A connection whose frames are written by hand.
pub(crate) struct Attacker {
    pub(crate) stream: Box<dyn Wire>,
    numbers: Numbers,
}

impl Attacker {
    /// Connects from an address of its own.
    pub(crate) async fn connect(target: &Target) -> Self {
        Self::connect_from(2, target).await
    }

    async fn connect_from(number: u8, target: &Target) -> Self {
        let from = Ipv4Addr::new(127, 0, 0, number);
        let stream = connect(target.address, from).await.unwrap();
        let stream: Box<dyn Wire> = match target.certificate {
            None => Box::new(stream),
            Some(_) => {
                let tls = TlsConnector::from(target.tls_config()).connect(server_name(), stream);
                Box::new(soon(tls).await.unwrap())
            }
        };
        Self { stream, numbers: Numbers(1) }
    }

    /// Connects and says hello, with these settings.
    pub(crate) async fn greet(target: &Target, settings: &[(u16, u32)]) -> Self {
        Self::connect(target).await.say_hello(settings).await
    }

    /// The same from another address, the `number`-th.
    pub(crate) async fn greet_from(number: u8, target: &Target) -> Self {
        Self::connect_from(number, target).await.say_hello(&[]).await
    }

    async fn say_hello(mut self, settings: &[(u16, u32)]) -> Self {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        bytes.extend(frame(SETTINGS, 0, 0, &payload));
        bytes.extend(frame(SETTINGS, ACK, 0, &[]));
        self.stream.write_all(&bytes).await.unwrap();
        self
    }

    /// The number of a new stream.
    pub(crate) fn open(&mut self) -> u32 {
        self.numbers.open()
    }

    /// Begins a call and sends this message, if there is one.
    pub(crate) async fn call(&mut self, path: &str, message: Option<&[u8]>) -> u32 {
        let stream = self.open();
        let mut bytes = headers(stream, 0, path);
        if let Some(message) = message {
            bytes.extend(frame(DATA, END_STREAM, stream, &grpc(message)));
        }
        self.stream.write_all(&bytes).await.unwrap();
        stream
    }

    /// Sends what `pattern` makes, 200 times in a write, until the connection is closed or this
    /// many were sent; reads meanwhile what the server says, and to the end.
    pub(crate) async fn flood(
        self,
        most: usize,
        mut pattern: impl FnMut(&mut Numbers) -> Vec<u8>,
    ) -> Closed {
        let Self { stream, mut numbers } = self;
        let (mut reading, mut writing) = tokio::io::split(stream);
        let begun = Instant::now();
        let write = async {
            let mut sent = 0;
            while sent < most {
                let batch: Vec<u8> = (0..200).flat_map(|_| pattern(&mut numbers)).collect();
                if writing.write_all(&batch).await.is_err() {
                    break;
                }
                sent += 200;
                // The server has its turn, however much its kernel would take.
                tokio::task::yield_now().await;
            }
            sent
        };
        let (sent, mut closed) = soon(futures::future::join(write, drain(&mut reading))).await;
        closed.sent = sent;
        closed.took = begun.elapsed();
        closed
    }

    /// Reads until so many calls were refused at once, by headers that end their stream. Gives their
    /// number.
    pub(crate) async fn refused(&mut self, calls: usize) -> usize {
        let mut refused = 0;
        while refused < calls {
            match self.frame().await {
                Some((HEADERS, flags, ..)) => refused += usize::from(flags & END_STREAM != 0),
                Some(_) => {}
                None => break,
            }
        }
        refused
    }

    /// Reads the headers of the next response. Gives whether they end it.
    pub(crate) async fn answered(&mut self) -> u8 {
        loop {
            match self.frame().await {
                Some((HEADERS, flags, ..)) => return flags & END_STREAM,
                Some(_) => {}
                None => return END_STREAM,
            }
        }
    }

    /// Reads to the end of the connection, answering nothing.
    pub(crate) async fn closed(mut self) -> Closed {
        soon(drain(&mut self.stream)).await
    }

    /// The next frame's type, flags, stream and payload; `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        read_frame(&mut self.stream).await
    }

    /// Reads to the end and answers PINGs, as a client does that only does not take responses.
    pub(crate) async fn stay_alive(&mut self) -> Closed {
        let mut closed = Closed::default();
        while let Some((kind, flags, _, payload)) = self.frame().await {
            if kind == PING && flags & ACK == 0 {
                let answer = frame(PING, ACK, 0, &payload);
                if self.stream.write_all(&answer).await.is_err() {
                    break;
                }
            }
            closed.see(kind, &payload);
        }
        closed
    }
}

impl Closed {
    fn see(&mut self, kind: u8, payload: &[u8]) {
        match kind {
            RST_STREAM => self.resets += 1,
            GOAWAY => {
                self.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            _ => {}
        }
    }
}

async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> Closed {
    let mut closed = Closed::default();
    while let Some((kind, _, _, payload)) = read_frame(stream).await {
        closed.see(kind, &payload);
    }
    closed
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, u32::from_be_bytes(id), payload))
}

/// Connects from one of the loopback's addresses.
pub(crate) async fn connect(to: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    socket.connect(to).await
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The HEADERS of a call.
pub(crate) fn headers(stream: u32, flags: u8, path: &str) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &fields(path))
}

/// The fields of a call: `:method: POST`, `:scheme: http`, and literals.
pub(crate) fn fields(path: &str) -> Vec<u8> {
    let mut fields = vec![0x83, 0x86];
    fields.extend(literal(":path", path));
    fields.extend(literal(":authority", "t"));
    fields.extend(literal("content-type", "application/grpc"));
    fields.extend(literal("te", "trailers"));
    fields
}

/// A field that is never put in the table. Its parts are shorter than 127 bytes.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127);
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text.as_bytes());
    }
    field
}

/// A message as gRPC frames it.
pub(crate) fn grpc(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}
