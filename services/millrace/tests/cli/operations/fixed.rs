//! Bounds that nobody sets. Most are private to the module that keeps to them, so their values are read
//! where they are declared: the page cannot state another one, nor one that is gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use millrace_catalog::limits as catalog;
use millrace_client::port::{LOOK_MAX, SUSPECTS_MAX};
use millrace_client::wire;
use millrace_ingest::IngestConfig;
use millrace_placement::nodes::NODES_MAX;
use millrace_placement::{SLOTS_MAX, Slots};
use millrace_store::LOOK_EPOCHS;
use millrace_store::erasure::ERASURES_LISTED;
use millrace_store::window::WINDOW_NUMBERS;
use millrace_store_redis::RedisConfig;
use millrace_store_scylla::CqlConfig;

use super::limits::{Limit, bytes, count, time};

/// The value of a constant in a file of the workspace: a count, or milliseconds.
#[track_caller]
fn declared(file: &str, name: &str) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let declaration = format!("const {name}: ");
    let found: Vec<&str> =
        source.lines().filter_map(|line| line.split_once(&declaration)).map(|l| l.1).collect();
    let [line] = found[..] else { panic!("{file} declares {name} {} times", found.len()) };
    let value = line.split_once(" = ").and_then(|(_, value)| value.split_once(';'));
    let value = value.and_then(|(value, _)| evaluated(value));
    value.unwrap_or_else(|| panic!("{file}: {name} is no plain value: {line}"))
}

/// What integers with `<<` or `*` between them, or a duration of whole seconds or milliseconds, come to.
fn evaluated(text: &str) -> Option<u64> {
    let inner = |of: &str| text.strip_prefix(of).and_then(|rest| rest.strip_suffix(')'));
    if let Some(seconds) = inner("Duration::from_secs(") {
        return evaluated(seconds).map(|seconds| seconds * 1_000);
    }
    if let Some(milliseconds) = inner("Duration::from_millis(") {
        return evaluated(milliseconds);
    }
    if let Some((value, shift)) = text.split_once("<<") {
        return Some(evaluated(value)? << evaluated(shift)?);
    }
    let factors = text.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().ok());
    factors.reduce(|a, b| Some(a? * b?))?
}

#[test]
fn declarations_read_as_they_are_written() {
    for (text, value) in [
        ("65_536", Some(65_536)),
        ("4 << 20", Some(4 << 20)),
        ("8 * 1024 * 1024", Some(8 << 20)),
        ("Duration::from_secs(24 * 3_600)", Some(86_400_000)),
        ("Duration::from_millis(250)", Some(250)),
        ("4 * MEMTABLE_BYTES", None),
    ] {
        assert_eq!(evaluated(text), value, "{text}");
    }
}

/// A constant: its name on the page, that in the code, and how its value is written.
type Row<'a> = (&'static str, &'a str, fn(u64) -> String);

