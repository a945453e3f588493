use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::{millrace, run, run_at};
use crate::server::{Played, start};

const CLICKS: &str = "\
event_id,user_id,ts,price
e1,42,2026-03-01T12:00:00Z,2.5
late-1,42,1772366400000,
e3,forty-two,1772366400000,1
conflict-1,42,1772366400000,1
e5,,1772366400000,1
repair-1,43,1772366400001,1
";

/// Without the seconds, which differ from run to run.
fn steady(mut summary: Value) -> Value {
    assert!(summary["seconds"].as_f64().unwrap() >= 0.0);
    summary.as_object_mut().unwrap().remove("seconds");
    summary
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_fact_gets_a_verdict_and_every_exception_its_line() {
    let (address, played) = start(Played::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "clicks.csv", CLICKS);
    let source = format!("clicks={file}");
    let ran = run_at(address, &["publish", &source, "-o", "json"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let exception = |line: u64, id: &str, verdict: &str, reason: Value, field: Value, m: &str| {
        let message = format!("{file}:{line}: {m}");
        json!({"stream": "clicks", "file": file, "line": line, "id": id, "verdict": verdict,
               "reason": reason, "field": field, "message": message})
    };
    let n = Value::Null;
    assert_eq!(
        steady(ran.json()),
        json!({
            "sent": 6, "accepted": 2, "repaired": 1, "duplicate": 0, "late": 1, "rejected": 2,
            "rows_repaired": 2, "queued": 0, "exceptions_omitted": 0,
            "exceptions": [
                exception(3, "late-1", "LATE", n.clone(), n.clone(), "25h behind the watermark"),
                exception(4, "e3", "REJECTED", json!("BAD_ROW"), json!("user_id"),
                    "field user_id: \"forty-two\" is not an int64: digits with an optional sign"),
                exception(5, "conflict-1", "CONFLICT", n.clone(), n,
                    "another payload of this id is known"),
                exception(6, "e5", "REJECTED", json!("MISSING_KEY"), json!("user_id"),
                    "user_id is NULL: a key must be set"),
            ],
        })
    );

    // The rejected row took a number; the producer says goodbye; its name is the content's.
    let received = played.received.lock().unwrap().clone();
    assert_eq!(received[0].sequences, [0, 1, 3, 4, 5]);
    assert_eq!(received[0].next, 6);
    assert_eq!((received[1].idle, received[1].next), (true, 6));
    assert_eq!(received[0].producer, "file/clicks/csv/e0613a2a9158442f8fd6ee6480ee9067");

    // The same file again: all DUPLICATE but for what is refused each time.
    let again = run_at(address, &["publish", &source, "-o", "json"]).await;
    let again = again.json();
    assert_eq!((&again["duplicate"], &again["accepted"]), (&json!(3), &json!(0)));
    assert_eq!((&again["late"], &again["rejected"]), (&json!(1), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_go_side_by_side_and_equal_ones_one_after_the_other() {
    let (address, played) = start(Played::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("event_id,user_id,ts,price\n");
    (0..10_000).for_each(|i| text.push_str(&format!("e{i},{i},{i},\n")));
    let csv = write(folder.path(), "a.csv", &text);
    let copy = write(folder.path(), "b.csv", &text);
    let lines = "{\"event_id\":\"x\",\"user_id\":1,\"ts\":1}\n";
    let ndjson = write(folder.path(), "c.ndjson", lines);
    let sources = [csv, copy, ndjson].map(|file| format!("clicks={file}"));
    let mut arguments = vec!["publish", "-o", "json"];
    arguments.extend(sources.iter().map(String::as_str));
    let ran = run_at(address, &arguments).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let summary = ran.json();
    assert_eq!(summary["sent"], 20_001);
    assert_eq!((&summary["accepted"], &summary["duplicate"]), (&json!(10_001), &json!(10_000)));
    let received = played.received.lock().unwrap();
    let producers: std::collections::BTreeSet<&str> =
        received.iter().map(|r| r.producer.as_str()).collect();
    assert_eq!(producers.len(), 2, "{producers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn standard_input_is_a_producer_with_a_name() {
    let (address, played) = start(Played::default()).await;
    let arguments =
        ["publish", "clicks=-", "--producer", "p1", "--format", "ndjson", "--rate", "1000"];
    let mut command = millrace(&arguments);
    command.env("MILLRACE_ENDPOINT", format!("http://{address}"));
    let mut input = tempfile::tempfile().unwrap();
    writeln!(input, "{{\"event_id\":\"x\",\"user_id\":1,\"ts\":1}}\nnot json").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    command.stdin(Stdio::from(input));
    let ran = run(command).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let summary = ran.json();
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(
        summary["exceptions"][0]["message"],
        "standard input:2: is not a JSON object: expected ident at column 2"
    );
    assert_eq!(played.received.lock().unwrap()[0].producer, "p1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_sent_is_said_before_anything_is_sent() {
    let (address, played) = start(Played::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let good = format!("clicks={}", write(folder.path(), "clicks.csv", CLICKS));
    let file = write(folder.path(), "bad.csv", "event_id,userid,ts\n");
    let bad = format!("clicks={file}");
    let ran = run_at(address, &["publish", &good, &bad]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(
        ran.stderr,
        format!(
            "error: {file} lacks 2 columns of stream clicks: user_id (did you mean userid?), \
             price; it has event_id, userid, ts\n  next: nothing was sent; rename columns of the \
             file, or fields of the catalog\n"
        )
    );
    let ran = run_at(address, &["publish", &good.replace("clicks=", "klicks=")]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.starts_with(
            "error: the catalog has no stream called \"klicks\"; it has clicks, visits\n"
        ),
        "{}",
        ran.stderr
    );
    for (arguments, message) in [
        (vec!["publish", "clicks=-"], "standard input needs --producer"),
        (vec!["publish", "clicks=data.bin"], "the name of data.bin does not tell its format"),
        (
            vec!["publish", "clicks=a.csv", "clicks=b.csv", "--producer", "p"],
            "--producer names one numbering of facts",
        ),
        (vec!["publish", "clicks=a.csv", "--rate", "x"], "invalid value 'x' for '--rate <N>'"),
    ] {
        let ran = run_at(address, &arguments).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.starts_with(&format!("error: {message}")), "{}", ran.stderr);
    }
    assert!(played.received.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_ends_in_the_middle_is_counted_up_to_there() {
    let (address, _played) = start(Played::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writeln!(gzip, "event_id,user_id,ts,price").unwrap();
    (0..50_000).for_each(|i| writeln!(gzip, "e{i},{i},{i},0.{i}").unwrap());
    let whole = gzip.finish().unwrap();
    let path = folder.path().join("cut.csv.gz");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let source = format!("clicks={}", path.display());
    let ran = run_at(address, &["publish", &source, "-o", "json"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let sent = ran.json()["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent < 50_000, "{sent}");
    assert!(ran.stderr.contains("cannot read on after line "), "{}", ran.stderr);
    assert!(ran.stderr.contains("what was sent before is counted once"), "{}", ran.stderr);
}
