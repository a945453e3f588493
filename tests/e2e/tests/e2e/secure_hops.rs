//! The four services apart, every hop between them over mutual TLS with one authority.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millrace_e2e_tests::{Apart, ApartOptions, Cli, SERVICES, wait_until};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use tempfile::TempDir;

use crate::crash::{USERS, clicks, expected_counts};
use crate::fixture::{CLICKS, catalog, pair};

type Environment = Vec<(&'static str, String)>;

/// A read waits so long for a store-writer that does not answer; one that is not trusted is told at
/// once, on a machine that builds beside it.
const TOLD_WITHIN: Duration = Duration::from_secs(4);
const SERVING_WITHIN: Duration = Duration::from_secs(60);

/// A folder with an authority, certificates, and who may do what.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let (ours, theirs) = (authority(), authority());
        site.write("ca.pem", &ours.pem());
        let server = || CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
        let mut expired = server();
        expired.not_before = date_time_ymd(2020, 1, 1);
        expired.not_after = date_time_ymd(2021, 1, 1);
        let mut service = CertificateParams::new(Vec::new()).expect("names");
        let uri = Ia5String::try_from("spiffe://shop/service").expect("a name");
        service.subject_alt_names = vec![SanType::URI(uri)];
        for (name, params, issuer) in [
            ("server", server(), &ours),
            ("expired", expired, &ours),
            ("foreign", server(), &theirs),
            ("service", service, &ours),
        ] {
            let key = KeyPair::generate().expect("a key");
            let signed = params.signed_by(&key, issuer).expect("a certificate");
            site.write(&format!("{name}.pem"), &signed.pem());
            site.write(&format!("{name}.key"), &key.serialize_pem());
        }
        site.write(
            "access.toml",
            "[[certificate]]\nname = \"spiffe://shop/service\"\nroles = [\"internal\"]\n\
             [[token]]\nname = \"everything\"\ntoken = \"a-token-of-tests\"\n\
             roles = [\"admin\", \"publish\", \"read\"]\n",
        );
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// How a service calls others.
    fn hops(&self) -> Environment {
        vec![
            ("MILLRACE_CA", self.text("ca.pem")),
            ("MILLRACE_CERT", self.text("service.pem")),
            ("MILLRACE_KEY", self.text("service.key")),
        ]
    }

    /// Everything for a service that shows this certificate to its clients.
    fn environment(&self, server: &str) -> Environment {
        let mut all = self.hops();
        all.extend([
            ("MILLRACE_TLS_CERT", self.text(&format!("{server}.pem"))),
            ("MILLRACE_TLS_KEY", self.text(&format!("{server}.key"))),
            ("MILLRACE_TLS_CLIENT_CA", self.text("ca.pem")),
            ("MILLRACE_ACCESS", self.text("access.toml")),
        ]);
        all
    }

    fn start(&self) -> (Apart, Cli) {
        let mut options = ApartOptions::on(&self.path("data"));
        options.is_secure = true;
        options.env = self.environment("server");
        let services = Apart::start(&options).expect("the services start");
        let ca = self.text("ca.pem");
        let cli = services.cli().with_flags(["--ca", &ca, "--token", "a-token-of-tests"]);
        let apply = cli.run([Path::new("apply"), &catalog("clickprofile.yaml")]);
        apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
        (services, cli)
    }

    /// The clicks of a part of 500.
    fn part(&self, part: usize) -> PathBuf {
        let rows = clicks(part * 500..(part + 1) * 500).join("\n");
        self.write(&format!("part{part}.csv"), &format!("{CLICKS}\n{rows}\n"))
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

fn publish(cli: &Cli, file: &Path) {
    let report = cli.publish([pair("clicks", file)]).expect("published");
    assert_eq!(report.accepted, 500, "{report:?}");
}

fn all_serve(cli: &Cli) {
    wait_until("all services", SERVING_WITHIN, || {
        (cli.run(["status"]).expect("a status").code == 0).then_some(())
    });
}

/// Every user's count and sum.
fn assert_counts(cli: &Cli, facts: usize) {
    let keys: Vec<String> = (0..USERS).map(|user| user.to_string()).collect();
    let mut args: Vec<&str> = vec!["user_activity"];
    args.extend(keys.iter().map(String::as_str));
    args.extend(["--at", "2030-01-01T00:00:00Z", "--features", "clicks,spend"]);
    let rows = cli.get(args).expect("read");
    let value = |row: &serde_json::Value, name: &str| row["features"][name]["value"].clone();
    let told: Vec<_> = rows.iter().map(|row| (value(row, "clicks"), value(row, "spend"))).collect();
    assert_eq!(told, expected_counts(facts));
}

/// Facts come in, are read and followed; each service is killed once, and the hops stand again.
#[test]
fn every_hop_may_be_over_mutual_tls() {
    let site = Site::new();
    let (mut services, cli) = site.start();
    for (part, service) in SERVICES.into_iter().enumerate() {
        publish(&cli, &site.part(part));
        services.kill(service).expect("it can be killed");
        services.start_again(service).expect("it starts again");
        all_serve(&cli);
    }
    services.settle_as(&cli);
    assert_counts(&cli, 2_000);
    let tail = cli.run(["tail", "user_activity", "--from", "start", "--until-idle"]);
    let tail = tail.and_then(|tail| tail.expect_code(0)).expect("a changelog").stdout;
    assert_eq!(tail.lines().filter(|line| line.contains(r#""op":"+""#)).count(), 2_000);
    // Who shows nothing may do nothing.
    let nobody = services.cli().with_flags(["--ca", &site.text("ca.pem")]);
    let refused = nobody.run(["get", "user_activity", "1"]).expect("it ends");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("needs a token"), "{refused:?}");
}

/// One service after the other comes back with a certificate that nobody can trust: whoever needs it
/// is told which, why and what to do, at once; once it is mended everything goes on.
#[test]
fn a_hop_that_is_not_trusted_is_named_to_whoever_needs_it() {
    let site = Site::new();
    let (mut services, cli) = site.start();
    publish(&cli, &site.part(0));
    services.settle_as(&cli);

    services.kill("join").expect("it can be killed");
    services.start_again_with("join", site.environment("expired")).expect("it starts again");
    let join = format!("join at {}", services.endpoint("join"));
    let file = site.part(1);
    let refused = cli.run(["publish".into(), pair("clicks", &file)]).expect("it ends");
    assert_eq!(refused.code, 4, "{refused:?}");
    for says in [join.as_str(), "its certificate has expired", "renew it"] {
        assert!(refused.stderr.contains(says), "{says}: {refused:?}");
    }
    assert_counts(&cli, 500);
    let why = "its certificate has expired";
    wait_until("ingest to say why it does not serve", SERVING_WITHIN, || {
        services.log("ingest").contains(why).then_some(())
    });
    services.kill("join").expect("it can be killed");
    services.start_again("join").expect("it starts again");
    all_serve(&cli);
    publish(&cli, &file);
    services.settle_as(&cli);

    let store = format!("store-writer at {}", services.endpoint("store-writer"));
    for (env, why) in [
        (site.environment("foreign"), "(unknown issuer)"),
        // It takes calls without TLS: a hop that was told to use TLS does not fall back.
        (site.hops(), "it does not speak TLS"),
    ] {
        services.kill("store-writer").expect("it can be killed");
        services.start_again_with("store-writer", env).expect("it starts again");
        // For a second it is said of the service what it was before.
        let refused = wait_until(why, SERVING_WITHIN, || {
            let begun = Instant::now();
            let refused = cli.run(["get", "user_activity", "1"]).expect("it ends");
            assert_eq!(refused.code, 4, "{refused:?}");
            assert!(begun.elapsed() < TOLD_WITHIN, "{:?}", begun.elapsed());
            refused.stderr.contains(why).then_some(refused)
        });
        for says in [store.as_str(), "next: "] {
            assert!(refused.stderr.contains(says), "{says}: {refused:?}");
        }
    }
    services.kill("store-writer").expect("it can be killed");
    services.start_again("store-writer").expect("it starts again");
    all_serve(&cli);
    publish(&cli, &site.part(2));
    services.settle_as(&cli);
    assert_counts(&cli, 1_500);
    // Back-off: it was repeated some times, not thousands of times.
    let log = services.log("join");
    let said = log.lines().filter(|line| line.contains("store-writer")).count();
    assert!(said < 200, "{log}");
}