/// Rows of constants of one file.
fn rows_of<const N: usize>(file: &str, rows: [Row<'_>; N]) -> Vec<Limit> {
    rows.map(|(row, name, written)| (row, written(declared(file, name)))).into()
}

fn long(milliseconds: u64) -> String {
    time(Duration::from_millis(milliseconds))
}

pub(super) fn server() -> Vec<Limit> {
    rows_of("services/millrace/src/listen.rs", [("connections_waiting", "BACKLOG", count)])
}

pub(super) fn ingest() -> Vec<Limit> {
    let IngestConfig {
        slots: _,
        incarnation: _, // settings and names, not limits
        max_future,
        idle_after,
        resend_for,
        window_patience,
        room_patience,
        dedup_retention: _,
        budget: _, // has rows of its own
    } = IngestConfig::new(Slots::try_new(1).expect("one slot"), 0);
    let of_call = rows_of(
        "services/ingest/src/publish.rs",
        [
            ("call.producers", "PRODUCERS_MAX", count),
            ("call.flights", "FLIGHTS_MAX", count),
            ("call.answers", "ANSWERS_MAX", count),
            ("call.read_patience", "READ_PATIENCE", long),
        ],
    );
    let times = [
        ("max_future", time(max_future)),
        ("idle_after", time(idle_after)),
        ("resend_for", time(resend_for)),
        ("window_patience", time(window_patience)),
        ("room_patience", time(room_patience)),
    ];
    [
        times.into(),
        of_call,
        rows_of("services/ingest/src/request.rs", [("name", "NAME_BYTES_MAX", bytes)]),
        rows_of("services/ingest/src/windows.rs", [("window_runs", "RUNS_MAX", count)]),
    ]
    .concat()
}

pub(super) fn join() -> Vec<Limit> {
    let worker = |file: &str| format!("services/join/src/worker/{file}.rs");
    let retain = [
        ("retention.ids", "IDS_MAX", count as fn(u64) -> String),
        ("retention.heads", "HEADS_AT_ONCE", count),
        ("retention.compact_every", "COMPACT_EVERY", long),
    ];
    [
        rows_of("services/join/src/service.rs", [("worker_queue", "WORKER_QUEUE", count)]),
        rows_of("services/join/src/grpc/process.rs", [("call.batches", "AT_ONCE", count)]),
        rows_of(&worker("rebuild"), [("rebuilds_at_once", "REBUILDS_MAX", count)]),
        rows_of(&worker("backfill"), [("backfill.listed", "LISTED_MAX", count)]),
        rows_of(&worker("suspect"), [("suspecting", "WAITING_MAX", count)]),
        vec![("suspects", count(SUSPECTS_MAX as u64))],
        rows_of(&worker("retain"), retain),
        rows_of(&worker("save"), [("parts_grace", "GRACE", long)]),
        rows_of("services/millrace/src/serve/services.rs", [("lease", "LEASE", long)]),
        vec![("grant", time(millrace_store::GRANT)), ("nodes", count(NODES_MAX as u64))],
    ]
    .concat()
}

pub(super) fn store_writer() -> Vec<Limit> {
    let answers = [
        ("log_page", "LOG_BYTES_MAX", bytes as fn(u64) -> String),
        ("marks_at_once", "MARKS_AT_ONCE", count),
    ];
    let compactions = [
        ("compactions", "COMPACTIONS_MAX", count as fn(u64) -> String),
        ("compacted_within", "COMPACTED_WITHIN", long),
    ];
    let grpc = [
        ("call.requests", "AT_ONCE", count as fn(u64) -> String),
        ("sequences", "NUMBERS_MAX", count),
    ];
    [
        rows_of("services/store-writer/src/grpc.rs", grpc),
        vec![("look", count(LOOK_MAX as u64)), ("look_epochs", count(LOOK_EPOCHS as u64))],
        rows_of("services/store-writer/src/grpc/answers.rs", answers),
        vec![("erasures_listed", count(ERASURES_LISTED as u64))],
        rows_of("services/store-writer/src/grpc/erasures.rs", compactions),
    ]
    .concat()
}

pub(super) fn feature_serving() -> Vec<Limit> {
    let of = |file: &str| format!("services/feature-serving/src/{file}.rs");
    let late = [
        ("late.facts", "PAGE_MAX", count as fn(u64) -> String),
        ("late.bytes", "PAGE_BYTES", bytes),
        ("late.looked_at", "FIND_FACTS", count),
    ];
    [
        rows_of(&of("read"), [("read.entities", "ENTITIES_MAX", count)]),
        rows_of(&of("pipeline"), [("call.reads", "AT_ONCE", count)]),
        rows_of(&of("explain"), [("explain.facts", "FACTS_MAX", count)]),
        rows_of(&of("late"), late),
        rows_of(&of("training/question"), [("training_sets.views", "VIEWS_MAX", count)]),
        rows_of(&of("confirmed"), [("owned_within", "OWNED_WITHIN", long)]),
        rows_of(
            "services/millrace/src/serve/services.rs",
            [("store_patience", "STORE_PATIENCE", long)],
        ),
    ]
    .concat()
}

pub(super) fn between_services() -> Vec<Limit> {
    let of = |file: &str| format!("crates/millrace-client/src/{file}.rs");
    let loads = [
        ("loads.waiting", "ASKS_MAX", count as fn(u64) -> String),
        ("loads.names", "NAMES_MAX", count),
        ("loads.at_once", "CALLS_AT_ONCE", count),
        ("loads.linger", "LINGER", long),
    ];
    let hop = [
        ("hop.queued", "QUEUED", count as fn(u64) -> String),
        ("hop.open_within", "OPEN_WITHIN", long),
    ];
    [
        rows_of(&of("endpoints"), [("connect_within", "CONNECT_TIMEOUT", long)]),
        rows_of(&of("remote/store"), [("attempt_within", "ATTEMPT_WITHIN", long)]),
        rows_of(&of("remote/join"), [("ask_within", "ASK_WITHIN", long)]),
        rows_of(&of("remote/joins"), [("moved_within", "MOVED_WITHIN", long)]),
        rows_of(&of("remote/hop"), hop),
        vec![("message_bytes", bytes(wire::MESSAGE_BYTES as u64))],
        rows_of(&of("remote/loads"), loads),
        rows_of(&of("client"), [("answer_bytes", "ANSWER_BYTES_MAX", bytes)]),
    ]
    .concat()
}

pub(super) fn stores() -> Vec<Limit> {
    let cql_of = |file: &str| format!("crates/millrace-store-scylla/src/{file}.rs");
    let cql = CqlConfig::new(Vec::new(), "keyspace", "cluster", 1);
    let redis = RedisConfig::new("redis://host", "cluster");
    let writer = [
        ("folder.queue_calls", "QUEUE_CALLS", count as fn(u64) -> String),
        ("folder.queue_bytes", "QUEUE_KIB", |kib| bytes(kib << 10)),
        ("folder.group_bytes", "GROUP_BYTES", bytes),
    ];
    let log = [
        ("cql.chunks_at_once", "APPENDS", count as fn(u64) -> String),
        ("cql.page_bytes", "PAGE_BYTES", bytes),
        ("cql.places", "CACHED_MAX", count),
    ];
    let gate = [
        ("cql.in_flight_first", "START", count as fn(u64) -> String),
        ("cql.in_flight_min", "LEAST", count),
        ("cql.in_flight_behind_min", "LEAST_BEHIND", count),
        ("cql.slow", "SLOW", long),
        ("cql.slow_behind", "SLOW_BEHIND", long),
    ];
    [
        vec![("window", count(WINDOW_NUMBERS))],
        rows_of("crates/millrace-store-fjall/src/writer.rs", writer),
        vec![
            ("cql.patience", time(cql.patience)),
            ("cql.in_flight_max", count(cql.in_flight_max as u64)),
        ],
        rows_of(&cql_of("gate"), gate),
        rows_of(&cql_of("log"), log),
        rows_of(&cql_of("landed"), [("cql.landed_bytes", "BYTES_MAX", bytes)]),
        vec![("redis.patience", time(redis.patience))],
        rows_of(
            "crates/millrace-store-redis/src/windows.rs",
            [("redis.at_once", "IN_FLIGHT", count)],
        ),
        rows_of("crates/millrace-store-redis/src/pending.rs", [("redis.runs", "RUNS_MAX", count)]),
        rows_of(
            "crates/millrace-store-redis/src/cache.rs",
            [("redis.windows", "GENERATION", count)],
        ),
    ]
    .concat()
}

pub(super) fn sizes() -> Vec<Limit> {
    vec![
        ("slots", count(SLOTS_MAX)),
        ("catalog.nesting", count(catalog::YAML_DEPTH_MAX as u64)),
        ("catalog.errors", count(catalog::DIAGNOSTICS_MAX as u64)),
        ("catalog.key_parts", count(catalog::KEY_PARTS_MAX as u64)),
        ("catalog.stream_keys", count(catalog::STREAM_KEYS_MAX as u64)),
        ("catalog.op_values", count(catalog::OP_VALUES_MAX as u64)),
        ("catalog.n", count(catalog::N_MAX as u64)),
        ("catalog.k", count(catalog::K_MAX as u64)),
        ("catalog.where_depth", count(catalog::WHERE_DEPTH_MAX as u64)),
        ("catalog.pattern", bytes(catalog::PATTERN_BYTES_MAX as u64)),
        ("catalog.patterns", count(catalog::PATTERNS_MAX as u64)),
    ]
}
