//! The demo, in an empty folder.

use std::time::Duration;

use millrace_e2e_tests::{millrace, run_bounded};

#[test]
fn the_demo_runs_in_an_empty_folder_and_leaves_it_empty() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = millrace().expect("the binary");
    command.arg("demo").current_dir(folder.path());
    let finished = run_bounded(&mut command, b"", Duration::from_secs(180)).expect("it ends");
    let finished = finished.expect_code(0).expect("it succeeds");
    for word in [
        "late",
        "repeated",
        "corrected",
        "retracted",
        "before",
        "after",
        "of the training set equal",
    ] {
        assert!(finished.stdout.to_lowercase().contains(word), "{word}: {}", finished.stdout);
    }
    let left = std::fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(left, 0, "it works in a temporary folder of its own");
}
