//! Traces as a real Jaeger tells them: from the client through every service to the statements of the
//! databases.

use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};

use millrace_e2e_tests::wait_until;
use millrace_test_servers::{Cassandra, Jaeger, Redis, RedisOptions, SLOW_TRACE};
use serde_json::Value;

use crate::apart::Place;
use crate::fixture::pair;
use crate::traces::SOON;

/// Producers that publish at the same time, and the clicks of each.
const PRODUCERS: usize = 8;
const EACH: usize = 500;

/// A span: its name, and the service or database that it is of.
type Named = (&'static str, &'static str);

const BATCH_TO_THE_LOG: [Named; 7] = [
    ("publish batch", "millrace-cli"),
    ("ingest batch", "millrace-ingest"),
    ("join process", "millrace-join"),
    ("join flush", "millrace-join"),
    ("store append", "millrace-store-writer"),
    ("store commit", "millrace-store-writer"),
    ("append log", "cassandra"),
];
const BATCH_TO_THE_WINDOW: [Named; 3] =
    [BATCH_TO_THE_LOG[0], BATCH_TO_THE_LOG[1], ("mark window", "redis")];
const READ_TO_THE_HEAD: [Named; 6] = [
    ("get features", "millrace-cli"),
    ("read features", "millrace-feature-serving"),
    ("read heads", "millrace-feature-serving"),
    ("load heads", "millrace-feature-serving"),
    ("store load", "millrace-store-writer"),
    ("load snapshot", "cassandra"),
];

/// The command line as the head of traces.
fn command(place: &Place, jaeger: &Jaeger, args: &[&str]) -> Command {
    let mut command = place.cli().command(args).expect("a binary");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.otlp());
    command
}

fn run(place: &Place, jaeger: &Jaeger, args: &[&str], code: i32) {
    let ended = command(place, jaeger, args).output().expect("it runs");
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
}

