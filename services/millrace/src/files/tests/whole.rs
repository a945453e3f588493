//! Text is read row by row, and columns as a whole where each value is one: they say the same, in the same
//! batches.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, StringBuilder, TimestampMillisecondBuilder,
    UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};

use super::*;

const ROWS: u64 = 5_000;
const ROWS_MAX: u64 = 900;

/// The same rows as text and as columns, each with a NULL now and then; one may hold no number.
fn rows(bad_row: Option<u64>) -> (String, RecordBatch) {
    let mut csv = "id,ts,n,x,ok,raw\n".to_owned();
    let (mut ids, mut at) = (StringBuilder::new(), TimestampMillisecondBuilder::new());
    let (mut numbers, mut doubles) = (UInt64Builder::new(), Float64Builder::new());
    let (mut flags, mut raw) = (BooleanBuilder::new(), BinaryBuilder::new());
    for row in 0..ROWS {
        let is_there = |every: u64| !row.is_multiple_of(every);
        // Long texts end batches by their bytes, short ones by their rows.
        let length = 1 + row * row % 97 * (row / 1_000 % 2) * 50;
        let id = is_there(7).then(|| "x".repeat(length as usize));
        let ts = is_there(5).then_some(row as i64 * 1_000);
        let n = is_there(3).then_some(row);
        let x = if Some(row) == bad_row { f64::INFINITY } else { (row as f64 - 2_500.0) / 8.0 };
        let x = (is_there(11) || x.is_infinite()).then_some(x);
        let ok = is_there(2).then_some(row.is_multiple_of(3));
        let bytes = is_there(13).then_some(b"abc");
        fn text(value: Option<impl ToString>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let raw_text = text(bytes.map(|_| "YWJj"));
        let line = [text(id.clone()), text(ts), text(n), text(x), text(ok), raw_text];
        csv.push_str(&(line.join(",") + "\n"));
        ids.append_option(id);
        at.append_option(ts);
        numbers.append_option(n);
        doubles.append_option(x);
        flags.append_option(ok);
        raw.append_option(bytes);
    }
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(ids.finish())),
        ("ts", Arc::new(at.finish())),
        ("n", Arc::new(numbers.finish())),
        ("x", Arc::new(doubles.finish())),
        ("ok", Arc::new(flags.finish())),
        ("raw", Arc::new(raw.finish())),
    ];
    (csv, RecordBatch::try_from_iter(columns).unwrap())
}

fn batches(format: Format, path: &Path) -> Vec<RowBatch> {
    let input = Input::File(path.to_owned());
    let reader = RowReader::open(&input, format, &stream(), ROWS_MAX, &Progress::default());
    let mut reader = reader.unwrap();
    std::iter::from_fn(|| reader.next_batch().unwrap()).collect()
}

fn rejected(batch: &RowBatch) -> Vec<u64> {
    batch.rejected.iter().map(|row| row.sequence).collect()
}

#[test]
fn columns_say_what_rows_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    for bad_row in [None, Some(0), Some(1_234), Some(4_999)] {
        let (csv, columns) = rows(bad_row);
        std::fs::write(&path, csv).unwrap();
        let by_row = batches(Format::Csv, &path);
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, columns.schema(), None).unwrap();
        writer.write(&columns).unwrap();
        writer.close().unwrap();
        let by_column = batches(Format::Parquet, &path);

        assert_eq!(by_column.len(), by_row.len());
        let by_bytes = by_row.iter().filter(|batch| batch.next - batch.first < ROWS_MAX).count();
        assert!(by_bytes > 2, "{by_bytes} batches end by their bytes");
        for (column, row) in by_column.iter().zip(&by_row) {
            assert_eq!(column.records, row.records);
            assert_eq!((column.first, column.next), (row.first, row.next));
            assert_eq!(column.sequences, row.sequences);
            assert_eq!(rejected(column), rejected(row));
            // A file of text has a header.
            assert!(column.lines.iter().zip(&row.lines).all(|(column, row)| column + 1 == *row));
        }
        let rejected: usize = by_column.iter().map(|batch| batch.rejected.len()).sum();
        assert_eq!(rejected, usize::from(bad_row.is_some()));
    }
}
