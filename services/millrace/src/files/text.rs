//! The rules by which the text of a CSV cell becomes a value (also used for text inside JSON).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use millrace_catalog::{Field, TimeUnit};
use millrace_types::value::canonical_double;
use millrace_types::{FieldType, Micros, ValueRef};

use super::error::CellError;

/// Base64 as values are written; padding may be left out when reading.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A value that borrows its text where it can.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    Borrowed(ValueRef<'a>),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell<'_> {
    pub(crate) const NULL: Self = Cell::Borrowed(ValueRef::Null);

    pub(crate) fn as_value(&self) -> ValueRef<'_> {
        match self {
            Self::Borrowed(value) => *value,
            Self::Text(text) => ValueRef::String(text),
            Self::Bytes(bytes) => ValueRef::Bytes(bytes),
        }
    }
}

/// Reads the text of a CSV cell as a value of the field's type. An empty cell is NULL.
///
/// # Errors
/// [`CellError`] when it is none.
pub(crate) fn cell<'a>(field: &Field, bytes: &'a [u8]) -> Result<Cell<'a>, CellError> {
    if bytes.is_empty() {
        return Ok(Cell::NULL);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| CellError::NotUtf8(e.valid_up_to() + 1))?;
    Ok(Cell::Borrowed(match field.ty {
        FieldType::Bool => ValueRef::Bool(boolean(text)?),
        FieldType::Int64 => ValueRef::Int64(int64(text)?),
        FieldType::Double => ValueRef::Double(double(text)?),
        FieldType::String => ValueRef::String(text),
        FieldType::Bytes => return base64(text).map(Cell::Bytes),
        FieldType::Timestamp => ValueRef::Timestamp(timestamp(text, field.unit)?),
    }))
}

fn boolean(text: &str) -> Result<bool, CellError> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(CellError::NotBool(text.to_owned())),
    }
}

/// Reads an integer: digits with an optional sign.
pub(crate) fn int64(text: &str) -> Result<i64, CellError> {
    text.parse().map_err(|_| match is_integer(text) {
        true => CellError::Int64Range(text.to_owned()),
        false => CellError::NotInt64(text.to_owned()),
    })
}

/// Reads decimal text as the nearest double.
pub(crate) fn double(text: &str) -> Result<f64, CellError> {
    // `f64::from_str` also takes `nan`, `inf` and `infinity`, which are no decimal text.
    let decimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    match text.parse::<f64>() {
        Ok(value) if decimal => {
            canonical_double(value).ok_or_else(|| CellError::DoubleRange(text.to_owned()))
        }
        Ok(_) => Err(CellError::NotFinite(text.to_owned())),
        Err(_) => Err(CellError::NotDouble(text.to_owned())),
    }
}

/// Reads base64.
pub(crate) fn base64(text: &str) -> Result<Vec<u8>, CellError> {
    BASE64.decode(text).map_err(|_| CellError::NotBase64(text.to_owned()))
}

/// Reads an integer count of the unit, or RFC 3339.
pub(crate) fn timestamp(text: &str, unit: TimeUnit) -> Result<Micros, CellError> {
    if is_integer(text) {
        return text.parse().ok().and_then(|count| unit.instant(count)).ok_or_else(|| {
            CellError::TimestampRange { text: text.to_owned(), unit: unit_name(unit) }
        });
    }
    instant(text, unit)
}

/// Reads RFC 3339 alone.
pub(crate) fn instant(text: &str, unit: TimeUnit) -> Result<Micros, CellError> {
    Micros::parse_rfc3339(text)
        .map_err(|_| CellError::NotTimestamp { text: text.to_owned(), unit: unit_name(unit) })
}

/// The instant that `count` units make.
pub(crate) fn count(count: i64, unit: TimeUnit) -> Result<Micros, CellError> {
    unit.instant(count)
        .ok_or_else(|| CellError::TimestampRange { text: count.to_string(), unit: unit_name(unit) })
}

