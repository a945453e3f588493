//! Rows, positions and ids.

use std::borrow::Cow;
use std::fmt::Write as _;

use millrace_types::{Op, Position, Row, RowView, Value};

use super::error::ConvertError;
use crate::v1;

impl From<RowView<'_>> for v1::Row {
    fn from(from: RowView<'_>) -> Self {
        Self { values: from.values().map(Into::into).collect() }
    }
}

/// # Errors
/// As for a value, with its index.
impl TryFrom<&v1::Row> for Row {
    type Error = ConvertError;

    fn try_from(from: &v1::Row) -> Result<Self, ConvertError> {
        let read = |(i, value): (usize, &v1::Value)| {
            Value::try_from(value).map_err(|e| e.within(format_args!("values[{i}]")))
        };
        let values: Vec<Value> =
            from.values.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(Self::from_values(&values))
    }
}

impl From<Op> for v1::FactOp {
    fn from(from: Op) -> Self {
        match from {
            Op::Assert => Self::Assert,
            Op::End => Self::End,
            Op::Retract => Self::Retract,
        }
    }
}

impl From<Position> for v1::LogPosition {
    fn from(from: Position) -> Self {
        Self { epoch: from.epoch, sequence: from.sequence }
    }
}

impl From<v1::LogPosition> for Position {
    fn from(from: v1::LogPosition) -> Self {
        Self { epoch: from.epoch, sequence: from.sequence }
    }
}

/// The id of a fact as messages carry it: its text, or `\x` and hexadecimal digits when it is not
/// UTF-8.
#[must_use]
pub fn id_text(id: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(id) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(2 + id.len() * 2);
            text.push_str("\\x");
            for byte in id {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::value::tests::any_value;

    proptest! {
        #[test]
        fn rows_come_back(values in prop::collection::vec(any_value(), 0..5)) {
            let row = Row::from_values(&values);
            prop_assert_eq!(Row::try_from(&v1::Row::from(row.view())), Ok(row));
        }
    }

    #[test]
    fn ids_stay_readable() {
        assert_eq!(id_text("é-1".as_bytes()), "é-1");
        assert_eq!(id_text(&[0xff, 0x01]), "\\xff01");
    }
}
