//! Windows of producers in Redis: with it, without it, and while it goes away.

use std::thread;
use std::time::Duration;

use millrace_e2e_tests::wait_until;
use millrace_test_servers::{Redis, RedisOptions};

use crate::apart::Place;
use crate::crash::expected_counts;
use crate::fixture::pair;

/// Marks follow an acknowledgement at once; a machine that builds beside the tests is slow.
const MARKED_WITHIN: Duration = Duration::from_secs(30);

fn wait_for_windows(redis: &Redis, count: usize) {
    wait_until("the windows in Redis", MARKED_WITHIN, || {
        (redis.command(&["DBSIZE"]).ok()? == format!(":{count}")).then_some(())
    });
}

/// Redis dies in the middle of a publish and comes back empty: every verdict is what it would have
/// been, and nothing is lost or counted twice.
#[test]
fn redis_may_die_in_the_middle_and_no_verdict_changes() {
    let mut redis = Redis::start(RedisOptions::default()).expect("a Redis");
    let place = Place::with(&[("MILLRACE_REDIS", redis.url())]);
    let publish =
        |file: &std::path::Path| place.cli().publish([pair("clicks", file)]).expect("published");
    let before = place.clicks("before.csv", 0..2_000);
    let report = publish(&before);
    assert_eq!((report.sent, report.accepted), (2_000, 2_000), "{report:?}");
    wait_for_windows(&redis, 1);
    assert_eq!(publish(&before).duplicate, 2_000, "a window knows it");

    let during = place.clicks("during.csv", 2_000..8_000);
    let report = thread::scope(|scope| {
        let (cli, source) = (place.cli(), pair("clicks", &during));
        let publishing = scope.spawn(move || {
            let args = [source, "--rate".into(), "2000".into()];
            cli.publish(args).expect("published")
        });
        // Its first batches are marked; most of it is still to come.
        wait_for_windows(&redis, 2);
        redis.kill().expect("it can be killed");
        publishing.join().expect("no panic")
    });
    assert_eq!((report.sent, report.accepted), (6_000, 6_000), "{report:?}");
    assert_eq!(place.settled_counts(), expected_counts(8_000));

    // Without Redis the log knows what is a repeat.
    for (file, sent) in [(&before, 2_000), (&during, 6_000)] {
        let report = publish(file);
        assert_eq!((report.sent, report.duplicate), (sent, sent), "{report:?}");
    }
    redis.start_again().expect("it starts again");
    let after = place.clicks("after.csv", 8_000..9_000);
    assert_eq!(publish(&after).accepted, 1_000);
    wait_until("windows after Redis came back empty", MARKED_WITHIN, || {
        let size = redis.command(&["DBSIZE"]).ok()?;
        (size.trim_start_matches(':').parse::<u64>().ok()? >= 1).then_some(())
    });
    assert_eq!(publish(&after).duplicate, 1_000);
    assert_eq!(place.settled_counts(), expected_counts(9_000));
}
