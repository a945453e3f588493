use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use millrace_catalog::Catalog;
use millrace_types::Micros;
use parquet::arrow::ArrowWriter;

use super::*;
use crate::commands::import::KnownAtFields;
use crate::files::{Format, Input, Progress, ReadError, RowReader};

const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp}
  profiles:
    kind: changelog
    keys: {user: user_id}
    at: valid_from
    fields: {user_id: int64, valid_from: timestamp}
";

/// Everything up to here is known.
const NOW: i64 = 1_000;

struct Fixture {
    catalog: Catalog,
    folder: tempfile::TempDir,
    fields: KnownAtFields,
    files: Vec<(usize, Rows)>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::compile(CATALOG, None).unwrap();
        Self { catalog, folder, fields: KnownAtFields::default(), files: Vec::new() }
    }

    /// Adds a file, read a few rows at a time.
    fn file(self, stream: &str, rows_max: u64, text: &str) -> Self {
        let path = self.folder.path().join(format!("{}.csv", self.files.len()));
        std::fs::write(&path, text).unwrap();
        self.open(stream, rows_max, path, Format::Csv)
    }

    fn open(mut self, stream: &str, rows_max: u64, path: PathBuf, format: Format) -> Self {
        let file = self.files.len();
        let stream = self.catalog.stream(stream).unwrap();
        let read = self.fields.as_read(stream).unwrap();
        let (input, progress) = (Input::File(path), Progress::default());
        let reader = RowReader::open(&input, format, &read, rows_max, &progress).unwrap();
        let at = &stream.fields[stream.at].name;
        let field = self.fields.0.get(&stream.name).unwrap_or(at).clone();
        let now = || Micros(NOW);
        let reader = KnownReader::new(reader, stream, field, format!("{file}.csv"), progress, now);
        let names = Names {
            stream: stream.name.clone(),
            file: String::new(),
            known_at: None,
            answered: Progress::default(),
        };
        let is_changelog = stream.name == "profiles";
        let history = History::try_new("p".into(), names, is_changelog, stream, reader).unwrap();
        self.files.push((file, history.rows));
        self
    }

    /// The same with a column of its own that says since when clicks were known.
    fn clicks_known_by(mut self, field: &str) -> Self {
        self.fields.0.insert("clicks".into(), field.into());
        self
    }

    fn merged(self) -> (Vec<Run>, Option<Failure>) {
        let mut merge = Merge(self.files);
        merge.0.sort_by_key(|(_, rows)| !rows.is_changelog);
        let mut all = Vec::new();
        loop {
            let before = all.len();
            match merge.window(&mut all) {
                Ok(()) if all.len() == before => return (all, None),
                Ok(()) => {}
                Err(failure) => return (all, Some(failure)),
            }
        }
    }
}

/// File, known_at and lines of each run with rows.
fn shown(runs: &[Run]) -> Vec<(usize, Vec<i64>, Vec<u64>)> {
    let with_rows = runs.iter().filter(|run| !run.known_at.is_empty());
    let known_at = |run: &Run| run.known_at.iter().map(|known_at| known_at.0).collect();
    with_rows.map(|run| (run.file, known_at(run), run.rows.lines.clone())).collect()
}

fn clicks(known_at: &[i64]) -> String {
    let rows = known_at.iter().enumerate().map(|(i, at)| format!("e{i},1,{at}\n"));
    format!("event_id,user_id,ts\n{}", rows.collect::<String>())
}

#[test]
fn windows_keep_the_order_of_all_files_and_changelogs_come_first() {
    let profiles = "user_id,valid_from\n1,5\n1,15\n1,40\n";
    let fixture = Fixture::new()
        .file("clicks", 3, &clicks(&[1, 10, 20, 20, 30, 50]))
        .file("profiles", 100, profiles)
        .file("clicks", 2, &clicks(&[60, 70]));
    let (runs, failure) = fixture.merged();
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(
        shown(&runs),
        [
            (1, vec![5, 15], vec![2, 3]),
            (0, vec![1, 10, 20], vec![2, 3, 4]),
            (1, vec![40], vec![4]),
            (0, vec![20, 30], vec![5, 6]),
            (0, vec![50], vec![7]),
            (2, vec![60, 70], vec![2, 3]),
        ]
    );
    // Of each file every sequence is covered once, and its end is told.
    for file in 0..3 {
        let of_file: Vec<_> = runs.iter().filter(|run| run.file == file).collect();
        let covers: Vec<_> = of_file.iter().map(|run| (run.rows.first, run.rows.next)).collect();
        assert_eq!(covers[0].0, 0);
        assert!(covers.windows(2).all(|pair| pair[0].1 == pair[1].0), "{covers:?}");
        assert_eq!(of_file.iter().filter(|run| run.is_last).count(), 1);
        assert!(of_file.last().unwrap().is_last);
        assert!(of_file.iter().all(|run| run.rows.payload.facts() == run.known_at.len()));
    }
}

