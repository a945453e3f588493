//! Readers against hand-made files: every value rule and every error path, with its line.

mod arrow;
mod csv;
mod ndjson;
mod parquet;
mod whole;

use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_schema::DataType;
use millrace_catalog::{BeyondRepair, Field, KeyMapping, Stream, StreamKind, TimeUnit};
use millrace_types::{FieldType, KindId, StreamId};

use super::*;

/// A stream with a field of every type; the primary key is `n`, the id `id`.
pub(super) fn stream() -> Stream {
    let field = |name: &str, ty, unit| Field { name: name.into(), ty, unit };
    Stream {
        id: StreamId(0),
        name: "clicks".into(),
        kind: StreamKind::Event,
        keys: vec![KeyMapping { kind: KindId(0), fields: vec![2], optional: false }],
        at: 1,
        id_field: Some(0),
        seq: None,
        revision: None,
        op: None,
        retracts: None,
        out_of_orderness_us: 0,
        repair_us: 0,
        beyond_repair: BeyondRepair::Rebuild,
        retention_us: None,
        forgets: false,
        fields: vec![
            field("id", FieldType::String, TimeUnit::Micros),
            field("ts", FieldType::Timestamp, TimeUnit::Millis),
            field("n", FieldType::Int64, TimeUnit::Micros),
            field("x", FieldType::Double, TimeUnit::Micros),
            field("ok", FieldType::Bool, TimeUnit::Micros),
            field("raw", FieldType::Bytes, TimeUnit::Micros),
        ],
    }
}

/// The rows of a batch as text, one cell after the other, `NULL` where there is none.
pub(super) fn rows(batch: &RecordBatch) -> Vec<String> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
    let cell = |column: usize, row: usize| {
        let array = batch.column(column);
        if array.is_null(row) {
            return "NULL".to_owned();
        }
        match array.data_type() {
            DataType::Boolean => array.as_boolean().value(row).to_string(),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
            DataType::Binary => format!("{:?}", array.as_binary::<i32>().value(row)),
            DataType::Timestamp(_, Some(_)) => {
                format!("{}us", array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            other => panic!("no column has type {other}"),
        }
    };
    (0..batch.num_rows())
        .map(|row| (0..batch.num_columns()).map(|c| cell(c, row)).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The rejected rows as `line: message`.
pub(super) fn rejections(batch: &RowBatch) -> Vec<String> {
    batch.rejected.iter().map(|r| format!("{}: {}", r.line, r.error)).collect()
}

pub(super) fn bytes(text: impl Into<Vec<u8>>) -> Box<dyn std::io::BufRead + Send> {
    Box::new(Cursor::new(text.into()))
}

#[test]
fn batches_end_by_rows_and_by_bytes_and_number_every_row() {
    let mut text = String::from("id,ts,n,x,ok,raw\n");
    for i in 0..(BATCH_ROWS + 10) {
        // Every thousandth row is bad: it takes a number and a place all the same.
        let n = if i % 1000 == 7 { "bad".to_owned() } else { i.to_string() };
        text.push_str(&format!("e{i},{i},{n},,,\n"));
    }
    let mut reader =
        super::csv::CsvReader::new("f.csv".into(), bytes(text), &stream(), BATCH_ROWS).unwrap();
    let first = reader.next_batch().unwrap().unwrap();
    assert_eq!((first.first, first.next), (0, BATCH_ROWS));
    assert_eq!(first.records.num_rows() + first.rejected.len(), BATCH_ROWS as usize);
    assert_eq!(first.rejected[1].sequence, 1007);
    assert_eq!(first.rejected[1].line, 1009);
    assert_eq!(first.rejected[1].id.as_deref(), Some("e1007"));
    assert_eq!((first.sequences[7], first.lines[7]), (8, 10));
    let second = reader.next_batch().unwrap().unwrap();
    assert_eq!((second.first, second.next), (BATCH_ROWS, BATCH_ROWS + 10));
    assert!(reader.next_batch().unwrap().is_none());

    let wide = "y".repeat(40_000);
    let text = format!("id,ts,n,x,ok,raw\n{}", format!("{wide},1,1,,,\n").repeat(40));
    let mut reader =
        super::csv::CsvReader::new("f.csv".into(), bytes(text), &stream(), BATCH_ROWS).unwrap();
    let first = reader.next_batch().unwrap().unwrap();
    assert!(first.records.num_rows() < 40, "{}", first.records.num_rows());
}

#[test]
fn every_batch_has_the_schema_of_the_stream() {
    let text = "id,ts,n,x,ok,raw\na,1,2,3,true,AA==\nb,bad,,,,\nc,1,2,3,true,AA==\n";
    let mut reader = super::csv::CsvReader::new("f.csv".into(), bytes(text), &stream(), 1).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        assert_eq!(batch.records.schema(), arrow_schema(&stream()));
        rows.push((batch.first, batch.next, batch.records.num_rows()));
    }
    assert_eq!(rows, [(0, 1, 1), (1, 2, 0), (2, 3, 1)]);
}
