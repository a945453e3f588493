//! The same history from files of each form.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use millrace_types::Micros;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::fixture::{Site, Topology, on_both_overnight, pair};

/// What a column holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Integer,
    Double,
    Instant,
}

type Columns = [(&'static str, Holds)];

const CLICKS: [(&str, Holds); 9] = [
    ("event_id", Holds::Text),
    ("user_id", Holds::Integer),
    ("ts", Holds::Instant),
    ("revision", Holds::Integer),
    ("op", Holds::Text),
    ("dwell_ms", Holds::Integer),
    ("price", Holds::Double),
    ("category", Holds::Text),
    ("received_at", Holds::Instant),
];

const PROFILES: [(&str, Holds); 7] = [
    ("version_id", Holds::Text),
    ("user_id", Holds::Integer),
    ("valid_from", Holds::Instant),
    ("revision", Holds::Integer),
    ("op", Holds::Text),
    ("country", Holds::Text),
    ("tier", Holds::Integer),
];

/// What is easily lost on the way: NULLs, integers beyond those of a double, doubles that are no short
/// decimals, texts with what CSV and JSON quote, a microsecond. With a correction and a retraction.
fn clicks() -> Vec<Value> {
    let row = |id: &str, user: i64, at: &str, received: &str, rest: Value| {
        let mut row = json!({
            "event_id": id, "user_id": user, "ts": format!("2024-03-01T{at}Z"),
            "revision": null, "op": null, "dwell_ms": null, "price": null, "category": null,
            "received_at": format!("2024-03-01T{received}Z"),
        });
        for (name, value) in rest.as_object().expect("an object") {
            row[name] = value.clone();
        }
        row
    };
    let first =
        json!({"dwell_ms": 9_007_199_254_740_993_i64, "price": 0.1, "category": "a, \"b\"\nc"});
    vec![
        row("e1", 1, "10:00:00", "10:00:01", first),
        row("e2", 2, "10:30:00.000001", "10:31:00", json!({"category": "0012"})),
        row(
            "e3",
            1,
            "10:20:00",
            "11:00:00",
            json!({"dwell_ms": -5, "price": 2.5e-8, "revision": 0}),
        ),
        row(
            "e1",
            1,
            "10:00:00",
            "11:30:00",
            json!({"revision": 1, "price": 0.7, "category": "ü\\"}),
        ),
        row("e4", 3, "11:10:00", "11:40:00", json!({"price": 3, "category": "gift"})),
        row("e4", 3, "11:10:00", "12:00:00", json!({"revision": 1, "op": "retract"})),
    ]
}

fn profiles() -> Vec<Value> {
    let row = |id: &str, user: i64, from: &str, op: Value, country: Value, tier: Value| {
        json!({
            "version_id": id, "user_id": user, "valid_from": format!("2024-03-01T{from}Z"),
            "revision": null, "op": op, "country": country, "tier": tier,
        })
    };
    vec![
        row("p1", 1, "09:00:00", Value::Null, json!("DE"), json!(3)),
        row("p2", 2, "09:30:00", Value::Null, json!("FR"), Value::Null),
        row("p3", 2, "11:00:00", json!("delete"), Value::Null, Value::Null),
    ]
}

/// Writes rows in the form that the name of the file asks for.
fn write(path: &Path, columns: &Columns, rows: &[Value]) {
    let name = path.display().to_string();
    if name.ends_with(".parquet") {
        write_parquet(path, columns, rows);
        return;
    }
    let text: String = if name.ends_with(".csv") {
        let header: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let cells = |row: &Value| -> Vec<String> {
            columns.iter().map(|(name, _)| csv_cell(&row[*name])).collect()
        };
        let lines = std::iter::once(header).chain(rows.iter().map(cells));
        lines.map(|cells| cells.join(",") + "\n").collect()
    } else {
        rows.iter().map(|row| format!("{row}\n")).collect()
    };
    fs::write(path, text).expect("a file can be written");
}

/// An empty cell is NULL.
fn csv_cell(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("\"{}\"", text.replace('"', "\"\"")),
        None if value.is_null() => String::new(),
        None => value.to_string(),
    }
}

fn write_parquet(path: &Path, columns: &Columns, rows: &[Value]) {
    let column = |(name, holds): &(&'static str, Holds)| {
        let cells = rows.iter().map(|row| &row[*name]);
        let micros = |text: &Value| {
            let text = text.as_str().expect("every row has an instant");
            Micros::parse_rfc3339(text).expect("an instant").0
        };
        let array: ArrayRef = match holds {
            Holds::Text => Arc::new(cells.map(Value::as_str).collect::<StringArray>()),
            Holds::Integer => Arc::new(cells.map(Value::as_i64).collect::<Int64Array>()),
            Holds::Double => Arc::new(cells.map(Value::as_f64).collect::<Float64Array>()),
            Holds::Instant => {
                let micros: Vec<i64> = cells.map(micros).collect();
                Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
            }
        };
        (*name, array)
    };
    let batch = RecordBatch::try_from_iter(columns.iter().map(column)).expect("equal lengths");
    let file = File::create(path).expect("a file can be written");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("rows");
    writer.close().expect("a file");
}

/// Imports the history from files of a form into services of its own; the training sets that it gives, as
/// they stand in their files.
fn sets_of(on: Topology, form: &str) -> [String; 3] {
    let site = on.site();
    let file = |stream: &str, columns: &Columns, rows: &[Value]| {
        let path = site.path(&format!("{stream}.{form}"));
        write(&path, columns, rows);
        pair(stream, &path)
    };
    let clicks = file("clicks", &CLICKS, &clicks());
    let profiles = file("profiles", &PROFILES, &profiles());
    let args = [clicks.as_str(), profiles.as_str(), "--known-at", "clicks=received_at"];
    let report = site.cli().import(args).expect("imported");
    let counted = [report.sent, report.accepted + report.repaired];
    assert_eq!(counted, [9, 9], "{form}: {report:?}");
    let spine = spine(&site);
    ["latest", "at-event", "2024-03-01T11:15:00Z"].map(|known_at| {
        let out = site.path("set.csv");
        let file = out.display().to_string();
        let args = ["training", "user_activity", "--spine", &spine, "--known-at", known_at];
        site.cli().json(args.into_iter().chain(["--out", file.as_str()])).expect("made");
        fs::read_to_string(&out).expect("the set")
    })
}

/// Rows of each user between the facts and after them.
fn spine(site: &Site) -> String {
    let mut lines = vec!["user,at".to_owned()];
    for at in ["10:25:00", "10:30:00.000001", "11:05:00", "12:30:00"] {
        lines.extend((1..=3).map(|user| format!("{user},2024-03-01T{at}Z")));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    site.file("spine.csv", &lines).display().to_string()
}

on_both_overnight!(a_history_is_the_same_from_files_of_every_form);
fn a_history_is_the_same_from_files_of_every_form(on: Topology) {
    let [latest, at_event, at_instant] = sets_of(on, "csv");
    // They say something, each of its own.
    assert!(latest.contains("DE") && latest.contains("ü"), "{latest}");
    assert!(latest != at_event && latest != at_instant && at_event != at_instant, "{latest}");
    for form in ["ndjson", "parquet"] {
        let same = [&latest, &at_event, &at_instant];
        for (found, expected) in sets_of(on, form).iter().zip(same) {
            assert_eq!(found, expected, "{form}");
        }
    }
}