#[test]
fn rows_without_a_known_at_or_ahead_of_now_are_rejected_and_the_rest_goes_on() {
    let text = "event_id,user_id,ts,seen\na,1,1,\nb,1,1,1000\nc,1,1,1001\nd,1,1,1000\ne,x,1,3\n";
    let fixture = Fixture::new().clicks_known_by("seen").file("clicks", 100, text);
    let (runs, failure) = fixture.merged();
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(shown(&runs), [(0, vec![1_000, 1_000], vec![3, 5])]);
    let rows = &runs[0].rows;
    assert_eq!((rows.first, rows.next, rows.sequences.as_slice()), (0, 5, &[1, 3][..]));
    let rejected: Vec<_> = rows
        .rejected
        .iter()
        .map(|row| (row.line, row.id.as_deref(), row.reason().name(), row.error.to_string()))
        .collect();
    let null = "field seen: is NULL: an import has to know since when a row was known";
    let ahead = "field seen: the known_at 1970-01-01T00:00:00.001001Z lies ahead of now, \
                 1970-01-01T00:00:00.001Z: nothing is known yet";
    let text = "field user_id: \"x\" is not an int64: digits with an optional sign";
    assert_eq!(
        rejected,
        [
            (2, Some("a"), "BAD_ROW", null.to_owned()),
            (4, Some("c"), "BAD_ROW", ahead.to_owned()),
            (6, Some("e"), "BAD_ROW", text.to_owned()),
        ]
    );
}

#[test]
fn a_column_of_parquet_says_since_when_in_its_own_unit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks.parquet");
    let columns: [(&str, ArrayRef); 4] = [
        // Not where the catalog has its fields.
        ("seen", Arc::new(TimestampMillisecondArray::from(vec![Some(-1), None, Some(0)]))),
        ("event_id", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("user_id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("ts", Arc::new(Int64Array::from(vec![7, 8, 9]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true)));
    let batch = batch.unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let fixture = Fixture::new().clicks_known_by("seen");
    let (runs, failure) = fixture.open("clicks", 100, path, Format::Parquet).merged();
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(shown(&runs), [(0, vec![-1_000, 0], vec![1, 3])]);
    assert_eq!(runs[0].rows.rejected[0].id.as_deref(), Some("b"));
}

#[test]
fn rejected_rows_alone_go_too() {
    let text = "event_id,user_id,ts\na,x,1\nb,x,2\nc,1,3\n";
    let (runs, failure) = Fixture::new().file("clicks", 2, text).merged();
    assert!(failure.is_none(), "{failure:?}");
    let covers: Vec<_> = runs
        .iter()
        .map(|run| (run.rows.first, run.rows.next, run.rows.rejected.len(), run.known_at.len()))
        .collect();
    assert_eq!(covers, [(0, 2, 2, 0), (2, 3, 0, 1), (3, 3, 0, 0)]);
}

#[test]
fn a_known_at_that_goes_back_ends_the_import_before_its_row() {
    for rows_max in [1, 2, 3, 4, 100] {
        let back = "event_id,user_id,ts\na,1,10\nb,1,30\nc,x,0\nd,1,29\ne,x,0\nf,1,40\n";
        let fixture = Fixture::new()
            .file("clicks", rows_max, &clicks(&[5, 25, 35, 45]))
            .file("clicks", rows_max, back);
        let (runs, failure) = fixture.merged();
        let Some(Failure::Read(error)) = failure else { panic!("{failure:?}") };
        let ReadError::KnownAtBack { line, before_line, .. } = *error else { panic!("{error}") };
        assert_eq!((line, before_line), (5, 3), "{rows_max}");
        assert_eq!(
            error.to_string(),
            "1.csv:5: field ts: known_at goes back, and an import keeps its order: \
             1970-01-01T00:00:00.000029Z lies before 1970-01-01T00:00:00.00003Z of line 3"
        );
        // Nothing of that row or after it, of no file.
        let sent: Vec<i64> =
            shown(&runs).into_iter().flat_map(|(_, known_at, _)| known_at).collect();
        assert!(sent.iter().all(|known_at| *known_at <= 30), "{rows_max}: {sent:?}");
        let lines = runs.iter().filter(|run| run.file == 1).flat_map(|run| &run.rows.rejected);
        assert!(lines.into_iter().all(|row| row.line < 5), "{rows_max}");
    }
}

#[test]
fn known_at_is_a_timestamp_of_the_stream_or_a_column_beside_it() {
    let catalog = Catalog::compile(CATALOG, None).unwrap();
    let clicks = catalog.stream("clicks").unwrap();
    let fields = |field: &str| {
        KnownAtFields([("clicks".to_owned(), field.to_owned())].into_iter().collect())
    };
    assert_eq!(fields("ts").as_read(clicks).unwrap(), *clicks);
    let beside = fields("seen").as_read(clicks).unwrap();
    assert_eq!(beside.fields.len(), clicks.fields.len() + 1);
    let error = fields("user_id").as_read(clicks).unwrap_err();
    assert!(error.to_string().contains("user_id of stream clicks is int64"), "{error}");
}
