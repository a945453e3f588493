use serde_json::json;

use crate::process::{millrace, run, run_at};
use crate::server::{CATALOG, Played, start};

const WRONG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: userid}
    at: ts
    fields: {user_id: int64, ts: timestamp, price: decimal}
";

fn write(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn validate_names_every_error_without_a_server() {
    let (_folder, path) = write(CATALOG);
    let ran = run(millrace(&["validate", &path, "-o", "table"])).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let valid = "is valid: 2 entities, 2 streams, 2 views, 3 features\n";
    assert_eq!(ran.stdout, format!("{path} {valid}"));
    let ran = run(millrace(&["validate", &path])).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "[]\n"));

    let (_folder, path) = write(WRONG);
    let ran = run(millrace(&["validate", &path, "-o", "json"])).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let problems = ran.json();
    assert_eq!(problems.as_array().unwrap().len(), 2, "{problems}");
    assert_eq!(
        (&problems[0]["file"], &problems[0]["line"], &problems[0]["column"]),
        (&json!(path), &json!(5), &json!(18))
    );
    assert_eq!(problems[0]["rule"], "unknown-field");
    assert_eq!(problems[1]["rule"], "unknown-type");
    assert!(ran.stderr.starts_with(&format!("{path}:5:18: unknown-field: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  help: "), "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with(&format!(
            "error: {path} has 2 errors\n  next: correct the errors above; nothing was applied\n"
        )),
        "{}",
        ran.stderr
    );
    let lines = run(millrace(&["validate", &path, "-o", "ndjson"])).await;
    assert_eq!(lines.stdout.lines().count(), 2);
}

#[tokio::test]
async fn a_catalog_file_that_cannot_be_read_is_named() {
    let ran = run(millrace(&["validate", "no/such.yaml"])).await;
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stderr,
        "error: cannot read catalog no/such.yaml: No such file or directory (os error 2)\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn apply_shows_the_difference() {
    let (address, _) = start(Played::default()).await;
    let (_folder, path) = write(CATALOG);
    let ran = run_at(address, &["apply", &path, "-o", "table"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(
        ran.stdout,
        "+ views.v.features.f: {count: {}}\n~ views.v.features.f: 1h → 2h\n\
         applied: version 4 is in force\n"
    );
    let ran = run_at(address, &["apply", &path, "--dry-run"]).await;
    assert_eq!(
        ran.stdout,
        "{\"version\":3,\"applied\":false,\"dry_run\":true,\"changes\":[\
         {\"change\":\"added\",\"path\":\"views.v.features.f\",\"before\":null,\
         \"after\":\"{count: {}}\"},{\"change\":\"changed\",\"path\":\"views.v.features.f\",\
         \"before\":\"1h\",\"after\":\"2h\"}]}\n"
    );
    let (_folder, path) = write(WRONG);
    let ran = run_at(address, &["apply", &path]).await;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.json().as_array().unwrap().len(), 2);
    assert!(ran.stderr.contains(&format!("{path}:5:18: unknown-field: ")), "{}", ran.stderr);
}
