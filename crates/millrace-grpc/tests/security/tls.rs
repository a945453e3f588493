//! Certificates of both sides.

use std::sync::Arc;
use std::time::Duration;

use millrace_grpc::{
    Access, ClientCertificates, ErrorCode, Security, ServerLimits, ServerTls, TlsError,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::certificates::Authority;
use crate::support::{access, channel, plain, read, refused, serve, tls};

const READER: &str = "spiffe://shop/reader";
const FILE: &str = r#"
    [[token]]
    name = "reader"
    token = "reader-s3cret-token"
    roles = ["read"]
    [[certificate]]
    name = "spiffe://shop/reader"
    roles = ["read"]
    [[certificate]]
    name = "spiffe://shop/publisher"
    roles = ["publish"]
"#;

#[tokio::test]
async fn a_certificate_does_what_its_roles_say() {
    let authority = Authority::new();
    let ca = authority.pem();
    let tls = tls(&authority, ClientCertificates::Optional(ca.as_bytes()));
    let address = serve(Security { tls, access: access(FILE) }, ServerLimits::default()).await;
    let of = async |client| channel(address, &authority, client).await.unwrap();

    let reader = authority.client(READER);
    read(of(Some(&reader)).await, "v", None).await.unwrap();
    let token = Some("reader-s3cret-token");
    read(of(None).await, "v", token).await.unwrap();

    let publisher = authority.client("spiffe://shop/publisher");
    let answer = read(of(Some(&publisher)).await, "v", None).await;
    refused(answer, ErrorCode::PermissionDenied, &["spiffe"]);
    let stranger = authority.client("spiffe://shop/reader/x");
    let answer = read(of(Some(&stranger)).await, "v", None).await;
    refused(answer, ErrorCode::PermissionDenied, &["spiffe"]);
    refused(read(of(None).await, "v", None).await, ErrorCode::Unauthenticated, &["spiffe"]);
    // A token that is shown counts, and not the certificate beside it.
    let answer = read(of(Some(&reader)).await, "v", Some("wrong-s3cret-token")).await;
    refused(answer, ErrorCode::Unauthenticated, &["s3cret"]);
}

/// A certificate that is not valid is worse than none: there is no connection.
#[tokio::test]
async fn a_certificate_that_is_not_valid_is_refused_with_the_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.pem();
    for clients in
        [ClientCertificates::Optional(ca.as_bytes()), ClientCertificates::Required(ca.as_bytes())]
    {
        let security = Security { tls: tls(&authority, clients), access: access(FILE) };
        let address = serve(security, ServerLimits::default()).await;
        let told = async |client| failure(channel(address, &authority, Some(client)).await).await;
        let expired = authority.expired(READER);
        assert!(told(&expired).await.contains("CertificateExpired"));
        let foreign = other.client(READER);
        let why = told(&foreign).await;
        assert!(why.contains("UnknownCA") || why.contains("DecryptError"), "{why}");
    }
}

#[tokio::test]
async fn who_must_show_a_certificate_and_does_not_is_refused() {
    let authority = Authority::new();
    let ca = authority.pem();
    let tls = tls(&authority, ClientCertificates::Required(ca.as_bytes()));
    let access = Some(Arc::new(Access::any_certificate()));
    let address = serve(Security { tls, access }, ServerLimits::default()).await;
    let why = failure(channel(address, &authority, None).await).await;
    assert!(why.contains("CertificateRequired"), "{why}");
    let client = authority.client("spiffe://shop/anybody");
    let channel = channel(address, &authority, Some(&client)).await.unwrap();
    read(channel, "v", None).await.unwrap();
}

/// How a connection fails: at once, or at its first call, since in TLS 1.3 a client is through
/// before its certificate was looked at.
async fn failure(connected: Result<tonic::transport::Channel, tonic::transport::Error>) -> String {
    match connected {
        Err(error) => format!("{error:?}"),
        Ok(channel) => format!("{:?}", read(channel, "v", None).await.unwrap_err()),
    }
}

#[tokio::test]
async fn clients_refuse_a_server_they_do_not_trust() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = tls(&authority, ClientCertificates::NotAsked);
    let address = serve(Security { tls, access: None }, ServerLimits::default()).await;
    let why = failure(channel(address, &other, None).await).await;
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");
    read(channel(address, &authority, None).await.unwrap(), "v", None).await.unwrap();
}

/// Neither garbage, nor silence, nor HTTP/2 without TLS holds a place or disturbs others.
#[tokio::test]
async fn what_is_not_tls_is_closed_in_time() {
    let authority = Authority::new();
    let tls = tls(&authority, ClientCertificates::NotAsked);
    let first_call_within = Duration::from_millis(500);
    let limits = ServerLimits { first_call_within, ..ServerLimits::default() };
    let address = serve(Security { tls, access: None }, limits).await;
    let good = channel(address, &authority, None).await.unwrap();
    read(good.clone(), "v", None).await.unwrap();
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0x16, 3, 1], &[0xff; 64]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let closed = stream.read_to_end(&mut heard);
        let closed = tokio::time::timeout(Duration::from_secs(20), closed).await;
        assert!(closed.is_ok(), "{said:?} is still connected");
        let is_told = heard.ends_with(b"this port speaks TLS");
        assert_eq!(is_told, said.starts_with(b"PRI"), "{said:?} heard {heard:?}");
    }
    read(good, "v", None).await.unwrap();
    let error = read(plain(address).await, "v", None).await.unwrap_err();
    assert!(format!("{error:?}").contains("INADEQUATE_SECURITY"), "{error:?}");
}

#[test]
fn files_that_are_not_what_they_should_be_are_told_apart() {
    let (one, other) = (Authority::new().server(), Authority::new().server());
    let from = |cert: &str, key: &str, clients| {
        ServerTls::from_pem(cert.as_bytes(), key.as_bytes(), clients).unwrap_err()
    };
    let none = ClientCertificates::NotAsked;
    assert!(matches!(from("", &one.key, none), TlsError::Certificate));
    assert!(matches!(from(&one.key, &one.key, none), TlsError::Certificate));
    assert!(matches!(from(&one.cert, "", none), TlsError::Key));
    assert!(matches!(from(&one.cert, &one.cert, none), TlsError::Key));
    assert!(matches!(from(&one.cert, &other.key, none), TlsError::Pair(_)));
    let clients = ClientCertificates::Required(b"nothing");
    assert!(matches!(from(&one.cert, &one.key, clients), TlsError::ClientAuthority));
    let tls = ServerTls::from_pem(one.cert.as_bytes(), one.key.as_bytes(), none).unwrap();
    assert_eq!(format!("{tls:?}"), "ServerTls");
}
