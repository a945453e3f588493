//! Live traffic beside an import.

use std::thread;

use super::{clicks_a_second, counted, last_instant, long_files, wait_for_first_facts};
use crate::crash::expected_counts;
use crate::fixture::{CLICKS, Topology, on_both};

const PAST: usize = 60_000;
/// Clicks of a file that is published meanwhile, and as many of these as there may be.
const LIVE: usize = 200;
const FILES_MAX: usize = 500;

on_both!(live_traffic_goes_on_beside_an_import);
/// What happens now moves the watermark far beyond the history that is still on its way: none of it is late,
/// and it counts since when it says, live facts since now.
fn live_traffic_goes_on_beside_an_import(on: Topology) {
    let site = on.site();
    site.share_slots();
    let files = long_files(&site, PAST);
    let (cli, sources) = (site.cli(), files.clone());
    let importing = thread::spawn(move || cli.import(&sources));
    wait_for_first_facts(&site);
    let mut total = PAST;
    // At least once: where the import is over by then, the end is the same.
    while total == PAST || !importing.is_finished() {
        assert!(total < PAST + FILES_MAX * LIVE, "the import does not end");
        let rows = clicks_a_second(total..total + LIVE);
        let lines: Vec<&str> =
            std::iter::once(CLICKS).chain(rows.iter().map(String::as_str)).collect();
        let report = site.publish("clicks", &lines);
        assert_eq!(report.accepted, LIVE as u64, "{report:?}");
        total += LIVE;
    }
    let report = importing.join().expect("no panic").expect("imported");
    assert_eq!((report.sent, report.late + report.rejected), (PAST as u64, 0), "{report:?}");
    assert_eq!(report.duplicate, 0, "{report:?}");
    assert_eq!(counted(&site, &[]), expected_counts(total));
    let past = last_instant(PAST);
    assert_eq!(counted(&site, &["--known-at", &past]), expected_counts(PAST));
    let half = last_instant(PAST / 2);
    assert_eq!(counted(&site, &["--known-at", &half]), expected_counts(PAST / 2));
    let again = site.import(&[&files[0], &files[1]]);
    assert_eq!(again.duplicate, PAST as u64, "{again:?}");
    assert_eq!(counted(&site, &[]), expected_counts(total));
}
