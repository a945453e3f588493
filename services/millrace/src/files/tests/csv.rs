use super::*;
use crate::files::csv::CsvReader;

const HEADER: &str = "id,ts,n,x,ok,raw";

fn read(text: impl Into<Vec<u8>>) -> RowBatch {
    let mut reader = CsvReader::new("f.csv".into(), bytes(text), &stream(), BATCH_ROWS).unwrap();
    reader.next_batch().unwrap().unwrap()
}

fn open_error(text: &str) -> String {
    CsvReader::new("f.csv".into(), bytes(text), &stream(), BATCH_ROWS)
        .err()
        .expect("refused")
        .to_string()
}

#[test]
fn cells_become_values_and_empty_ones_null() {
    let batch = read(format!(
        "{HEADER}\na,2026-03-01T12:00:00+01:00,-5,2.50,TRUE,AQI=\n\"b,\"\"c\"\"\",1500,,,,\n"
    ));
    assert_eq!(
        rows(&batch.records),
        ["a 1772362800000000us -5 2.5 true [1, 2]", "b,\"c\" 1500000us NULL NULL NULL NULL"]
    );
    assert_eq!(batch.lines, [2, 3]);
}

#[test]
fn columns_are_found_by_name_and_others_ignored() {
    let batch = read("extra,raw,ok,x,n,ts,id\n\u{fe}zzz,,false,1,7,0,a\n");
    assert_eq!(rows(&batch.records), ["a 0us 7 1.0 false NULL"]);
}

#[test]
fn lines_are_physical_lines() {
    let batch = read(format!(
        "\n{HEADER}\r\n\"two\nlines\",0,1,,,\r\n\r\n\nb,0,2,,,\n\"three\r\n\nlines\",0,x,,,\nlast,0,y,,,"
    ));
    assert_eq!(batch.lines, [3, 7]);
    assert_eq!(
        rejections(&batch),
        [
            "8: field n: \"x\" is not an int64: digits with an optional sign",
            "11: field n: \"y\" is not an int64: digits with an optional sign",
        ]
    );
    assert_eq!(batch.rejected[1].id.as_deref(), Some("last"));
    assert_eq!((batch.first, batch.next), (0, 4));
}

#[test]
fn a_row_that_does_not_parse_names_field_and_rule_and_the_rest_goes_on() {
    let mut text = format!("{HEADER}\n").into_bytes();
    text.extend_from_slice(b"a,0,1,NaN,,\nb,0,1,,,!\nc,0,1\nd\xff,0,1,,,\ne,noon,1,,,\nf,0,1,,,\n");
    let batch = read(text);
    assert_eq!(rows(&batch.records), ["f 0us 1 NULL NULL NULL"]);
    assert_eq!((&batch.sequences, &batch.lines), (&vec![5], &vec![7]));
    assert_eq!(
        rejections(&batch),
        [
            "2: field x: \"NaN\" is not finite: NaN and infinities are not allowed; leave it empty \
             for NULL",
            "3: field raw: \"!\" is not base64 with the standard alphabet",
            "4: it has 3 cells where the header has 6",
            "5: field id: is not valid UTF-8 (byte 2 of the value)",
            "6: field ts: \"noon\" is not a timestamp: RFC 3339 with an offset or Z, such as \
             2026-03-01T12:00:00Z, or an integer count of milliseconds",
        ]
    );
    assert!(batch.rejected.iter().all(|r| r.reason().name() == "BAD_ROW"));
}

#[test]
fn a_quote_left_open_is_a_row_of_its_own_error() {
    let batch = read(format!("{HEADER}\na,0,1,,,\n\"b,0,1,,,\nc,0,1,,,\n"));
    assert_eq!(batch.records.num_rows(), 1);
    assert_eq!(rejections(&batch), ["3: a quote is not closed before the end of the file"]);
}

#[test]
fn records_and_rows_beyond_a_limit_are_too_large() {
    let wide = "y".repeat(RECORD_BYTES_MAX + 1);
    let cells = ",".repeat(20_000);
    let fact = "z".repeat(50_000);
    let batch = read(format!("{HEADER}\n{wide},0,1,,,\n{cells}\n{fact},0,1,,,\nlast,0,1,,,\n"));
    assert_eq!(rows(&batch.records), ["last 0us 1 NULL NULL NULL"]);
    assert_eq!(
        rejections(&batch),
        [
            "2: the record takes more than 8388608 bytes or 16384 cells; is a quote left open?",
            "3: the record takes more than 8388608 bytes or 16384 cells; is a quote left open?",
            "4: the row's values take 50019 bytes; a fact may have at most 49152",
        ]
    );
    assert!(batch.rejected.iter().all(|r| r.reason().name() == "TOO_LARGE"));
}

#[test]
fn a_header_that_does_not_fit_is_an_error_before_any_row() {
    assert_eq!(
        open_error("ID,time,n,x,ok\na\n"),
        "f.csv lacks 3 columns of stream clicks: id (did you mean ID?), ts, raw; it has ID, time, \
         n, x, ok"
    );
    assert_eq!(
        open_error("id,ts,n,x,ok,raw,n\n"),
        "f.csv has two columns called \"n\"; rename one of them"
    );
    assert_eq!(
        open_error("\n\n"),
        "f.csv is empty: a CSV file starts with a header row that names its columns"
    );
}

#[test]
fn a_damaged_gzip_file_says_how_far_it_was_read() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writeln!(encoder, "{HEADER}").unwrap();
    for i in 0..50_000 {
        writeln!(encoder, "e{i},{i},1,0.{i},,").unwrap();
    }
    let gzip = encoder.finish().unwrap();
    let mut file = tempfile::NamedTempFile::with_suffix(".csv.gz").unwrap();
    file.write_all(&gzip[..gzip.len() / 2]).unwrap();
    let input = Input::File(file.path().to_owned());
    let progress = Progress::default();
    let mut reader =
        RowReader::open(&input, Format::Csv, &stream(), BATCH_ROWS, &progress).unwrap();
    let error = loop {
        match reader.next_batch() {
            Ok(batch) => assert!(batch.is_some(), "the end of the file cannot be reached"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("cannot read on after line "), "{error}");
    assert!(progress.bytes() > 0);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let input = Input::from_argument("no/such.csv");
    let error = RowReader::open(&input, Format::Csv, &stream(), BATCH_ROWS, &Progress::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot open no/such.csv");
    let error = RowReader::open(
        &Input::from_argument("."),
        Format::Csv,
        &stream(),
        BATCH_ROWS,
        &Progress::default(),
    );
    assert_eq!(error.unwrap_err().to_string(), "cannot open .");
}
