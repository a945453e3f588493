//! What is served equals what the log says: after rebuilds, corrections and a crash, and from stored
//! heads where services run apart.

use std::time::Duration;

use millrace_catalog::Catalog;
use millrace_e2e_tests::{Apart, ApartOptions, Cli, Scrape, hours_from_now, wait_until};
use millrace_proto::v1;
use millrace_proto::v1::store_service_client::StoreServiceClient;
use millrace_types::codec::{put_bytes, put_signed, put_varint};
use millrace_types::row::put_value;
use millrace_types::{EntityKey, KeyPart, ValueRef};
use serde_json::Value;

use crate::fixture::{CLICKS, PROFILES, Topology, catalog, on_all, pair};

/// A machine that builds beside the tests is slow.
const SOON: Duration = Duration::from_secs(60);

/// Clicks of some users over two days, every tenth corrected, every fifteenth taken back.
fn clicks() -> Vec<String> {
    let click = |n: usize, revision: &str, op: &str| {
        let (user, day, hour) = (n % 37, 1 + n % 2, n % 24);
        let at = format!("2026-03-0{day}T{hour:02}:{:02}:00Z", n % 60);
        format!("e{n},{user},{at},{revision},{op},{},{}.25,c{}", n % 900, n % 50, n % 5)
    };
    let first = (0..2_000).map(|n| click(n, "", ""));
    let corrected = (0..2_000).step_by(10).map(|n| click(n, "1", ""));
    let gone = (0..2_000).step_by(15).map(|n| click(n, "2", "retract"));
    std::iter::once(CLICKS.to_owned()).chain(first).chain(corrected).chain(gone).collect()
}

fn profiles() -> Vec<String> {
    let profile = |n: usize| {
        let (user, hour) = (n % 37, n % 24);
        format!("p{n},{user},2026-03-01T{hour:02}:30:00Z,,,C{},{}", n % 7, n % 5)
    };
    std::iter::once(PROFILES.to_owned()).chain((0..150).map(profile)).collect()
}

fn compare(cli: &Cli, at: &str) -> Value {
    let told = cli.json(["parity", "--at", at]).expect("nothing differs");
    assert_eq!(told["mismatches"], 0, "{told}");
    told
}

on_all!(online_answers_equal_the_log_through_rebuilds_and_a_crash);
fn online_answers_equal_the_log_through_rebuilds_and_a_crash(on: Topology) {
    let mut site = on.site_with(|options| options.at_hand_bytes = Some(4_096));
    for (stream, lines) in [("clicks", clicks()), ("profiles", profiles())] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        site.publish(stream, &lines);
        for at in ["latest", "2026-03-01T13:10:00Z"] {
            compare(&site.settled(), at);
        }
    }
    site.crash_and_restart();
    let told = compare(&site.settled(), "latest");
    let of_view = &told["views"][0];
    let seen = of_view["entities"].as_u64().zip(of_view["rebuilding"].as_u64());
    assert_eq!(seen.map(|(checked, left_out)| checked + left_out), Some(37), "{told}");
    let few = site.cli().json(["parity", "--sample", "5", "--seed", "3"]).expect("nothing differs");
    let of_view = &few["views"][0];
    let seen = of_view["entities"].as_u64().zip(of_view["rebuilding"].as_u64());
    assert_eq!(seen.map(|(checked, left_out)| checked + left_out), Some(5), "{few}");
}

/// A sample as feature-serving keeps it (its layout is that of `parity/sample.rs` there): the first feature of the view was
/// answered as this many.
fn forged(kind: u64, key: &EntityKey, version: &str, at: i64, known_at: i64, said: i64) -> Vec<u8> {
    let numbers: Vec<u64> =
        version.split([':', '.']).map(|n| n.parse().expect("a number")).collect();
    let [catalog, slot, epoch, sequence] = numbers[..] else { panic!("{version} is no version") };
    let mut out = vec![1];
    put_varint(&mut out, slot);
    put_varint(&mut out, catalog);
    put_bytes(&mut out, b"user_activity");
    put_varint(&mut out, kind);
    put_bytes(&mut out, key.as_bytes());
    put_signed(&mut out, at);
    put_varint(&mut out, epoch);
    put_varint(&mut out, sequence);
    put_signed(&mut out, known_at);
    // One feature, the first of the view: PRESENT, a scalar.
    put_varint(&mut out, 1);
    put_varint(&mut out, 0);
    let mut value = vec![0, 0];
    put_value(&mut value, ValueRef::Int64(said));
    put_bytes(&mut out, &value);
    out
}

/// The alarm of an auditor in one process, the rebuild by an owner in another.
#[test]
fn what_differs_is_rebuilt_where_services_run_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = ApartOptions::on(folder.path());
    options.admin = true;
    options.env.push(("MILLRACE_PARITY_SAMPLE", "1".to_owned()));
    let services = Apart::start(&options).expect("the services start");
    let cli = services.cli();
    let file = catalog("clickprofile.yaml");
    let apply = cli.run(["apply".as_ref(), file.as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    let path = folder.path().join("clicks.csv");
    std::fs::write(&path, clicks().join("\n") + "\n").expect("a file can be written");
    cli.publish([pair("clicks", &path)]).expect("published");
    services.settle();
    let get = || {
        let told = cli.json(["get", "user_activity", "1", "--at", "2026-03-02T00:00:00Z"]);
        told.expect("an answer")["rows"][0].clone()
    };
    let scrape = || Scrape::of(services.admin("feature-serving").expect("an admin port")).ok();
    let samples = |scrape: &Scrape, outcome| {
        scrape.sum("millrace_parity_samples_total", &[("outcome", outcome)])
    };
    let before = get();
    wait_until("the audit of an answer", SOON, || {
        scrape().filter(|scrape| samples(scrape, "equal") == 1.0)
    });

    let text = std::fs::read_to_string(file).expect("the catalog is there");
    let kind =
        Catalog::compile(&text, None).expect("it is good").view("user_activity").map(|v| v.entity);
    let key = EntityKey::try_new(&[KeyPart::Int64(1)]).expect("a key");
    let now = hours_from_now(0);
    let version = before["version"].as_str().expect("a version");
    let kind = u64::from(kind.expect("there is such a view").0);
    let sample = forged(kind, &key, version, 1_772_409_600_000_000, now, 1_000_000);
    let request = v1::PutSamplesRequest {
        node: "feature-serving".to_owned(),
        samples: vec![v1::AnswerSample { place: 900, ver_us: now, sample: sample.into() }],
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answer = runtime.block_on(async {
        let store = StoreServiceClient::connect(services.endpoint("store-writer")).await;
        store.expect("it listens").put_samples(request).await.expect("it answers").into_inner()
    });
    assert_eq!(answer.fault, None);
    // Another answer has the auditor look.
    get();
    let alarm = wait_until("the alarm", SOON, || {
        scrape().filter(|scrape| scrape.one("millrace_parity_rebuilds_total", &[]) == 1.0)
    });
    assert_eq!(samples(&alarm, "mismatch"), 1.0);
    assert!(alarm.one("millrace_parity_mismatch_ratio", &[]) > 0.0);
    services.settle();
    let after = get();
    let position = |row: &Value| {
        let version = row["version"].as_str().expect("a version");
        version.rsplit_once('.').expect("a position").1.parse::<u64>().expect("a sequence")
    };
    // The chunk that says that it is dirty, and the one that says that it is rebuilt.
    assert!(position(&after) >= position(&before) + 2, "{before} {after}");
    assert_eq!(
        (&after["features"], &after["rebuilding"]),
        (&before["features"], &Value::Bool(false))
    );
}
