use serde_json::json;

use crate::process::run_at;
use crate::server::{Played, start};

/// 2026-03-01T12:00:00Z.
const NOON_MS: i64 = 1_772_366_400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_import_sends_what_rows_state_on_one_call_and_covers_no_rejected_row_alone() {
    let (address, played) = start(Played::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let clicks = write(
        "clicks.csv",
        "event_id,user_id,ts,price,seen\n\
         a,1,1772366400000,,1772366401000000\n\
         b,one,1772366400000,,1772366401000000\n\
         c,1,1772366400000,,2026-03-01T12:00:05Z\n",
    );
    let more =
        write("more.csv", "seen,event_id,user_id,ts,price\n1772366403000000,e,1,1772366400000,\n");
    let bad = write("bad.csv", "event_id,user_id,ts,price,seen\nd,1,1772366400000,,\n");
    let [clicks, more, bad] = [clicks, more, bad].map(|file| format!("clicks={file}"));
    let args = ["import", &clicks, &more, &bad, "--known-at", "clicks=seen", "-o", "json"];
    let ran = run_at(address, &args).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let summary = ran.json();
    assert_eq!(
        (&summary["sent"], &summary["accepted"], &summary["rejected"]),
        (&json!(5), &json!(3), &json!(2))
    );
    let known = |after_ms: i64| (NOON_MS + after_ms) * 1_000;
    let received = played.received.lock().unwrap();
    let with_facts: Vec<_> = received
        .iter()
        .filter(|r| !r.sequences.is_empty())
        .map(|r| (r.ids[0].as_str(), r.sequences.as_slice(), r.next, r.known_at.as_slice()))
        .collect();
    assert_eq!(
        with_facts,
        [
            ("a", &[0][..], 2, &[known(1_000)][..]),
            ("e", &[0][..], 1, &[known(3_000)][..]),
            ("c", &[2][..], 3, &[known(5_000)][..]),
        ]
    );
    // Each file says that it ends. What has no facts states no known_at and covers no row: ingest would
    // take such a batch for a published one.
    let rest: Vec<_> = received.iter().filter(|r| r.sequences.is_empty()).collect();
    assert_eq!(rest.iter().filter(|r| r.idle).count(), 3, "{rest:?}");
    assert!(rest.iter().all(|r| r.known_at.is_empty() && r.first == r.next), "{rest:?}");
    assert_eq!(
        received[0].producer.strip_prefix("file/clicks/csv/").map(str::len),
        Some(32),
        "the producer that publishes the same file"
    );
}
