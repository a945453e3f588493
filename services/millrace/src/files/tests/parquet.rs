use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder,
    Int32Builder, Int64Builder, StringBuilder, StringDictionaryBuilder,
    TimestampMillisecondBuilder, TimestampNanosecondBuilder, UInt64Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};

use super::*;

macro_rules! column {
    ($builder:expr, $($value:expr),* $(,)?) => {{
        let mut builder = $builder;
        $(builder.append_option($value);)*
        Arc::new(builder.finish()) as ArrayRef
    }};
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties))
            .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn open(path: &Path) -> Result<RowReader, ReadError> {
    let input = Input::File(path.to_owned());
    RowReader::open(&input, Format::Parquet, &stream(), BATCH_ROWS, &Progress::default())
}

fn read(columns: Vec<(&str, ArrayRef)>) -> RowBatch {
    let file = tempfile::NamedTempFile::new().unwrap();
    write(file.path(), columns);
    let mut reader = open(file.path()).unwrap();
    let batch = reader.next_batch().unwrap().unwrap();
    assert!(reader.next_batch().unwrap().is_none());
    batch
}

#[test]
fn columns_of_fitting_types_become_values() {
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    dictionary.append_value("a");
    dictionary.append_value("a");
    dictionary.append_value("b");
    let batch = read(vec![
        ("unused", column!(Int32Builder::new(), Some(1), Some(2), Some(3))),
        ("raw", column!(BinaryBuilder::new(), Some(b"\x01"), None::<&[u8]>, Some(b""))),
        ("ok", column!(BooleanBuilder::new(), Some(true), None, Some(false))),
        ("x", column!(Float32Builder::new(), Some(0.5f32), None, Some(-0.0))),
        ("n", column!(Int32Builder::new(), Some(-5), None, Some(7))),
        // Without a zone: UTC. Finer digits are cut off towards the past.
        ("ts", column!(TimestampNanosecondBuilder::new(), Some(1_999), None, Some(-1))),
        ("id", Arc::new(dictionary.finish())),
    ]);
    assert_eq!(
        rows(&batch.records),
        ["a 1us -5 0.5 true [1]", "a NULL NULL NULL NULL NULL", "b -1us 7 0.0 false []"]
    );
    assert_eq!(batch.lines, [1, 2, 3]);
    assert_eq!(batch.records.schema(), arrow_schema(&stream()));
}

#[test]
fn rows_that_do_not_fit_name_row_field_and_rule() {
    let mut fixed = FixedSizeBinaryBuilder::new(2);
    for _ in 0..4 {
        fixed.append_value(b"ab").unwrap();
    }
    let batch = read(vec![
        ("id", column!(StringBuilder::new(), Some("a"), Some("b"), Some("c"), Some("d"))),
        (
            "ts",
            column!(
                StringBuilder::new(),
                Some("1970-01-01T00:00:00Z"),
                Some("x"),
                Some("1970-01-01T00:00:00Z"),
                Some("1970-01-01T00:00:00Z")
            ),
        ),
        ("n", column!(UInt64Builder::new(), Some(1), Some(2), Some(u64::MAX), Some(4))),
        ("x", column!(Float64Builder::new(), Some(1.0), Some(1.0), Some(1.0), Some(f64::NAN))),
        ("ok", column!(BooleanBuilder::new(), None, None, None, None)),
        ("raw", Arc::new(fixed.finish())),
    ]);
    assert_eq!(rows(&batch.records), ["a 0us 1 1.0 NULL [97, 98]"]);
    assert_eq!(
        rejections(&batch),
        [
            "2: field ts: \"x\" is not a timestamp: RFC 3339 with an offset or Z, such as \
             2026-03-01T12:00:00Z, or an integer count of milliseconds",
            "3: field n: \"18446744073709551615\" is outside int64: -9223372036854775808 to \
             9223372036854775807",
            "4: field x: \"NaN\" is not finite: NaN and infinities are not allowed; leave it empty \
             for NULL",
        ]
    );
    assert_eq!(batch.rejected[2].id.as_deref(), Some("d"));
}

#[test]
fn integers_count_the_unit_of_a_timestamp_field() {
    let none = || column!(StringBuilder::new(), None::<&str>, None::<&str>);
    let columns = |ts| {
        vec![
            ("id", none()),
            ("ts", ts),
            ("n", column!(Int64Builder::new(), Some(1), Some(1))),
            ("x", column!(Float64Builder::new(), None, None)),
            ("ok", column!(BooleanBuilder::new(), None, None)),
            ("raw", column!(BinaryBuilder::new(), None::<&[u8]>, None::<&[u8]>)),
        ]
    };
    let batch = read(columns(column!(Int64Builder::new(), Some(3), Some(i64::MAX))));
    assert_eq!(rows(&batch.records), ["NULL 3000us 1 NULL NULL NULL"]);
    assert!(rejections(&batch)[0].contains("milliseconds is outside the range of timestamps"));
    let millis = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let batch = read(columns(column!(millis, Some(3), Some(-4))));
    assert_eq!(
        rows(&batch.records),
        ["NULL 3000us 1 NULL NULL NULL", "NULL -4000us 1 NULL NULL NULL"]
    );
}

