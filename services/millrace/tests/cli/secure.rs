//! `millrace dev` under TLS with roles, and commands that show who they are.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use crate::process::{Ran, Served, millrace, run};
use crate::server::CATALOG;

const ADMIN: &str = "admin-s3cret-token";
const PUBLISHER: &str = "publisher-s3cret-token";
const CLICKS: &str = "event_id,user_id,ts,price\ne1,42,1767225600000,2.5\n";

/// A folder with everything a secured server and its clients need.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: TempDir::new().unwrap() };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        site.write("ca.pem", &ca.pem());
        let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let mut reader = CertificateParams::new(Vec::new()).unwrap();
        let uri = Ia5String::try_from("spiffe://shop/reader").unwrap();
        reader.subject_alt_names = vec![SanType::URI(uri)];
        for (name, params) in [("server", server), ("reader", reader)] {
            let key = KeyPair::generate().unwrap();
            site.write(&format!("{name}.pem"), &params.signed_by(&key, &ca).unwrap().pem());
            site.write(&format!("{name}.key"), &key.serialize_pem());
        }
        let mut expired = CertificateParams::new(Vec::new()).unwrap();
        expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
        expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = KeyPair::generate().unwrap();
        site.write("expired.pem", &expired.signed_by(&key, &ca).unwrap().pem());
        site.write("expired.key", &key.serialize_pem());
        let other = CertificateParams::new(Vec::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        let other = other.self_signed(&key).unwrap();
        site.write("other.pem", &other.pem());
        site.write("stranger.pem", &other.pem());
        site.write("stranger.key", &key.serialize_pem());
        site.write(
            "access.toml",
            &format!(
                "[[token]]\nname = \"admin\"\ntoken = \"{ADMIN}\"\nroles = [\"admin\"]\n\
                 [[token]]\nname = \"publisher\"\ntoken = \"{PUBLISHER}\"\n\
                 roles = [\"publish:clicks\"]\n\
                 [[certificate]]\nname = \"spiffe://shop/reader\"\n\
                 roles = [\"read:user_activity\"]\n"
            ),
        );
        site.write("catalog.yaml", CATALOG);
        site.write("clicks.csv", CLICKS);
        site.write("visits.csv", "user_id,page,ts\n1,a,1767225600000000\n");
        site.write("token", &format!("{PUBLISHER}\n"));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Words of which `%NAME` is a file of the site.
    fn words(&self, line: &str) -> Vec<String> {
        let word = |word: &str| match word.split_once('%') {
            Some((before, name)) => format!("{before}{}", self.path(name).display()),
            None => word.to_owned(),
        };
        line.split_whitespace().map(word).collect()
    }

    /// Runs a command against the server as whom `who` says.
    async fn run(&self, address: &str, who: &str, line: &str) -> Ran {
        let words = self.words(&format!("{line} {who}"));
        let mut command = millrace(&words.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("MILLRACE_ENDPOINT", address).env("MILLRACE_CA", self.path("ca.pem"));
        run(command).await
    }
}

/// A server of this site.
fn served(site: &Site) -> Served {
    served_as(
        site,
        "dev --data %data --listen 127.0.0.1:0 --tls-cert %server.pem --tls-key %server.key \
         --tls-client-ca %ca.pem --access %access.toml",
    )
}

/// A server of another line.
fn served_as(site: &Site, line: &str) -> Served {
    let words = site.words(line);
    let mut command = millrace(&words.iter().map(String::as_str).collect::<Vec<_>>());
    command.env("RUST_LOG", "trace");
    Served::start(command, site.path("log"))
}

#[track_caller]
fn done(ran: &Ran) {
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// It failed with this code, says this, and repeats no token.
#[track_caller]
fn failed(ran: &Ran, code: i32, says: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(says), "{ran:?}");
    assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
}

#[tokio::test]
async fn everybody_does_what_their_role_says_and_no_token_is_logged() {
    let site = Site::new();
    let served = served(&site);
    let of = async |who: &str, line: &str| site.run(&served.address, who, line).await;
    let (admin, publisher) = (&format!("--token {ADMIN}"), &format!("--token {PUBLISHER}"));
    let reader = "--cert %reader.pem --key %reader.key";

    failed(&of("", "apply %catalog.yaml").await, 1, "needs a token");
    failed(&of("--token wrong-s3cret-token", "status").await, 1, "the token is not known here");
    failed(&of(publisher, "apply %catalog.yaml").await, 1, "the role admin");
    done(&of(admin, "apply %catalog.yaml").await);

    failed(&of(admin, "publish clicks=%clicks.csv").await, 1, "the role publish");
    failed(&of(publisher, "publish visits=%visits.csv").await, 1, "the role publish:visits");
    done(&of(publisher, "publish clicks=%clicks.csv").await);

    failed(&of(publisher, "get user_activity 42").await, 1, "the role read");
    failed(&of(reader, "get pair_visits 1,a").await, 1, "the role read:pair_visits");
    failed(&of(reader, "tail pair_visits --until-idle").await, 1, "the role read:pair_visits");
    let got = of(reader, "get user_activity 42 --at latest -o json").await;
    done(&got);
    assert_eq!(got.json()["rows"][0]["key"], 42);
    done(&of(reader, "tail user_activity --until-idle").await);
    done(&of(reader, "status").await);

    let log = served.logged();
    assert!(log.len() > 1_000, "the log says nothing: {log}");
    assert!(!log.contains("s3cret") && !log.contains("BEGIN"), "a secret is in the log");
}

#[tokio::test]
async fn variables_and_files_say_who_one_is() {
    let site = Site::new();
    let served = served(&site);
    for token in [ADMIN.to_owned(), format!("@{}", site.path("token").display())] {
        let mut command = millrace(&["status"]);
        command.env("MILLRACE_ENDPOINT", &served.address).env("MILLRACE_TOKEN", token);
        command.env("MILLRACE_CA", site.path("ca.pem"));
        done(&run(command).await);
    }
    let mut command = millrace(&["status", "-o", "json"]);
    command.env("MILLRACE_ENDPOINT", &served.address).env("MILLRACE_CA", site.path("ca.pem"));
    command.env("MILLRACE_CERT", site.path("reader.pem"));
    command.env("MILLRACE_KEY", site.path("reader.key"));
    done(&run(command).await);

    let plain = served.address.replace("https", "http");
    failed(&site.run(&plain, "", "status").await, 2, "use https://");
    failed(&site.run(&served.address, "--cert %reader.pem", "status").await, 2, "go together");
    failed(&site.run(&served.address, "--token @%nothing", "status").await, 2, "cannot read");
}

/// Nothing comes of trying again, so nobody waits for it.
#[tokio::test]
async fn who_is_not_trusted_is_told_at_once_which_why_and_what_to_do() {
    let site = Site::new();
    let served = served(&site);
    let begun = Instant::now();
    for (who, why, next) in [
        ("--ca %other.pem", "(unknown issuer)", "next: give the authority that signed it"),
        (
            "--cert %stranger.pem --key %stranger.key",
            "it does not know who signed the certificate shown to it",
            "next: show one that the authority of the server's --tls-client-ca signed",
        ),
        (
            "--cert %expired.pem --key %expired.key",
            "the certificate shown to it has expired",
            "next: renew the files of --cert and --key",
        ),
    ] {
        let ran = site.run(&served.address, who, "status").await;
        failed(&ran, 4, why);
        assert!(ran.stderr.contains(&served.address) && ran.stderr.contains(next), "{ran:?}");
    }
    let elsewhere = served.address.replace("127.0.0.1", "localhost");
    failed(&site.run(&elsewhere, "", "status").await, 4, "(name mismatch)");
    assert!(begun.elapsed() < REACHED_WITHIN, "{:?}", begun.elapsed());
}

/// The file of a service says how it shows itself to others; flags count first.
#[tokio::test]
async fn the_file_of_a_service_secures_its_hops() {
    let site = Site::new();
    let serve = async |hops: &str, flags: &str| {
        site.write("serve.toml", &format!("listen = \"127.0.0.1:0\"\n[hops]\n{hops}\n"));
        let words = site.words(&format!("serve ingest --config %serve.toml {flags}"));
        run(millrace(&words.iter().map(String::as_str).collect::<Vec<_>>())).await
    };
    let path = |name: &str| site.path(name).display().to_string();
    // Nobody listens where it would call: that it gets so far is seen by what it does not say.
    for (hops, flags, code, says) in [
        (format!("ca = {:?}", path("nothing")), "", 1, "cannot read the authority of servers"),
        (format!("ca = {:?}", path("ca.pem")), "", 1, "is without TLS: use https://"),
        (format!("cert = {:?}", path("reader.pem")), "", 1, "--cert and --key go together"),
        (format!("cert = {:?}", path("reader.pem")), "--key %reader.key", 1, "go together"),
        (format!("ca = {:?}", path("nothing")), "--ca %ca.pem", 1, "use https://"),
        ("token = \"@nowhere\"".to_owned(), "", 1, "cannot read the token"),
        ("keys = 1".to_owned(), "", 1, "unknown field"),
    ] {
        failed(&serve(&hops, flags).await, code, says);
    }
}

/// For as long commands try what may pass.
const REACHED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_server_beyond_this_machine_is_protected_or_told_not_to_be() {
    let site = Site::new();
    let tls = "--tls-cert %server.pem --tls-key %server.key";
    for (how, code, says) in [
        ("", 1, "no TLS"),
        ("--access %access.toml", 1, "no TLS"),
        (tls, 1, "everybody may do everything"),
        ("--tls-cert %server.pem", 2, "--tls-key"),
        ("--tls-cert %server.pem --tls-key %reader.pem", 1, "the key is no PEM file"),
        ("--access %catalog.yaml", 1, "access file"),
        ("--access %nothing", 1, "cannot read the access file"),
    ] {
        let words = site.words(&format!("dev --data %data --listen 0.0.0.0:0 {how}"));
        let ran = run(millrace(&words.iter().map(String::as_str).collect::<Vec<_>>())).await;
        failed(&ran, code, says);
        if says.starts_with("no TLS") {
            assert!(ran.stderr.contains("--insecure"), "{ran:?}");
        }
    }
    assert!(!site.path("data").exists(), "nothing is touched before");
}

#[tokio::test]
async fn a_server_beyond_this_machine_that_is_told_to_be_open_says_so_in_its_log() {
    let site = Site::new();
    for (how, scheme) in [("", "http"), ("--tls-cert %server.pem --tls-key %server.key", "https")] {
        let line = format!("dev --data %data --listen 0.0.0.0:0 --insecure {how}");
        let served = served_as(&site, &line);
        let log = served.logged();
        let warned = log.lines().find(|line| line.contains("served beyond this machine"));
        let warned = warned.unwrap_or_else(|| panic!("{log}"));
        assert!(warned.contains("WARN") && warned.contains("0.0.0.0"), "{warned}");
        let address = served.address.replace("0.0.0.0", "127.0.0.1");
        assert!(address.starts_with(&format!("{scheme}://127.0.0.1:")), "{address}");
        let mut command = millrace(&["status"]);
        command.env("MILLRACE_ENDPOINT", address);
        if scheme == "https" {
            command.env("MILLRACE_CA", site.path("ca.pem"));
        }
        done(&run(command).await);
    }
}

/// Each service by itself is held to the same, and so is its admin port, which has no TLS at all.
#[tokio::test]
async fn a_service_beyond_this_machine_is_protected_or_told_not_to_be() {
    let site = Site::new();
    for service in ["store-writer", "join", "ingest", "feature-serving"] {
        for (listens, says) in [
            ("--listen 0.0.0.0:0", "no TLS"),
            ("--listen 127.0.0.1:0 --admin 0.0.0.0:0", "the admin port has no TLS"),
        ] {
            let words = site.words(&format!("serve {service} --data %data {listens}"));
            let ran = run(millrace(&words.iter().map(String::as_str).collect::<Vec<_>>())).await;
            failed(&ran, 1, says);
            assert!(ran.stderr.contains("0.0.0.0:0"), "{service}: {ran:?}");
            assert!(ran.stderr.contains("say --insecure"), "{service}: {ran:?}");
        }
    }
    assert!(!site.path("data").exists(), "nothing is touched before");
}
