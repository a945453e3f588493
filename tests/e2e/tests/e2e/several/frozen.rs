//! One of two processes that answer alike is frozen: who reads asks the other one.

use std::time::{Duration, Instant};

use super::with;
use crate::crash::expected_counts;
use crate::fixture::pair;

/// Without a second attempt a read would wait for its keepalive, and be sent there again.
const READ_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn reads_go_on_while_an_ingest_and_a_feature_serving_are_frozen() {
    let place = with(&["ingest-1", "feature-serving-1"]);
    let file = place.clicks("clicks.csv", 0..200);
    assert_eq!(place.cli().publish([pair("clicks", &file)]).expect("published").accepted, 200);
    assert_eq!(place.settled_counts(), expected_counts(200));
    for name in ["ingest", "feature-serving"] {
        place.services.signal(name, "STOP").expect("it can be frozen");
    }
    // A client of its own each time: whom it asks first is left to chance.
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(place.counts(), expected_counts(200));
        assert!(begun.elapsed() < READ_WITHIN, "{:?}", begun.elapsed());
    }
    for name in ["ingest", "feature-serving"] {
        place.services.signal(name, "CONT").expect("it can go on");
    }
}
