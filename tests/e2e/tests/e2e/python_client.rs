//! The Python package: installed as its users install it, its own tests run against the program.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millrace_e2e_tests::{
    Finished, HarnessError, binary, client_command, python, repository_root, run_bounded,
};
use millrace_test_support::real_data::{Folder, ONLINE_RETAIL};

/// It publishes a real data set and fits a model, beside whatever else runs.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn the_python_package_installs_and_passes_its_tests() {
    let package = repository_root().join("clients/python");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let python = python().expect("Python");
    let mut install = client_command(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    // What it needs is there: nothing is fetched, neither to build it nor to run it.
    install.args(["--no-index", "--no-build-isolation", "--no-deps", "--target"]);
    install.arg(folder.path()).arg(&package);
    run(&mut install).and_then(|done| done.expect_code(0)).expect("it installs");

    let mut tests = client_command(&python);
    tests.args(["-m", "pytest", "-p", "no:cacheprovider"]).current_dir(&package);
    tests.env("PYTHONPATH", folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    tests.env("MILLRACE_BIN", binary().expect("the program"));
    let data = ONLINE_RETAIL.find().expect("the real data sets");
    match &data {
        Folder::Present(folder) => {
            tests.env("MILLRACE_DATA", folder.parent().unwrap_or(Path::new(".")));
        }
        Folder::Absent(wanted) => say_left_out(wanted),
    }
    let tests = run(&mut tests).and_then(|done| done.expect_code(0)).expect("they pass");
    // What is missing is skipped by the tests themselves: here nothing is but the data.
    let skipped = tests.stdout.contains("SKIPPED");
    assert_eq!(skipped, matches!(data, Folder::Absent(_)), "{}", tests.stdout);
}

fn run(command: &mut Command) -> Result<Finished, HarnessError> {
    run_bounded(command, b"", LIMIT)
}

#[expect(clippy::print_stderr, reason = "a test that leaves something out must say so")]
fn say_left_out(folder: &Path) {
    eprintln!("left out: there is no data set at {}", folder.display());
}
