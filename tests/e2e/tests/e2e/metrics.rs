//! The metrics of real processes against what was sent to them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use millrace_e2e_tests::{
    Apart, ApartOptions, PublishReport, SERVICES, Scrape, http_get, wait_until,
};
use millrace_proto::v1;
use millrace_proto::v1::ingest_service_client::IngestServiceClient;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::fixture::{CLICKS, PROFILES, Site, catalog, pair};

/// A machine that builds beside the tests is slow.
const SOON: Duration = Duration::from_secs(60);
const VERDICTS: [&str; 5] = ["ACCEPTED", "REPAIRED", "DUPLICATE", "LATE", "REJECTED"];

fn scrape(site: &Site) -> Scrape {
    Scrape::of(site.server().admin().expect("it has an admin port")).expect("metrics")
}

/// Gauges and the gauges that say how much they may be.
const BOUNDED: [(&str, &str); 13] = [
    ("millrace_ingest_in_flight_facts", "millrace_ingest_in_flight_facts_limit"),
    ("millrace_ingest_in_flight_bytes", "millrace_ingest_in_flight_bytes_limit"),
    ("millrace_ingest_waiting_bytes", "millrace_ingest_waiting_bytes_limit"),
    ("millrace_join_queue_bytes", "millrace_join_queue_bytes_limit"),
    ("millrace_join_slot_queue_facts_max", "millrace_join_slot_queue_facts_limit"),
    ("millrace_join_at_hand_bytes", "millrace_join_at_hand_bytes_limit"),
    ("millrace_join_resident_bytes", "millrace_join_resident_bytes_limit"),
    ("millrace_store_queue_flushes", "millrace_store_queue_flushes_limit"),
    ("millrace_store_queue_bytes", "millrace_store_queue_bytes_limit"),
    ("millrace_connections", "millrace_connections_limit"),
    ("millrace_calls", "millrace_calls_limit"),
    ("millrace_read_log_reads", "millrace_read_log_reads_limit"),
    ("millrace_training_sets", "millrace_training_sets_limit"),
];

/// A site with some facts of each kind, and what `publish` said of its clicks.
fn published() -> (Site, [PublishReport; 2]) {
    let site = Site::with(|options| options.admin = true);
    site.publish("profiles", &[PROFILES, "v1,1,2026-01-01T00:00:00Z,0,,de,3"]);
    let clicks = [
        CLICKS,
        "a,1,2026-01-01T10:00:00Z,0,,5,1.5,book",
        "b,1,2026-01-01T10:00:01Z,0,,6,2.5,book",
        "c,2,2026-01-01T10:00:02Z,0,,7,3.5,toy",
        "d,,2026-01-01T10:00:03Z,0,,8,4.5,toy",  // no key
        "e,2,2099-01-01T10:00:03Z,0,,8,4.5,toy", // ahead
    ];
    let first = site.publish("clicks", &clicks);
    // The same file again: its producer's window knows it.
    let second = site.publish("clicks", &clicks);
    (site, [first, second])
}

#[test]
fn verdicts_add_up_to_the_facts_sent() {
    let (site, sent) = published();
    let scrape = scrape(&site);
    let counts = VERDICTS.map(|verdict| {
        let labels = [("stream", "clicks"), ("verdict", verdict)];
        scrape.sum("millrace_ingest_facts_total", &labels) as u64
    });
    let total = |of: fn(&PublishReport) -> u64| sent.iter().map(of).sum::<u64>();
    let expected = [
        total(|r| r.accepted),
        total(|r| r.repaired),
        total(|r| r.duplicate),
        total(|r| r.late),
        total(|r| r.rejected),
    ];
    assert_eq!(counts, expected);
    assert_eq!(counts.iter().sum::<u64>(), total(|r| r.sent));
    let rejected =
        |labels: &[(&str, &str)]| scrape.sum("millrace_ingest_rejected_facts_total", labels) as u64;
    assert_eq!(rejected(&[]), expected[4], "each REJECTED has its reason");
    assert_eq!(rejected(&[("reason", "MISSING_KEY")]), 2);
    assert_eq!(rejected(&[("reason", "AT_OUT_OF_BOUNDS")]), 2);
    let fresh = scrape.one("millrace_freshness_seconds_count", &[("stream", "clicks")]);
    let batches = scrape.one("millrace_ingest_batches_total", &[("code", "OK")]);
    assert!(fresh >= 2.0 && batches >= fresh, "{fresh} of {batches}");
}