pub(crate) fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Seconds => "seconds",
        TimeUnit::Millis => "milliseconds",
        TimeUnit::Micros => "microseconds",
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ty: FieldType, text: &str) -> Result<String, String> {
        let field = Field { name: "f".into(), ty, unit: TimeUnit::Millis };
        cell(&field, text.as_bytes())
            .map(|c| format!("{:?}", c.as_value()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn text_becomes_values() {
        let ok = |ty, text: &str, value: ValueRef<'_>| {
            assert_eq!(read(ty, text), Ok(format!("{value:?}")), "{text}");
        };
        ok(FieldType::Bool, "True", ValueRef::Bool(true));
        ok(FieldType::Int64, "-9223372036854775808", ValueRef::Int64(i64::MIN));
        ok(FieldType::Int64, "+7", ValueRef::Int64(7));
        ok(FieldType::Double, "0.1", ValueRef::Double(0.1));
        ok(FieldType::Double, "-0", ValueRef::Double(0.0));
        ok(FieldType::Double, "1e-400", ValueRef::Double(0.0));
        ok(FieldType::Double, "9007199254740993", ValueRef::Double(9_007_199_254_740_992.0));
        ok(FieldType::Double, ".5", ValueRef::Double(0.5));
        ok(FieldType::String, " a ", ValueRef::String(" a "));
        ok(FieldType::Bytes, "AP8=", ValueRef::Bytes(&[0, 255]));
        ok(FieldType::Bytes, "AP8", ValueRef::Bytes(&[0, 255]));
        ok(FieldType::Timestamp, "-1", ValueRef::Timestamp(Micros(-1_000)));
        ok(FieldType::Timestamp, "1970-01-01T01:00:00+01:00", ValueRef::Timestamp(Micros(0)));
        ok(FieldType::Int64, "", ValueRef::Null);
        ok(FieldType::String, "", ValueRef::Null);
    }

    #[test]
    fn what_is_no_value_names_the_rule() {
        let bad = |ty, text: &str, message: &str| {
            assert_eq!(read(ty, text), Err(message.to_owned()), "{text}");
        };
        bad(FieldType::Bool, "1", "\"1\" is not a bool: true or false");
        bad(
            FieldType::Int64,
            "17850.0",
            "\"17850.0\" is not an int64: digits with an optional sign, no fraction",
        );
        bad(
            FieldType::Int64,
            " 5",
            "\" 5\" is not an int64: digits with an optional sign, without spaces around",
        );
        bad(
            FieldType::Int64,
            "9223372036854775808",
            "\"9223372036854775808\" is outside int64: -9223372036854775808 to \
             9223372036854775807",
        );
        bad(FieldType::Double, "1,5", "\"1,5\" is not a double: decimal text such as 12.5 or -3e7");
        for text in ["NaN", "-inf", "Infinity"] {
            bad(
                FieldType::Double,
                text,
                &format!(
                    "{text:?} is not finite: NaN and infinities are not allowed; leave it empty \
                     for NULL"
                ),
            );
        }
        bad(FieldType::Double, "1e999", "\"1e999\" is beyond the range of a double");
        bad(FieldType::Bytes, "a*", "\"a*\" is not base64 with the standard alphabet");
        bad(
            FieldType::Timestamp,
            "2026-03-01 12:00:00",
            "\"2026-03-01 12:00:00\" is not a timestamp: RFC 3339 with an offset or Z, such as \
             2026-03-01T12:00:00Z, or an integer count of milliseconds",
        );
        bad(
            FieldType::Timestamp,
            "9223372036854775807",
            "\"9223372036854775807\" milliseconds is outside the range of timestamps",
        );
    }

    #[test]
    fn text_that_is_not_utf8_or_long_is_quoted_with_care() {
        let field = Field { name: "f".into(), ty: FieldType::String, unit: TimeUnit::Micros };
        assert_eq!(cell(&field, b"ab\xff"), Err(CellError::NotUtf8(3)));
        let long = "é".repeat(100);
        let message = read(FieldType::Bool, &long).unwrap_err();
        assert_eq!(message, format!("\"{}\"… is not a bool: true or false", "é".repeat(60)));
    }
}