/// Services that export to this Jaeger at once.
fn exporting(jaeger: &Jaeger, mut env: Vec<(&'static str, String)>) -> Place {
    env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", jaeger.otlp()));
    env.push(("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()));
    Place::with(&env)
}

/// The traces whose head is the command line's, as the query API gives them.
fn traces(jaeger: &Jaeger) -> Vec<Value> {
    // Until the first span is there nobody knows the service.
    let Ok(text) = jaeger.get("/api/traces?service=millrace-cli&limit=100") else {
        return Vec::new();
    };
    let mut answer: Value = serde_json::from_str(&text).expect("JSON");
    answer["data"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// What a span is of: the database it calls, else its service.
fn is_of(span: &Value, trace: &Value) -> String {
    let tags = span["tags"].as_array().cloned().unwrap_or_default();
    let system = tags.iter().find(|tag| tag["key"] == "db.system.name");
    let process = span["processID"].as_str().unwrap_or_default();
    let found = system.map_or(&trace["processes"][process]["serviceName"], |tag| &tag["value"]);
    found.as_str().unwrap_or_default().to_owned()
}

/// Whether these spans stand in the trace, each a child of the one before it, the first one its head.
fn stands(trace: &Value, chain: &[Named]) -> bool {
    let spans = trace["spans"].as_array().expect("spans");
    let parent = |span: &Value| {
        let references = span["references"].as_array().cloned().unwrap_or_default();
        let of = references.iter().find(|reference| reference["refType"] == "CHILD_OF");
        of.and_then(|reference| reference["spanID"].as_str().map(str::to_owned))
    };
    let mut below: HashMap<Option<String>, Vec<&Value>> = HashMap::new();
    for span in spans {
        below.entry(parent(span)).or_default().push(span);
    }
    let mut above = vec![None];
    for (name, of) in chain {
        let children = above.iter().filter_map(|above| below.get(above)).flatten();
        let found =
            children.filter(|span| span["operationName"] == *name && is_of(span, trace) == *of);
        above = found.map(|span| span["spanID"].as_str().map(str::to_owned)).collect();
    }
    !above.is_empty()
}

/// Whether a flush of one trace is linked to the batch of another, which it wrote too.
fn is_merged(traces: &[Value]) -> bool {
    let spans = |name: &'static str| {
        let all = traces.iter().flat_map(|trace| trace["spans"].as_array().into_iter().flatten());
        all.filter(move |span| span["operationName"] == name)
    };
    let batches: HashSet<(&str, &str)> = spans("join process")
        .filter_map(|span| Some((span["traceID"].as_str()?, span["spanID"].as_str()?)))
        .collect();
    let is_linked = |flush: &Value| {
        let links = flush["references"].as_array().into_iter().flatten();
        let mut links = links.filter(|reference| reference["refType"] == "FOLLOWS_FROM");
        links.any(|link| {
            let to = link["traceID"].as_str().zip(link["spanID"].as_str());
            link["traceID"] != flush["traceID"] && to.is_some_and(|to| batches.contains(&to))
        })
    };
    spans("join flush").any(is_linked)
}

#[test]
fn a_batch_and_a_read_are_each_one_trace_down_to_the_databases() {
    let jaeger = Jaeger::start().expect("a Jaeger");
    let (database, redis) = (Cassandra::shared(), Redis::start(RedisOptions::default()));
    let redis = redis.expect("a Redis");
    let env = [
        ("MILLRACE_CQL", database.address()),
        ("MILLRACE_CQL_KEYSPACE", "traces".to_owned()),
        ("MILLRACE_CQL_CREATE", "datacenter1=1".to_owned()),
        ("MILLRACE_REDIS", redis.url()),
    ];
    let place = exporting(&jaeger, env.to_vec());
    let rows = place.clicks("clicks.csv", 0..200);
    run(&place, &jaeger, &["publish", &pair("clicks", &rows)], 0);
    // The heads are stored, and read from there: nobody read them just before.
    place.services.settle();
    run(&place, &jaeger, &["get", "user_activity", "1"], 0);
    for chain in [&BATCH_TO_THE_LOG[..], &BATCH_TO_THE_WINDOW, &READ_TO_THE_HEAD] {
        wait_until(&format!("a trace in Jaeger of {chain:?}"), SOON, || {
            traces(&jaeger).iter().any(|trace| stands(trace, chain)).then_some(())
        });
    }
    // Batches of several producers at once, until one flush has two of them.
    let mut sent = 200;
    wait_until("a link between traces in Jaeger", SOON, || {
        let starts = (sent..).step_by(EACH).take(PRODUCERS);
        let file = |from| place.clicks(&format!("from{from}.csv"), from..from + EACH);
        let pairs: Vec<String> = starts.map(|from| pair("clicks", &file(from))).collect();
        sent += PRODUCERS * EACH;
        let args: Vec<&str> =
            std::iter::once("publish").chain(pairs.iter().map(String::as_str)).collect();
        run(&place, &jaeger, &args, 0);
        is_merged(&traces(&jaeger)).then_some(())
    });
}

/// Services sample as their callers do, so that a collector that sees traces whole can keep those with an
/// error and those that were slow, as the one of `deploy/` does.
#[test]
fn traces_with_an_error_and_slow_ones_are_kept_where_others_are_not() {
    let jaeger = Jaeger::start_as_deployed().expect("a Jaeger");
    let place = exporting(&jaeger, Vec::new());
    let read = ["get", "user_activity", "1"];
    run(&place, &jaeger, &read, 0);
    run(&place, &jaeger, &[&read[..], &["--known-at", "2099-01-01T00:00:00Z"]].concat(), 1);
    let serving = "feature-serving";
    place.services.signal(serving, "STOP").expect("it can be stopped");
    let mut slow = command(&place, &jaeger, &read);
    let mut slow = slow.stdout(Stdio::null()).spawn().expect("it runs");
    // Nothing is waited for: the read takes at least as long as the service is stopped, and so is slow.
    std::thread::sleep(SLOW_TRACE + SLOW_TRACE / 2);
    place.services.signal(serving, "CONT").expect("it goes on");
    assert!(slow.wait().expect("it ends").success());
    let kept = wait_until("two traces in Jaeger", SOON, || {
        let kept = traces(&jaeger);
        (kept.len() > 1).then_some(kept)
    });
    // The other one began before them, and was decided about before them.
    assert_eq!(kept.len(), 2, "{kept:?}");
    let read = [READ_TO_THE_HEAD[0], READ_TO_THE_HEAD[1]];
    assert!(kept.iter().all(|trace| stands(trace, &read)), "{kept:?}");
    let answered = kept.iter().filter(|trace| stands(trace, &READ_TO_THE_HEAD[..3]));
    assert_eq!(answered.count(), 1, "the one that was refused, and the slow one: {kept:?}");
}
