//! Hops and clients over TLS, where one side is not trusted by the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use millrace_client::port::{Holds, JoinError, JoinPort as _, PeerPort as _, StorePort as _};
use millrace_client::remote::{Persistence, RemoteJoin, RemotePeer, RemoteStore};
use millrace_client::{
    Client, ClientError, ClientOptions, ClientSecurity, Endpoints, TrustProblem,
};
use millrace_grpc::{
    Access, ClientCertificates, Drain, GrpcServer, Security, ServerLimits, ServerTls,
};
use millrace_store::StoreError;
use millrace_types::SlotId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    date_time_ymd as day,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::hop::batch;
use crate::support::{SOON, soon};

/// Signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
type Signed = (Vec<u8>, Vec<u8>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate for a host, for these years.
    fn sign(&self, host: &str, years: std::ops::Range<i32>) -> Signed {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = day(years.start, 1, 1);
        params.not_after = day(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        (cert.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn valid(&self) -> Signed {
        self.sign("127.0.0.1", 2020..4000)
    }

    /// What a client trusts and shows.
    fn client(&self, shown: Option<Signed>) -> ClientSecurity {
        let security = ClientSecurity::default().with_ca(self.pem());
        match shown {
            Some((cert, key)) => security.with_certificate(cert, key),
            None => security,
        }
    }

    /// A server that shows this and asks clients for certificates of this authority.
    async fn serve(&self, (cert, key): Signed) -> SocketAddr {
        let clients = self.pem();
        let clients = ClientCertificates::Required(&clients);
        let tls = Some(ServerTls::from_pem(&cert, &key, clients).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = GrpcServer::new(ServerLimits::default(), Drain::new())
            .with_security(Security { tls, access: None });
        server.health().set_serving(true).await;
        tokio::spawn(async move { server.serve(listener, std::future::pending()).await.unwrap() });
        address
    }
}

fn store(address: SocketAddr, security: &ClientSecurity) -> RemoteStore {
    let endpoint = format!("https://{address}");
    RemoteStore::new(&[endpoint], security, Persistence::Within(SOON)).unwrap()
}

/// What a reader of marks is told; a connection that broke before the other side had said why is
/// tried again within its patience.
async fn problem(address: SocketAddr, security: &ClientSecurity) -> String {
    let loaded = soon(store(address, security).load_mark(SlotId(0))).await;
    match loaded {
        Err(StoreError::NotTrusted { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hop_that_is_not_trusted_says_which_why_and_what_to_do() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    // Made anew under the same name, as happens when the key of the old one was lost.
    let anew = Authority::new("ours");
    let shown = || Some(ours.valid());
    let served = ours.serve(ours.valid()).await;

    let endpoint = [format!("https://{served}")];
    let peer = RemotePeer::new("store-writer", &endpoint, &ours.client(shown())).unwrap();
    assert_eq!(soon(peer.serves()).await, Ok(()), "who is trusted is served");

    use TrustProblem as P;
    let expired = |authority: &Authority| authority.sign("127.0.0.1", 2020..2021);
    for (server, client, expected) in [
        (served, theirs.client(shown()), P::UnknownIssuer),
        (served, anew.client(shown()), P::UnknownIssuer),
        (ours.serve(expired(&ours)).await, ours.client(shown()), P::Expired),
        (
            ours.serve(ours.sign("127.0.0.1", 3000..4000)).await,
            ours.client(shown()),
            P::NotValidYet,
        ),
        (
            ours.serve(ours.sign("store.example", 2020..4000)).await,
            ours.client(shown()),
            P::NameMismatch,
        ),
        (served, ours.client(None), P::CertificateMissing),
        (served, ours.client(Some(expired(&ours))), P::OwnExpired),
        (served, ours.client(Some(theirs.valid())), P::OwnUnknownIssuer),
        (served, ours.client(Some(anew.valid())), P::OwnUnknownIssuer),
    ] {
        let told = problem(server, &client).await;
        let way_out = expected.way_out();
        let says =
            format!("store-writer at https://{server} cannot be called: {expected}; {way_out}");
        assert_eq!(told, says);
    }
}

/// A service without the role of services is told so; it asks no more often than one without trust.
#[tokio::test]
async fn a_credential_that_is_refused_is_no_outcome_that_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let access = "[[token]]\nname = \"a\"\ntoken = \"a-token-of-tests\"\nroles = [\"read\"]\n";
    let access = Some(Arc::new(Access::parse(access).unwrap()));
    let server = GrpcServer::new(ServerLimits::default(), Drain::new())
        .with_security(Security { tls: None, access });
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await.unwrap() });
    let reader = ClientSecurity::default().with_token("a-token-of-tests").unwrap();
    for (security, says) in [(ClientSecurity::default(), "token"), (reader, "internal")] {
        let within = Persistence::Within(SOON);
        let store = RemoteStore::new(std::slice::from_ref(&endpoint), &security, within).unwrap();
        let loaded = soon(store.load_mark(SlotId(0))).await;
        let Err(StoreError::NotTrusted { reason }) = loaded else { panic!("{loaded:?}") };
        assert!(reason.contains("it refuses what is shown to it"), "{reason}");
        assert!(reason.contains(says) && reason.contains("access file"), "{reason}");
    }
}

/// Takes connections, says something that is not TLS, and counts them.
async fn plain() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    (address, count)
}

/// Nothing comes of calling again at once: however many reads want the hop, few connect.
#[tokio::test]
async fn a_hop_that_is_not_trusted_is_left_alone_for_a_while() {
    let ours = Authority::new("ours");
    let (address, connections) = plain().await;
    let begun = Instant::now();
    let store = store(address, &ours.client(None));
    for _ in 0..200 {
        let loaded = soon(store.load_mark(SlotId(0))).await;
        let Err(StoreError::NotTrusted { reason }) = loaded else { panic!("{loaded:?}") };
        assert!(reason.contains("it does not speak TLS"), "{reason}");
    }
    let most = 1 + begun.elapsed().as_secs() as usize;
    let made = connections.load(Ordering::SeqCst);
    assert!((1..=most).contains(&made), "{made} connections in {:?}", begun.elapsed());
}

/// Whoever hands facts over is told, too, and keeps them.
#[tokio::test]
async fn a_batch_for_a_join_service_that_is_not_trusted_fails_as_such() {
    let ours = Authority::new("ours");
    let (address, _) = plain().await;
    let endpoint = [format!("https://{address}")];
    let join = RemoteJoin::new(&endpoint, &ours.client(None)).unwrap();
    let holds = Holds::default();
    let pending = soon(join.process(batch(), &holds)).await.unwrap();
    let failed = soon(pending).await.unwrap().unwrap_err();
    let JoinError::Store(StoreError::NotTrusted { reason }) = &failed.error else {
        panic!("{:?}", failed.error)
    };
    assert!(reason.starts_with(&format!("join at https://{address} cannot be")), "{reason}");
    assert!(holds.any(), "a later batch could state a watermark ahead of its facts");
}

/// A command does not try for as long as it tries a service that is away.
#[tokio::test]
async fn a_client_is_told_at_once() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let served = ours.serve(ours.valid()).await;
    let options = ClientOptions { call_timeout: SOON, reach_within: SOON };
    let endpoint = format!("https://{served}");
    let security = theirs.client(Some(ours.valid()));
    let client = Client::secure(&Endpoints::single(&endpoint), options, &security).unwrap();
    let begun = Instant::now();
    let error = soon(client.status(false)).await.unwrap_err();
    let ClientError::NotTrusted(told) = &error else { panic!("{error:?}") };
    assert_eq!(told.problem, TrustProblem::UnknownIssuer);
    assert_eq!((told.service, told.address.as_str()), ("feature-serving", endpoint.as_str()));
    assert!(!error.is_retryable());
    assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
}

/// Who calls a server of TLS without it is told so, at once.
#[tokio::test]
async fn a_client_without_tls_is_told_at_once() {
    let ours = Authority::new("ours");
    let endpoint = format!("http://{}", ours.serve(ours.valid()).await);
    let options = ClientOptions { call_timeout: SOON, reach_within: SOON };
    let client = Client::new(&Endpoints::single(&endpoint), options).unwrap();
    let error = soon(client.status(false)).await.unwrap_err();
    let ClientError::NotTrusted(told) = &error else { panic!("{error:?}") };
    assert_eq!(told.problem, TrustProblem::NotPlainText);
    assert_eq!(told.address, endpoint);
}
