//! Data folders: one process each, and of a version that is understood.

use millrace_e2e_tests::{Dev, DevOptions, HarnessError};

use crate::fixture::{CLICKS, Site};

#[test]
fn two_processes_on_one_folder_are_refused() {
    let site = Site::new();
    let error = Dev::start(&DevOptions::on(site.data())).expect_err("the folder is taken");
    let HarnessError::NotReady { status, stderr, .. } = error else { panic!("{error}") };
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains(&site.data().display().to_string()), "names the folder: {stderr}");
    // The first one goes on.
    let report = site.publish("clicks", &[CLICKS, "c1,1,2024-03-01T10:00:00Z,0,,1,1,book"]);
    assert_eq!(report.accepted, 1);
}

#[test]
fn a_kill_leaves_no_stale_lock() {
    let mut site = Site::new();
    site.crash_and_restart();
    site.crash_and_restart();
    assert_eq!(site.stop(), 0);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let site = Site::new();
    let other = tempfile::tempdir().expect("a temporary folder");
    let options = DevOptions::on(other.path()).at_port(site.server().port());
    let error = Dev::start(&options).expect_err("the port is taken");
    let HarnessError::NotReady { status, stderr, .. } = error else { panic!("{error}") };
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains(&site.server().port().to_string()), "names the port: {stderr}");
}