#[test]
fn files_that_do_not_fit_are_refused_before_any_row() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().display().to_string();
    let shown = |error: ReadError| error.to_string().replace(&name, "f.parquet");

    std::fs::write(file.path(), b"id,ts\n").unwrap();
    assert_eq!(
        shown(open(file.path()).unwrap_err()),
        "f.parquet cannot be read as parquet after row 0"
    );
    write(file.path(), vec![("id", column!(StringBuilder::new(), Some("a")))]);
    assert_eq!(
        shown(open(file.path()).unwrap_err()),
        "f.parquet lacks 5 columns of stream clicks: ts, n, x, ok, raw; it has id"
    );
    write(
        file.path(),
        vec![
            ("id", column!(StringBuilder::new(), Some("a"))),
            ("ts", column!(Int64Builder::new(), Some(1))),
            ("n", column!(Int64Builder::new(), Some(1))),
            ("x", column!(Int64Builder::new(), Some(1))),
            ("ok", column!(BooleanBuilder::new(), Some(true))),
            ("raw", column!(BinaryBuilder::new(), Some(b"a"))),
        ],
    );
    assert_eq!(
        shown(open(file.path()).unwrap_err()),
        "f.parquet: column x is Int64, and field x of stream clicks is double; nothing is coerced \
         from one type to another: rewrite the column as double"
    );
    let stdin = RowReader::open(
        &Input::Stdin,
        Format::Parquet,
        &stream(),
        BATCH_ROWS,
        &Progress::default(),
    );
    assert!(matches!(stdin.unwrap_err(), ReadError::ParquetStdin));
}

/// A file of two rows of which only the ids are there.
fn ids_alone() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let ids = column!(StringBuilder::new(), Some("a"), Some("b"));
    let nothing = || column!(Int32Builder::new(), None::<i32>, None::<i32>);
    let columns = vec![
        ("id", ids),
        ("ts", nothing()),
        ("n", nothing()),
        ("x", column!(Float64Builder::new(), None::<f64>, None::<f64>)),
        ("ok", column!(BooleanBuilder::new(), None::<bool>, None::<bool>)),
        ("raw", column!(BinaryBuilder::new(), None::<&[u8]>, None::<&[u8]>)),
    ];
    write(file.path(), columns);
    file
}

/// Found by fuzzing: a negative place of a column chunk made the reader panic.
#[test]
fn a_footer_with_a_changed_byte_is_read_or_refused() {
    let file = ids_alone();
    let whole = std::fs::read(file.path()).unwrap();
    let end = whole.len() - 8;
    let length = u32::from_le_bytes(whole[end..end + 4].try_into().unwrap()) as usize;
    let (mut taken, mut refused) = (0, 0);
    for place in end - length..end {
        for mask in [0x01, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[place] ^= mask;
            std::fs::write(file.path(), changed).unwrap();
            match open(file.path()).and_then(|mut reader| reader.next_batch()) {
                Ok(_) => taken += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

/// Found by fuzzing: a page header that says that two thousand million numbers follow kept the reader busy
/// at the end of the file for as long.
#[test]
fn a_header_that_says_too_much_is_refused_at_the_end_of_the_file() {
    let file = ids_alone();
    let mut bytes = std::fs::read(file.path()).unwrap();
    // In the compact protocol of Thrift: field 15, a list of i32::MAX doubles. It stands where the first
    // page begins, behind the magic bytes.
    bytes[4..11].copy_from_slice(&[0xf9, 0xf7, 0xff, 0xff, 0xff, 0xff, 0x07]);
    std::fs::write(file.path(), bytes).unwrap();
    let read = open(file.path()).and_then(|mut reader| reader.next_batch());
    let error = read.map(drop).unwrap_err();
    let ReadError::Parquet { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("the file ends before that"), "{source}");
}

/// The error of a file of which some bytes are others, sought from the start.
fn error_with(file: &tempfile::NamedTempFile, was: &[u8], is: &[u8]) -> String {
    let mut bytes = std::fs::read(file.path()).unwrap();
    let place = bytes.windows(was.len()).position(|window| window == was).unwrap();
    bytes[place..place + is.len()].copy_from_slice(is);
    std::fs::write(file.path(), bytes).unwrap();
    let read = open(file.path()).and_then(|mut reader| reader.next_batch());
    let error = read.map(drop).unwrap_err();
    let ReadError::Parquet { source, .. } = error else { panic!("{error}") };
    source.to_string()
}

/// Found by fuzzing: a dictionary that says that it has a thousand million values took eight gigabytes.
#[test]
fn a_dictionary_of_more_values_than_bytes_is_refused() {
    let file = ids_alone();
    // A page of 10 bytes (two texts of a byte with their lengths), a dictionary of 2 values, plain. The
    // number takes the place of what follows it, too: `is_sorted`, and the first of the bytes.
    let was = [0x15, 0x04, 0x15, 0x14, 0x15, 0x14, 0x4c, 0x15, 0x04, 0x15, 0x00, 0x12, 0x00, 0x00];
    let is = [
        0x15, 0x04, 0x15, 0x14, 0x15, 0x14, 0x4c, 0x15, 0x80, 0x80, 0x80, 0x80, 0x08, 0x15, 0x00,
        0x00, 0x00,
    ];
    let error = error_with(&file, &was, &is);
    assert!(error.contains("a dictionary cannot have 1073741824 values in 10 bytes"), "{error}");
}

/// A page that says that it is a gigabyte once inflated is not made room for.
#[test]
fn a_page_that_inflates_to_too_much_is_refused() {
    let file = ids_alone();
    let was = [0x15, 0x04, 0x15, 0x14, 0x15, 0x14, 0x4c];
    let error = error_with(&file, &was, &[0x15, 0x04, 0x15, 0x80, 0x80, 0x80, 0x80, 0x08]);
    let told = "a page of 1073741824 bytes is too large: at most 536870912 are read at a time";
    assert!(error.contains(told), "{error}");
}
