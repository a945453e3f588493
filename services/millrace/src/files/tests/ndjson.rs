use super::*;
use crate::files::ndjson::NdjsonReader;

fn read(text: impl Into<Vec<u8>>) -> RowBatch {
    let mut reader = NdjsonReader::new("f.ndjson".into(), bytes(text), &stream(), BATCH_ROWS);
    reader.next_batch().unwrap().unwrap()
}

fn rejection(line: &str) -> String {
    rejections(&read(line)).remove(0)
}

#[test]
fn values_become_values_and_missing_ones_null() {
    let batch = read(
        "{\"id\":\"a\\u00e9\\n\",\"ts\":\"1970-01-01T00:00:01.5Z\",\"n\":-9223372036854775808,\
         \"x\":3,\"ok\":false,\"raw\":\"AQI=\",\"other\":[{\"n\":1}]}\r\n\n  \n\
         {\"ts\":-1,\"n\":-0,\"x\":0.1,\"id\":null}\n{}",
    );
    assert_eq!(
        rows(&batch.records),
        [
            "aé\n 1500000us -9223372036854775808 3.0 false [1, 2]",
            "NULL -1000us 0 0.1 NULL NULL",
            "NULL NULL NULL NULL NULL NULL",
        ]
    );
    assert_eq!(batch.lines, [1, 4, 5]);
    assert_eq!(batch.sequences, [0, 1, 2]);
}

#[test]
fn doubles_are_the_nearest_ones() {
    for text in ["9007199254740993", "1e-400", "123456789012345678901234567890", "-0.0", "5e-324"] {
        let batch = read(format!("{{\"x\":{text}}}"));
        let wanted: f64 = text.parse::<f64>().unwrap() + 0.0;
        let column = batch.records.column(3).as_primitive::<Float64Type>();
        assert_eq!(column.value(0).to_bits(), wanted.to_bits(), "{text}");
    }
}

#[test]
fn nothing_is_coerced() {
    let kind = |value: &str, field: &str, found: &str, wanted: &str| {
        assert_eq!(
            rejection(&format!("{{\"{field}\":{value}}}")),
            format!(
                "1: field {field}: found {found} where {wanted} is wanted; nothing is coerced from \
                 one type to another"
            )
        );
    };
    kind("1.0", "n", "the number 1.0", "an integer");
    kind("\"1\"", "n", "the string \"1\"", "an integer");
    kind("\"1.5\"", "x", "the string \"1.5\"", "a number");
    kind("true", "x", "the bool true", "a number");
    kind("5", "id", "the integer 5", "a string");
    kind("[1]", "id", "an array", "a string");
    kind("1", "ok", "the integer 1", "true or false");
    kind("\"true\"", "ok", "the string \"true\"", "true or false");
    kind("{}", "raw", "an object", "a string of base64");
    kind("1.5", "ts", "the number 1.5", "an RFC 3339 string or an integer");
}

#[test]
fn values_out_of_range_and_bad_text_name_the_rule() {
    let starts = |line: &str, message: &str| {
        let found = rejection(line);
        assert!(found.starts_with(message), "{found}");
    };
    starts("{\"n\":9223372036854775808}", "1: field n: \"9223372036854775808\" is outside int64");
    starts("{\"x\":1e999}", "1: field x: \"1e999\" is beyond the range of a double");
    starts("{\"raw\":\"a*\"}", "1: field raw: \"a*\" is not base64");
    starts("{\"ts\":\"123\"}", "1: field ts: \"123\" is not a timestamp: RFC 3339");
    starts("{\"ts\":9223372036854775807}", "1: field ts: \"9223372036854775807\" milliseconds is");
    starts("{\"id\":\"\\ud800\"}", "1: field id: is not a valid JSON string: ");
}

#[test]
fn lines_that_are_no_object_say_so_and_the_rest_goes_on() {
    let batch = read(
        [
            &b"[1,2]\n"[..],
            b"{\"n\":1,\"n\":2}\n",
            b"{\"n\":1} {}\n",
            b"{\"x\":NaN}\n",
            b"{\"id\":\"\xff\"}\n",
            b"{\"n\":\n",
            b"{\"id\":\"a\",\"n\":1.5}\n",
            b"{\"n\":7}\n",
        ]
        .concat(),
    );
    assert_eq!((&batch.sequences, &batch.lines), (&vec![7], &vec![8]));
    assert_eq!(
        rejections(&batch),
        [
            "1: invalid type: sequence, expected one JSON object on each line",
            "2: field n stands twice in the object",
            "3: is not a JSON object: trailing characters at column 9",
            "4: is not a JSON object: expected value at column 6; NaN and infinities are not JSON \
             and not allowed: write null",
            "5: is not valid UTF-8 (byte 8)",
            "6: is not a JSON object: EOF while parsing a value at column 5",
            "7: field n: found the number 1.5 where an integer is wanted; nothing is coerced from \
             one type to another",
        ]
    );
    assert_eq!(batch.rejected[6].id.as_deref(), Some("a"));
}

#[test]
fn a_line_beyond_the_limit_is_too_large_and_read_over() {
    let long = "y".repeat(RECORD_BYTES_MAX);
    let batch = read(format!("{{\"other\":\"{long}\"}}\n{{\"n\":1}}\n"));
    assert_eq!(batch.lines, [2]);
    assert_eq!(rejections(&batch), ["1: the line takes more than 8388608 bytes"]);
}