#[test]
fn gauges_know_their_bounds_and_reads_their_path() {
    let (site, _) = published();
    let keys = ["1", "2", "--at", "2026-01-01T11:00:00Z"];
    assert_eq!(site.features(&keys).len(), 2);
    let scrape = scrape(&site);
    for (gauge, limit) in BOUNDED {
        let (value, limit) = (scrape.one(gauge, &[]), scrape.one(limit, &[]));
        assert!((0.0..=limit).contains(&value) && limit > 0.0, "{gauge}: {value} of {limit}");
    }
    // Nobody calls now: whoever comes has what one call may have.
    assert_eq!(scrape.one("millrace_ingest_credit_facts", &[]), 262_144.0);
    assert_eq!(scrape.one("millrace_ingest_credit_bytes", &[]), f64::from(16 << 20));
    for credit in ["millrace_ingest_slot_credit_facts", "millrace_ingest_slot_credit_bytes"] {
        assert!(scrape.one(credit, &[]) > 0.0, "{credit}");
    }
    assert!(scrape.one("millrace_join_at_hand_bytes", &[]) > 0.0);
    assert_eq!(scrape.one("millrace_join_resident_entities", &[]), 2.0);
    assert_eq!(scrape.one("millrace_join_slots", &[]), 64.0);
    assert_eq!(scrape.one("millrace_join_dirty_entities", &[]), 0.0);

    assert_eq!(scrape.one("millrace_read_seconds_count", &[("path", "head")]), 1.0);
    let read = [("view", "user_activity"), ("path", "head")];
    assert_eq!(scrape.one("millrace_read_entities_total", &read), 2.0);
    let reads = [("method", "millrace.v1.FeatureService/GetFeatures"), ("code", "OK")];
    assert_eq!(scrape.one("millrace_call_seconds_count", &reads), 1.0);
    let commits = scrape.one("millrace_store_seconds_count", &[("operation", "commit")]);
    assert!(commits >= 2.0, "{commits}");

    let lag = scrape.one("millrace_stream_watermark_lag_seconds", &[("stream", "clicks")]);
    assert!(lag.is_finite() && lag > 0.0, "{lag}");
    let latest = scrape.one("millrace_stream_latest_timestamp_seconds", &[("stream", "clicks")]);
    assert_eq!(latest, 1_767_261_602.0, "2026-01-01T10:00:02Z");
    assert!(scrape.one("process_resident_memory_bytes", &[]) > 1e6);
}

/// What is scraped has the types and labels that the operator's page states.
#[test]
fn what_is_scraped_is_what_the_page_says() {
    let site = Site::with(|options| options.admin = true);
    site.publish("clicks", &[CLICKS, "a,1,2026-01-01T10:00:00Z,0,,5,1.5,book"]);
    site.features(&["1"]);
    let page = millrace_e2e_tests::repository_root().join("docs/operations.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `millrace_"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let scrape = scrape(&site);
    for (name, kind) in scrape.types.iter().filter(|(name, _)| name.starts_with("millrace_")) {
        let row = rows.iter().find(|row| row[0] == format!("`{name}`"));
        let row = row.unwrap_or_else(|| panic!("{name} is not on the page"));
        assert_eq!(row[1], kind, "{name}");
        for (series, labels, _) in &scrape.series {
            let ends = ["", "_bucket", "_sum", "_count"];
            if ends.iter().any(|end| *series == format!("{name}{end}")) {
                for label in labels.keys().filter(|label| *label != "le") {
                    assert!(row[2].contains(&format!("`{label}`")), "{name} has {label}");
                }
            }
        }
    }
}

async fn publish_unknown(endpoint: String, from: usize, count: usize) {
    let channel = tonic::transport::Endpoint::from_shared(endpoint).expect("an endpoint");
    let mut client = IngestServiceClient::new(channel.connect().await.expect("connected"));
    let request = |n: usize| v1::PublishRequest {
        producer_id: format!("p{n}"),
        stream: format!("stream{n}"),
        rows: vec![v1::TypedRow::default()],
        ..v1::PublishRequest::default()
    };
    let requests: Vec<_> = (from..from + count).map(request).collect();
    let answers = client.publish(tokio_stream::iter(requests)).await.expect("taken");
    let mut answers = answers.into_inner();
    let mut results = 0;
    while let Some(answer) = answers.next().await {
        results += usize::from(answer.expect("an answer").result.is_some());
    }
    assert_eq!(results, count);
}

/// Whoever makes up names of streams and methods makes no series.
#[test]
fn ten_thousand_unknown_names_are_one_label() {
    let site = Site::with(|options| options.admin = true);
    let before = scrape(&site).series.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        // Side by side: each batch waits until somebody has looked for a newer catalog after it came.
        let mut parts = JoinSet::new();
        for from in (0..10_000).step_by(500) {
            parts.spawn(publish_unknown(site.server().endpoint(), from, 500));
        }
        while let Some(ended) = parts.join_next().await {
            ended.expect("no panic");
        }
        let endpoint = tonic::transport::Endpoint::from_shared(site.server().endpoint());
        let channel = endpoint.expect("an endpoint").connect().await.expect("connected");
        let mut client = tonic::client::Grpc::new(channel);
        for n in 0..100 {
            client.ready().await.expect("ready");
            let path = format!("/millrace.v1.JoinService/Made{n}").parse().expect("a path");
            let codec =
                tonic_prost::ProstCodec::<v1::GetSlotsRequest, v1::GetSlotsResponse>::default();
            let request = tonic::Request::new(v1::GetSlotsRequest::default());
            client.unary(request, path, codec).await.expect_err("no such method");
        }
    });
    let scrape = scrape(&site);
    let unknown = [("stream", "_unknown"), ("verdict", "REJECTED")];
    assert_eq!(scrape.one("millrace_ingest_facts_total", &unknown), 10_000.0);
    assert_eq!(
        scrape.values("millrace_ingest_facts_total", "stream"),
        BTreeSet::from(["_unknown".to_owned()])
    );
    let made = [("method", "_unknown"), ("code", "UNIMPLEMENTED")];
    assert_eq!(scrape.one("millrace_call_seconds_count", &made), 100.0);
    let more = scrape.series.len() - before;
    assert!(more < 100, "{more} more series");
}

