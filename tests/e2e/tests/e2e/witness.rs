//! The real data sets against DuckDB and Polars, which know nothing of Millrace: each is imported whole, and
//! every value of training sets that SQL can express exactly is compared, as known at each row and latest;
//! then each is published whole, to a server of its own, and compared as known latest.
//! `tests/e2e/python/witness.py` says in their words what the views of `examples/` say.

use std::path::Path;
use std::time::Duration;

use millrace_e2e_tests::{
    Cli, Dev, DevOptions, Finished, client_command, python, repository_root, run_bounded,
};
use millrace_test_support::real_data::{DataSet, Folder, ONLINE_RETAIL, VCPKG_PORTS};
use serde_json::Value;

use crate::fixture::pair;

/// A machine that builds beside the tests is slow.
const LIMIT: Duration = Duration::from_secs(300);

/// A step of the script on a data set, with a folder for what it makes.
fn witness(step: &str, data: &DataSet, [source, folder]: [&Path; 2], more: &[&str]) -> Finished {
    let script = repository_root().join("tests/e2e/python/witness.py");
    let mut command = client_command(&python().expect("Python"));
    command.arg(script).args([step, data.name]).args([source, folder]).args(more);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let done = run_bounded(&mut command, b"", LIMIT);
    done.and_then(|done| done.expect_code(0)).expect("the witness")
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Imports the files that the script has put in the order in which their rows were known.
fn import(cli: &Cli, files: &Value) {
    let files = files.as_object().expect("files by stream");
    let mut args = Vec::new();
    for (stream, file) in files {
        args.push(pair(stream, Path::new(&text(&file["path"]))));
        args.extend(["--known-at".to_owned(), format!("{stream}={}", text(&file["known_at"]))]);
    }
    let report = cli.import(args).expect("imported");
    let rows = files.values().filter_map(|file| file["rows"].as_u64()).sum::<u64>();
    assert_eq!((report.sent, report.rejected + report.late), (rows, 0), "{report:?}");
}

/// Publishes them, until nothing waits for a rebuild. All are known later than any row of a spine.
fn publish(cli: &Cli, files: &Value) {
    for (stream, file) in files.as_object().expect("files by stream") {
        let path = text(&file["path"]);
        let report = cli.publish([pair(stream, Path::new(&path))]).expect("published");
        let rows = file["rows"].as_u64().expect("a number");
        assert_eq!((report.sent, report.rejected + report.late), (rows, 0), "{report:?}");
    }
    cli.wait_for_rebuilds(LIMIT);
}

/// Makes the sets of a view, of those that are known at `only` where that is given.
fn train(cli: &Cli, view: &str, planned: &Value, only: Option<&str>) {
    let features = planned["features"].as_array().expect("features").iter();
    let features: Vec<&str> = features.filter_map(Value::as_str).collect();
    let spine = planned["spine"].as_str().expect("a path");
    let sets = planned["sets"].as_object().expect("sets by known_at").iter();
    for (known_at, out) in sets.filter(|(known_at, _)| only.is_none_or(|only| *known_at == only)) {
        let out = out.as_str().expect("a path");
        let args = ["training", view, "--features", &features.join(","), "--spine", spine]
            .into_iter()
            .chain(["--known-at", known_at, "--out", out])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let told = cli.json(args).expect("a training set");
        assert_eq!(told["rows"], planned["rows"], "{view} known at {known_at}: {told}");
    }
}

fn serve(data: &DataSet, folder: &Path) -> Dev {
    let server = Dev::start(&DevOptions::on(folder)).expect("the server starts");
    let apply = server.cli().run(["apply".as_ref(), data.catalog_path().as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    server
}

fn check(data: &DataSet) {
    let source = match data.find().expect("the real data sets") {
        Folder::Present(source) => source,
        Folder::Absent(wanted) => return say_left_out(&wanted),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = [source.as_path(), folder.path()];
    witness("prepare", data, paths, &[]);
    let plan = std::fs::read(folder.path().join("plan.json")).expect("a plan");
    let plan: Value = serde_json::from_slice(&plan).expect("JSON");
    let check_sets = |server: &Dev, only: Option<&str>, compared_at_least| {
        for (view, planned) in plan["views"].as_object().expect("views") {
            train(&server.cli(), view, planned, only);
        }
        let told = witness("compare", data, paths, only.as_slice()).json().expect("JSON");
        assert!(told["compared"].as_u64() > Some(compared_at_least), "{told}");
    };
    let imported = serve(data, &folder.path().join("imported"));
    import(&imported.cli(), &plan["files"]);
    check_sets(&imported, None, 100_000);
    drop(imported);
    // The sets are made again in the place of those.
    let published = serve(data, &folder.path().join("published"));
    publish(&published.cli(), &plan["files"]);
    check_sets(&published, Some("latest"), 50_000);
}

#[expect(clippy::print_stderr, reason = "a test that leaves something out must say so")]
fn say_left_out(folder: &Path) {
    eprintln!("left out: there is no data set at {}", folder.display());
}

#[test]
fn vcpkg_ports_are_what_sql_says() {
    check(&VCPKG_PORTS);
}

#[test]
fn online_retail_is_what_sql_says() {
    check(&ONLINE_RETAIL);
}
