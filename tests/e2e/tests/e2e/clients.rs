//! Other people's clients: grpcurl through reflection, and Python made from the protos.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millrace_e2e_tests::{Finished, client_command, grpcurl, python, repository_root, run_bounded};
use serde_json::{Value, json};

use crate::fixture::{Site, Topology, assert_features, on_both_overnight};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs grpcurl with a request, if one is given, and more arguments, against a service.
fn grpc(site: &Site, service: &str, request: Option<&Value>, args: &[&str]) -> Finished {
    let mut command = client_command(&grpcurl().expect("grpcurl"));
    command.arg("-plaintext");
    if let Some(request) = request {
        command.args(["-d", &request.to_string()]);
    }
    let endpoint = site.endpoint(service);
    command.arg(endpoint.trim_start_matches("http://")).args(args);
    run_bounded(&mut command, b"", LIMIT).expect("it ends")
}

/// A call that must succeed, of the service that takes it.
fn call(site: &Site, method: &str, request: &Value) -> Value {
    let takes_facts = method.starts_with("millrace.v1.IngestService/");
    let service = if takes_facts { "ingest" } else { "feature-serving" };
    let finished = grpc(site, service, Some(request), &[method]).expect_code(0).expect(method);
    finished.json().expect("grpcurl prints JSON")
}

fn click(id: &str, user: i64, at: &str, price: f64) -> Value {
    json!({"values": {
        "event_id": {"string": id},
        "user_id": {"int64": user.to_string()},
        "ts": {"timestamp": at},
        "dwell_ms": {"int64": "5"},
        "price": {"double": price},
        "category": {"string": "book"},
    }})
}

#[test]
fn grpcurl_lists_and_describes_every_service() {
    let site = Site::bare(|_| {});
    let list =
        grpc(&site, "feature-serving", None, &["list"]).expect_code(0).expect("reflection").stdout;
    for service in [
        "millrace.v1.IngestService",
        "millrace.v1.CatalogService",
        "millrace.v1.JoinService",
        "millrace.v1.FeatureService",
        "millrace.v1.AdminService",
        "grpc.health.v1.Health",
    ] {
        assert!(list.lines().any(|line| line == service), "{service} is not in\n{list}");
        let described = grpc(&site, "feature-serving", None, &["describe", service]).expect_code(0);
        assert!(described.expect("described").stdout.contains("rpc "), "{service}");
    }
    let health = call(&site, "grpc.health.v1.Health/Check", &json!({}));
    assert_eq!(health["status"], "SERVING");
}

on_both_overnight!(grpcurl_publishes_and_reads);
fn grpcurl_publishes_and_reads(on: Topology) {
    let site = on.site();
    let request = json!({
        "producerId": "grpcurl",
        "stream": "clicks",
        "firstSequence": "0",
        "rows": [
            click("a", 42, "2024-03-01T10:00:00Z", 1.5),
            click("b", 42, "2024-03-01T10:30:00Z", 2.25),
            {"values": {"event_id": {"string": "c"}, "ts": {"timestamp": "2024-03-01T10:31:00Z"}}},
        ],
    });
    let answer = call(&site, "millrace.v1.IngestService/PublishBatch", &request);
    let result = &answer["result"];
    assert_eq!(result["counts"], json!({"accepted": "2", "rejected": "1"}), "{answer}");
    let exception = &result["exceptions"][0];
    assert_eq!(exception["index"], 2, "{answer}");
    assert_eq!(exception["reason"], "REJECT_REASON_MISSING_KEY", "{answer}");
    assert_eq!(exception["field"], "user_id", "{answer}");

    let read = json!({
        "view": "user_activity",
        "entities": [{"parts": [{"int64": "42"}]}, {"parts": [{"int64": "43"}]}],
        "features": ["spend", "clicks_1h"],
        "at": "2024-03-01T11:00:00Z",
    });
    site.settle();
    let answer = call(&site, "millrace.v1.FeatureService/GetFeatures", &read);
    let names: Vec<_> = answer["features"].as_array().into_iter().flatten().collect();
    assert_eq!(names[0]["name"], "spend", "{answer}");
    assert_eq!(names[1]["window"]["start"], "2024-03-01T10:00:00Z", "{answer}");
    let entities = &answer["entities"];
    assert_eq!(entities[0]["values"], json!([{"double": 3.75}, {"int64": "2"}]), "{answer}");
    let missing = "VALUE_STATUS_MISSING_ENTITY";
    assert_eq!(entities[1]["statuses"], json!([missing, missing]), "{answer}");
}

on_both_overnight!(mistakes_are_answered_with_rich_errors);
fn mistakes_are_answered_with_rich_errors(on: Topology) {
    let site = on.site();
    let stream = json!({"producerId": "p", "stream": "clocks", "rows": [{}]});
    let answer = call(&site, "millrace.v1.IngestService/PublishBatch", &stream);
    assert_eq!(answer["result"]["counts"], json!({"rejected": "1"}), "{answer}");
    let exception = &answer["result"]["exceptions"][0];
    assert_eq!(exception["reason"], "REJECT_REASON_UNKNOWN_STREAM", "{answer}");

    let read = json!({"view": "user_activty", "entities": [{"parts": [{"int64": "1"}]}]});
    let method = "millrace.v1.FeatureService/GetFeatures";
    let refused = grpc(&site, "feature-serving", Some(&read), &[method]);
    assert_ne!(refused.code, 0);
    for word in ["NotFound", "google.rpc.ErrorInfo", "user_activty"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
}

/// Generates the client, lets it publish and read, and compares what it printed.
#[test]
fn a_python_client_made_from_the_protos_publishes_and_reads() {
    let site = Site::new();
    let python = python().expect("Python");
    let generated = site.path("generated");
    std::fs::create_dir(&generated).expect("a folder can be made");
    let protos = repository_root().join("proto");
    let mut generate = client_command(&python);
    generate.args(["-m", "grpc_tools.protoc", "-I"]).arg(&protos);
    for option in ["--python_out=", "--grpc_python_out="] {
        generate.arg(format!("{option}{}", generated.display()));
    }
    let files = std::fs::read_dir(protos.join("millrace/v1")).expect("the protos");
    generate
        .args(files.map(|file| Path::new("millrace/v1").join(file.expect("a proto").file_name())));
    run(&mut generate);

    let mut client = client_command(&python);
    client
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py"))
        .arg(site.server().address())
        .env("PYTHONPATH", &generated)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let answer = run(&mut client).json().expect("the client prints JSON");
    assert_eq!(
        answer,
        json!({
            "streamed": {"accepted": 3, "durable_sequence": 3},
            "repeated": {"duplicate": 3},
            "read": {"clicks": 3, "spend": 6.5, "country": "CH", "last_categories": ["c", "b", "a"]},
            "stream_read": [3, "NOT_FOUND", 3],
            "unknown_view": "NOT_FOUND",
        })
    );
    // The command line sees the same.
    let features = site.features(&["8", "--at", "2024-03-01T11:00:00Z"]);
    assert_features(&features[0], &[("spend", json!(6.5), "PRESENT")]);
}

fn run(command: &mut Command) -> Finished {
    run_bounded(command, b"", LIMIT).and_then(|done| done.expect_code(0)).expect("it succeeds")
}