#[test]
fn services_apart_tell_each_its_own_and_are_ready_while_they_serve() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ApartOptions { admin: true, ..ApartOptions::on(&folder.path().join("data")) };
    let mut apart = Apart::start(&options).expect("the services start");
    let admin = |apart: &Apart, name: &str| -> SocketAddr { apart.admin(name).expect("a port") };
    let ready = |address: SocketAddr| http_get(address, "/readyz").map_or(0, |(status, _)| status);
    for name in SERVICES {
        assert_eq!(ready(admin(&apart, name)), 200, "{name}");
    }
    let cli = apart.cli();
    cli.run([Path::new("apply"), &catalog("clickprofile.yaml")])
        .and_then(|done| done.expect_code(0))
        .expect("the catalog is applied");
    let clicks = folder.path().join("clicks.csv");
    std::fs::write(&clicks, format!("{CLICKS}\na,1,2026-01-01T10:00:00Z,0,,5,1.5,book\n"))
        .expect("a file");
    cli.publish([pair("clicks", &clicks)]).expect("published");
    apart.settle();
    cli.get(["user_activity", "1", "--at", "2026-01-01T11:00:00Z"]).expect("read");

    let of = |name: &str| Scrape::of(admin(&apart, name)).expect("metrics");
    let accepted = [("stream", "clicks"), ("verdict", "ACCEPTED")];
    assert_eq!(of("ingest").one("millrace_ingest_facts_total", &accepted), 1.0);
    let join = of("join");
    assert!(join.one("millrace_join_flush_seconds_count", &[]) >= 1.0);
    assert!(join.one("millrace_join_saved_seconds_count", &[]) >= 1.0);
    assert!(of("store-writer").one("millrace_store_commits_total", &[]) >= 1.0);
    let serving = of("feature-serving");
    assert_eq!(serving.one("millrace_read_seconds_count", &[("path", "stored")]), 1.0);
    for name in SERVICES {
        let build = [("service", name)];
        assert_eq!(of(name).one("millrace_build_info", &build), 1.0);
    }

    // Ingest needs the store-writer: without it it lives and does not serve.
    apart.kill("store-writer").expect("killed");
    let ingest = admin(&apart, "ingest");
    wait_until("ingest to say that it does not serve", SOON, || {
        (ready(ingest) == 503).then_some(())
    });
    assert_eq!(http_get(ingest, "/livez").expect("it lives").0, 200);
    apart.start_again("store-writer").expect("started");
    wait_until("ingest to serve again", SOON, || (ready(ingest) == 200).then_some(()));
}
