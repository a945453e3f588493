//! The kernel broken on purpose: heads lose facts that the log has. The audit sees it, tells it, and the
//! entity is rebuilt.
#![cfg(debug_assertions)]

use millrace_e2e_tests::{Scrape, wait_until};
use millrace_kernel::fault;
use millrace_parity_tests::{SOON, publish, read, samples, scrape, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_lost_facts_is_an_alarm_and_heals() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dev = start(folder.path()).await;
    publish(&dev, folder.path(), 0..10).await;
    let (clicks, ten_spend, _) = read(&dev).await;
    assert_eq!(clicks, 10);
    let audited = || Some(scrape(&dev)).filter(|scrape| samples(scrape, "equal") >= 1);
    let before = wait_until("the first audit", SOON, audited);
    assert_eq!(before.one("millrace_parity_mismatch_ratio", &[]), 0.0);
    assert_eq!((samples(&before, "mismatch"), samples(&before, "skipped")), (0, 0));

    fault::lose_facts(true);
    publish(&dev, folder.path(), 10..13).await;
    fault::lose_facts(false);
    assert_eq!(read(&dev).await, (10, ten_spend, false), "what is served is wrong");

    // Both are told, one a moment after the other.
    let is_alarm = |scrape: &Scrape| {
        let ratio = scrape.one("millrace_parity_mismatch_ratio", &[]);
        samples(scrape, "mismatch") >= 1 && ratio > 0.0
    };
    let alarm = wait_until("the alarm", SOON, || Some(scrape(&dev)).filter(is_alarm));
    let healed =
        || Some(scrape(&dev)).filter(|s| s.one("millrace_join_dirty_entities", &[]) == 0.0);
    let handed =
        || Some(scrape(&dev)).filter(|s| s.one("millrace_parity_rebuilds_total", &[]) >= 1.0);
    wait_until("the rebuild to be asked for", SOON, handed);
    wait_until("the rebuild", SOON, healed);
    let (clicks, spend, rebuilding) = read(&dev).await;
    assert_eq!((clicks, rebuilding), (13, false), "it is as the log says");
    // Ten times a tenth and thirteen times, each rounded once.
    assert_eq!((f64::from_bits(ten_spend), f64::from_bits(spend)), (1.0, 1.3));

    // Facts that come later are added to the head that is right, and nothing more differs.
    publish(&dev, folder.path(), 13..14).await;
    let (told, equal) = (scrape(&dev), samples(&alarm, "equal"));
    assert_eq!(read(&dev).await.0, 14);
    let again = || Some(scrape(&dev)).filter(|scrape| samples(scrape, "equal") >= equal + 2);
    let after = wait_until("the last audits", SOON, again);
    assert_eq!(samples(&after, "mismatch"), samples(&told, "mismatch"));
    dev.stop().await.expect("it stops in good order");
}
