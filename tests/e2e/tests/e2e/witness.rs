//! The real data sets against DuckDB and Polars, which know nothing of Millrace: each is imported whole, and
//! every value of training sets that SQL can express exactly is compared, as known at each row and latest.
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
fn witness(step: &str, data: &DataSet, source: &Path, folder: &Path) -> Finished {
    let script = repository_root().join("tests/e2e/python/witness.py");
    let mut command = client_command(&python().expect("Python"));
    command.arg(script).args([step, data.name]).args([source, folder]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let done = run_bounded(&mut command, b"", LIMIT);
    done.and_then(|done| done.expect_code(0)).expect("the witness")
}

/// Imports the files that the script has put in the order in which their rows were known.
fn import(cli: &Cli, files: &Value) {
    let files = files.as_object().expect("files by stream");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut args = Vec::new();
    for (stream, file) in files {
        args.push(pair(stream, Path::new(&text(&file["path"]))));
        args.extend(["--known-at".to_owned(), format!("{stream}={}", text(&file["known_at"]))]);
    }
    let report = cli.import(args).expect("imported");
    let rows = files.values().filter_map(|file| file["rows"].as_u64()).sum::<u64>();
    assert_eq!((report.sent, report.rejected + report.late), (rows, 0), "{report:?}");
}

fn train(cli: &Cli, view: &str, planned: &Value) {
    let features = planned["features"].as_array().expect("features").iter();
    let features: Vec<&str> = features.filter_map(Value::as_str).collect();
    let spine = planned["spine"].as_str().expect("a path");
    for (known_at, out) in planned["sets"].as_object().expect("sets by known_at") {
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

fn check(data: &DataSet) {
    let source = match data.find().expect("the real data sets") {
        Folder::Present(source) => source,
        Folder::Absent(wanted) => return say_left_out(&wanted),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    witness("prepare", data, &source, folder.path());
    let plan = std::fs::read(folder.path().join("plan.json")).expect("a plan");
    let plan: Value = serde_json::from_slice(&plan).expect("JSON");
    let server =
        Dev::start(&DevOptions::on(&folder.path().join("data"))).expect("the server starts");
    let cli = server.cli();
    let apply = cli.run(["apply".as_ref(), data.catalog_path().as_os_str()]);
    apply.and_then(|done| done.expect_code(0)).expect("the catalog is applied");
    import(&cli, &plan["files"]);
    for (view, planned) in plan["views"].as_object().expect("views") {
        train(&cli, view, planned);
    }
    let told = witness("compare", data, &source, folder.path()).json().expect("JSON");
    assert!(told["compared"].as_u64() > Some(100_000), "{told}");
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
