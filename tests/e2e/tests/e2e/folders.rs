//! Data folders: one process each, and of a version that is understood.

use std::fs;

use millrace_e2e_tests::{Dev, DevOptions, HarnessError};

use crate::fixture::{CLICKS, Site};

/// A server that must not start: what it says, having ended with 1.
#[track_caller]
pub(crate) fn refusal(options: &DevOptions) -> String {
    let error = Dev::start(options).expect_err("it must not start");
    let HarnessError::NotReady { status, stderr, .. } = error else { panic!("{error}") };
    assert_eq!(status, 1, "{stderr}");
    stderr
}

#[test]
fn two_processes_on_one_folder_are_refused() {
    let site = Site::new();
    let said = refusal(&DevOptions::on(site.data()));
    assert!(said.contains(&site.data().display().to_string()), "names the folder: {said}");
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
fn a_folder_of_another_version_is_refused_and_left_alone() {
    let mut site = Site::new();
    site.publish("clicks", &[CLICKS, "c1,1,2024-03-01T10:00:00Z,0,,1,1,book"]);
    assert_eq!(site.stop(), 0);
    let path = site.data().join("millrace.format");
    let ours = fs::read_to_string(&path).expect("the folder says its version");
    assert!(ours.contains("version 2\n"), "{ours}");
    let (unsummed, _) = ours.split_once("sum ").expect("it has a checksum");
    let theirs = unsummed.replace("version 2", "version 99");
    fs::write(&path, &theirs).expect("writable");

    let said = refusal(&DevOptions::on(site.data()));
    for word in ["version 99", "version 2", &site.data().display().to_string()] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(fs::read_to_string(&path).expect("readable"), theirs, "left as it was");

    fs::write(&path, ours).expect("writable");
    site.start_again();
    let features = site.features(&["1", "--at", "2024-03-01T11:00:00Z"]);
    assert_eq!(features[0]["clicks"]["value"], 1);
}

#[test]
fn the_number_of_slots_is_fixed_when_a_folder_is_made() {
    let mut site = Site::with(|options| options.slots = Some(4));
    assert_eq!(site.stop(), 0);
    let mut options = DevOptions::on(site.data());
    options.slots = Some(8);
    let said = refusal(&options);
    assert!(said.contains('4') && said.contains('8'), "names both: {said}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let site = Site::new();
    let other = tempfile::tempdir().expect("a temporary folder");
    let port = site.server().port();
    let said = refusal(&DevOptions::on(other.path()).at_port(port));
    assert!(said.contains(&port.to_string()), "names the port: {said}");
}
