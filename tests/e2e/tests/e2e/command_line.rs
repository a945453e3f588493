//! What scripts rely on: exit codes, JSON fields, help.

use std::net::TcpListener;
use std::time::Duration;

use millrace_e2e_tests::{Cli, millrace, run_bounded};

use crate::fixture::{CLICKS, Topology, catalog, on_both_overnight};

fn without_a_server(args: &[&str]) -> millrace_e2e_tests::Finished {
    let mut command = millrace().expect("the binary");
    run_bounded(command.args(args), b"", Duration::from_secs(60)).expect("it ends")
}

on_both_overnight!(exit_codes_tell_what_happened);
fn exit_codes_tell_what_happened(on: Topology) {
    let site = on.site();
    let code = |args: &[&str]| site.cli().run(args).expect("it ends").code;
    assert_eq!(code(&["status"]), 0);
    assert_eq!(code(&["get", "no_such_view", "1"]), 1);
    assert_eq!(code(&["frobnicate"]), 2);
    assert_eq!(code(&["get"]), 2);
    let rejected = site.file("bad.csv", &[CLICKS, "c1,1,yesterday,0,,1,1,book"]);
    assert_eq!(code(&["publish", &format!("clicks={}", rejected.display())]), 3);
}

#[test]
fn a_server_that_is_not_there_is_exit_code_4_and_says_where_it_looked() {
    // A port that was free a moment ago.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let cli = Cli::at(&format!("http://127.0.0.1:{port}"));
    let finished = cli.run(["status"]).expect("it ends").expect_code(4).expect("not reachable");
    assert!(finished.stderr.contains(&port.to_string()), "{}", finished.stderr);
}

on_both_overnight!(errors_name_what_was_meant);
fn errors_name_what_was_meant(on: Topology) {
    let site = on.site();
    let view = site.cli().run(["get", "user_activty", "1"]).expect("it ends");
    assert!(view.stderr.contains("user_activity"), "{}", view.stderr);
    let feature = site.cli().run(["get", "user_activity", "1", "--features", "click"]);
    let feature = feature.expect("it ends").expect_code(1).expect("there is no such feature");
    assert!(feature.stderr.contains("clicks"), "{}", feature.stderr);
    let key = site.cli().run(["get", "user_activity", "seven"]).expect("it ends");
    assert!(key.code != 0 && key.stderr.contains("int64"), "{}", key.stderr);
}

on_both_overnight!(status_in_json_has_the_agreed_fields);
fn status_in_json_has_the_agreed_fields(on: Topology) {
    let site = on.site();
    site.publish("clicks", &[CLICKS, "c1,1,2024-03-01T10:00:00Z,0,,1,1,book"]);
    let status = site.cli().json(["status"]).expect("status");
    assert_eq!(status["serving"], true, "{status}");
    assert_eq!(status["rebuild_queue"], 0, "{status}");
    assert_eq!(status["watermarks"]["clicks"], "2024-03-01T10:00:00Z", "{status}");
    // What is held is stated at once, not when a budget is next looked at.
    let bytes = |name: &str| status[name].as_u64().expect("bytes");
    assert!(bytes("at_hand_bytes") > 0, "{status}");
    assert!(bytes("resident_bytes") > bytes("at_hand_bytes"), "{status}");
}

on_both_overnight!(get_in_json_has_the_agreed_fields);
fn get_in_json_has_the_agreed_fields(on: Topology) {
    let site = on.site();
    site.publish("clicks", &[CLICKS, "c1,1,2024-03-01T10:00:00Z,0,,1,1,book"]);
    let answer = site
        .settled()
        .json(["get", "user_activity", "1", "--at", "latest", "--features", "country,clicks"])
        .expect("read");
    assert_eq!(answer["view"], "user_activity");
    assert_eq!(answer["at"], "2024-03-01T10:00:00Z", "the greatest event time: {answer}");
    assert!(answer["known_at"].is_string(), "{answer}");
    let row = &answer["rows"][0];
    assert_eq!(row["key"], 1, "{answer}");
    let features = row["features"].as_object().expect("features");
    assert_eq!(features.len(), 2, "only those asked for: {answer}");
    assert_eq!(row["rebuilding"], false, "{answer}");
    assert!(row["final"].is_boolean() && row["version"].is_string(), "{answer}");
    assert_eq!(row["watermark"], serde_json::Value::Null, "profiles have no watermark: {answer}");
}

on_both_overnight!(output_formats_agree);
fn output_formats_agree(on: Topology) {
    let site = on.site();
    site.publish("clicks", &[CLICKS, "c1,1,2024-03-01T10:00:00Z,0,,1,1,book"]);
    for format in ["table", "json", "ndjson", "csv"] {
        let args = ["get", "user_activity", "1", "--at", "2024-03-01T11:00:00Z", "-o", format];
        let text = site.cli().run(args).and_then(|done| done.expect_code(0)).expect(format).stdout;
        assert!(text.contains("clicks_1h"), "{format}: {text}");
    }
}

#[test]
fn validate_needs_no_server() {
    let good = catalog("clickprofile.yaml");
    let finished = without_a_server(&["validate", &good.display().to_string()]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}

#[test]
fn help_has_examples() {
    for command in [
        "dev",
        "demo",
        "validate",
        "apply",
        "publish",
        "import",
        "get",
        "tail",
        "status",
        "bench clickprofile",
        "completions",
    ] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = without_a_server(&args);
        assert_eq!(help.code, 0, "{command}: {}", help.stderr);
        let (_, examples) = help.stdout.split_once("Examples:").unwrap_or_default();
        assert!(examples.contains(&format!("millrace {command}")), "{command}: {}", help.stdout);
    }
}
