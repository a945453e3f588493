//! Samples that a run left are looked at by the next one.

use bytes::Bytes;
use millrace_e2e_tests::{hours_from_now, wait_until};
use millrace_parity_tests::{SOON, publish, read, samples, scrape, start};
use millrace_store::{AuditSample, AuditStore as _, NodeId};
use millrace_store_fjall::{FjallStore, Options};
use millrace_types::KnownAt;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_left_is_looked_at_by_the_next_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = NodeId("dev".to_owned());
    let open = || {
        let options = Options { slots: Some(4), ..Options::default() };
        // Tasks that were told to end let go of it one after the other.
        wait_until("the folder", SOON, || {
            FjallStore::open(folder.path().join("data"), &options).ok()
        })
    };
    // One that no run of this version writes, in a place in the middle of the ring.
    let taken = hours_from_now(-1);
    let left = |place, taken| {
        let bytes = Bytes::from_static(b"\xffleft");
        AuditSample { place, ver: KnownAt(taken), bytes }
    };
    // Another one of a node that never comes back, older than a day.
    let gone = NodeId("gone".to_owned());
    let old = left(0, hours_from_now(-25));
    let store = open();
    store.put_samples(&node, vec![left(700, taken)]).await.expect("it is written");
    store.put_samples(&gone, vec![old, left(1, taken)]).await.expect("it is written");
    drop(store);

    let dev = start(folder.path()).await;
    let skipped = || {
        let scrape = scrape(&dev);
        let reason = [("reason", "damaged")];
        let damaged = scrape.one("millrace_parity_skipped_samples_total", &reason);
        Some(samples(&scrape, "skipped")).filter(|skipped| *skipped == 1 && damaged == 1.0)
    };
    wait_until("what was left", SOON, skipped);
    publish(&dev, folder.path(), 0..3).await;
    assert_eq!(read(&dev).await.0, 3);
    let equal = || Some(()).filter(|()| samples(&scrape(&dev), "equal") == 1);
    wait_until("the audit of an answer", SOON, equal);
    dev.stop().await.expect("it stops in good order");

    // Whatever was looked at leaves its place empty: a third run has nothing to do. The last ones may be
    // emptied late, and are looked at again then.
    let store = open();
    let rest = store.samples(&node, KnownAt(i64::MIN), 10).await.expect("it is read");
    assert!(rest.iter().all(|sample| sample.ver.0 > taken), "{rest:?}");
    let rest = store.samples(&gone, KnownAt(i64::MIN), 10).await.expect("it is read");
    assert_eq!(rest.iter().map(|sample| sample.place).collect::<Vec<_>>(), [1], "{rest:?}");
}
