//! Rows of parts, wherever they stand, as Arrow columns.

use std::sync::Arc;

use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;
use millrace_types::FieldType;

use super::columns::{Part, Stands};

/// Rows that are fetched before their values are spread over the columns: they stay in the core's cache.
const FETCHED_ROWS: usize = 128;

/// The columns of these rows, each given by its part and its place there. All parts are of one view.
///
/// # Errors
/// [`ArrowError`] where columns of lists do not fit each other, which those of one view do.
pub(super) fn columns(parts: &[Part], places: &[(u32, u32)]) -> Result<Vec<ArrayRef>, ArrowError> {
    let Some(layout) = parts.first().map(|part| &part.layout) else { return Ok(Vec::new()) };
    let mut columns: Vec<Option<Column>> = layout
        .features
        .iter()
        .map(|feature| match feature {
            Stands::Word(_, ty) => Some(Column::new(*ty, places.len())),
            Stands::List(_) => None,
        })
        .collect();
    let mut rows: Vec<Fetched<'_>> = Vec::with_capacity(FETCHED_ROWS);
    let mut nulls = vec![0u64; layout.null_words];
    for places in places.chunks(FETCHED_ROWS) {
        rows.clear();
        rows.extend(places.iter().map(|(part, place)| {
            let part = &parts[*part as usize];
            let start = *place as usize * layout.width;
            Fetched { part, words: &part.words[start..start + layout.width] }
        }));
        // Rows stand anywhere: this brings the beginnings of all of them here at once.
        for (word, all) in nulls.iter_mut().enumerate() {
            *all = rows.iter().fold(0, |all, row| all | row.words[word]);
        }
        for (feature, column) in layout.features.iter().zip(&mut columns) {
            if let (Stands::Word(place, _), Some(column)) = (feature, column) {
                let any_null = nulls[place / 64] >> (place % 64) & 1 != 0;
                column.extend(&rows, *place, layout.null_words, any_null);
            }
        }
    }
    let all = layout.features.iter().zip(columns);
    all.map(|(feature, column)| match (feature, column) {
        (_, Some(column)) => column.finish(),
        (Stands::List(list), None) => lists(parts, places, *list),
        (Stands::Word(..), None) => Err(ArrowError::ComputeError("a column was left out".into())),
    })
    .collect()
}

/// A column of lists.
fn lists(parts: &[Part], places: &[(u32, u32)], list: usize) -> Result<ArrayRef, ArrowError> {
    let places: Vec<(usize, usize)> =
        places.iter().map(|(part, place)| (*part as usize, *place as usize)).collect();
    let arrays: Vec<&dyn Array> = parts.iter().map(|part| part.lists[list].as_ref()).collect();
    interleave(&arrays, &places)
}

/// A row where it stands.
#[derive(Debug, Clone, Copy)]
struct Fetched<'p> {
    part: &'p Part,
    words: &'p [u64],
}

/// A column of scalars that grows.
#[derive(Debug)]
struct Column {
    nulls: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Instant(Vec<i64>),
    Utf8 { ends: Vec<i32>, text: String },
    Binary { ends: Vec<i32>, bytes: Vec<u8> },
}

impl Column {
    fn new(ty: FieldType, rows: usize) -> Self {
        let ends = || {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        };
        let values = match ty {
            FieldType::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            FieldType::Int64 => Values::Int64(Vec::with_capacity(rows)),
            FieldType::Double => Values::Double(Vec::with_capacity(rows)),
            FieldType::Timestamp => Values::Instant(Vec::with_capacity(rows)),
            FieldType::String => Values::Utf8 { ends: ends(), text: String::new() },
            FieldType::Bytes => Values::Binary { ends: ends(), bytes: Vec::new() },
        };
        Self { nulls: NullBufferBuilder::new(rows), values }
    }

    /// Appends the words with this number of these rows, whose first words say which are NULL.
    fn extend(&mut self, rows: &[Fetched<'_>], place: usize, null_words: usize, any_null: bool) {
        if any_null {
            let is_null = |row: &Fetched<'_>| row.words[place / 64] >> (place % 64) & 1 != 0;
            rows.iter().for_each(|row| self.nulls.append(!is_null(row)));
        } else {
            self.nulls.append_n_non_nulls(rows.len());
        }
        let word = null_words + place;
        // What is NULL holds zeros, and so no text.
        let words = rows.iter().map(|row| row.words[word]);
        match &mut self.values {
            Values::Bool(to) => words.for_each(|value| to.append(value != 0)),
            Values::Int64(to) | Values::Instant(to) => to.extend(words.map(|value| value as i64)),
            Values::Double(to) => to.extend(words.map(f64::from_bits)),
            Values::Utf8 { ends, text } => {
                for row in rows {
                    text.push_str(row.part.texts.text(row.words[word]));
                    // A batch holds far less than an offset can count.
                    ends.push(text.len() as i32);
                }
            }
            Values::Binary { ends, bytes } => {
                for row in rows {
                    bytes.extend_from_slice(row.part.texts.bytes(row.words[word]));
                    ends.push(bytes.len() as i32);
                }
            }
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let Self { mut nulls, values } = self;
        let nulls = nulls.finish();
        let offsets = |ends: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(match values {
            Values::Bool(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int64(values) => {
                Arc::new(PrimitiveArray::<Int64Type>::try_new(values.into(), nulls)?)
            }
            Values::Double(values) => {
                Arc::new(PrimitiveArray::<Float64Type>::try_new(values.into(), nulls)?)
            }
            Values::Instant(values) => {
                let instants =
                    PrimitiveArray::<TimestampMicrosecondType>::try_new(values.into(), nulls)?;
                Arc::new(instants.with_timezone("UTC"))
            }
            Values::Utf8 { ends, text } => {
                let text = Buffer::from_vec(text.into_bytes());
                Arc::new(StringArray::try_new(offsets(ends), text, nulls)?)
            }
            Values::Binary { ends, bytes } => {
                let bytes = Buffer::from_vec(bytes);
                Arc::new(BinaryArray::try_new(offsets(ends), bytes, nulls)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_schema::{DataType, Field};
    use millrace_kernel::training::{Cell, Sink as _};
    use millrace_types::{Micros, Status, ValueRef};

    use super::super::columns::{ViewRows, value_type};
    use super::*;

    const TYPES: [FieldType; 6] = [
        FieldType::Bool,
        FieldType::Int64,
        FieldType::Double,
        FieldType::String,
        FieldType::Bytes,
        FieldType::Timestamp,
    ];

    /// The value of a feature in a row: NULL in a third of the rows, other rows for each feature.
    fn value<'t>(feature: usize, row: usize, text: &'t str) -> ValueRef<'t> {
        let number = (row * 31 + feature * 7) as i64 - 50;
        let text = &text[..row * 1_301 % text.len()];
        if (row + feature).is_multiple_of(3) {
            return ValueRef::Null;
        }
        match TYPES[feature % TYPES.len()] {
            FieldType::Bool => ValueRef::Bool(number % 2 == 0),
            FieldType::Int64 => ValueRef::Int64(number),
            FieldType::Double => ValueRef::Double(number as f64 / 4.0),
            FieldType::String => ValueRef::String(text),
            FieldType::Bytes => ValueRef::Bytes(text.as_bytes()),
            FieldType::Timestamp => ValueRef::Timestamp(Micros(number)),
        }
    }

    fn found<'c>(column: &'c ArrayRef, ty: FieldType, row: usize) -> ValueRef<'c> {
        if column.is_null(row) {
            return ValueRef::Null;
        }
        match ty {
            FieldType::Bool => ValueRef::Bool(column.as_boolean().value(row)),
            FieldType::Int64 => ValueRef::Int64(column.as_primitive::<Int64Type>().value(row)),
            FieldType::Double => ValueRef::Double(column.as_primitive::<Float64Type>().value(row)),
            FieldType::String => ValueRef::String(column.as_string::<i32>().value(row)),
            FieldType::Bytes => ValueRef::Bytes(column.as_binary::<i32>().value(row)),
            FieldType::Timestamp => {
                let instants = column.as_primitive::<TimestampMicrosecondType>();
                ValueRef::Timestamp(Micros(instants.value(row)))
            }
        }
    }

    /// The columns of so many rows of such features, in another order than they were made in, with the
    /// row that each has, and how many parts they were made in.
    fn assembled(
        types: &[DataType],
        rows: usize,
        text: &str,
    ) -> (Vec<ArrayRef>, Vec<usize>, usize) {
        let mut made = ViewRows::new(types, rows / 2);
        for row in 0..rows {
            for (feature, ty) in types.iter().enumerate() {
                let is_list = matches!(ty, DataType::List(_));
                let list = || (0..row % 4).map(|n| ValueRef::Int64((row + n) as i64)).collect();
                let cell = match is_list {
                    true if row % 5 == 0 => Cell::Scalar(ValueRef::Null),
                    true => Cell::List(list()),
                    false => Cell::Scalar(value(feature, row, text)),
                };
                made.cell(feature, cell, Status::Present);
            }
        }
        let parts = made.finish();
        let stand = parts
            .iter()
            .enumerate()
            .flat_map(|(part, of)| (0..of.rows).map(move |place| (part as u32, place as u32)));
        let places: Vec<(u32, u32)> = stand.collect();
        assert_eq!(places.len(), rows);
        // A step that shares no factor with the number of rows meets each once.
        let order: Vec<usize> = (0..rows).map(|n| n * 1_009 % rows).collect();
        let places: Vec<(u32, u32)> = order.iter().map(|row| places[*row]).collect();
        (columns(&parts, &places).unwrap(), order, parts.len())
    }

    fn check(columns: &[ArrayRef], order: &[usize], text: &str) {
        for (feature, column) in columns.iter().enumerate() {
            assert_eq!(column.len(), order.len());
            for (place, row) in order.iter().enumerate() {
                let found = found(column, TYPES[feature % TYPES.len()], place);
                assert_eq!(found, value(feature, *row, text), "feature {feature}, row {row}");
            }
        }
    }

    #[test]
    fn rows_come_out_as_they_were_made() {
        // More features than a word has bits to say which are NULL.
        let types: Vec<DataType> =
            (0..70).map(|feature| value_type(TYPES[feature % TYPES.len()])).collect();
        let text = "a text";
        let (columns, order, parts) = assembled(&types, 1_000, text);
        assert!(parts > 1, "there were more rows than was said, and so several parts");
        check(&columns, &order, text);
    }

    #[test]
    fn long_texts_end_a_part() {
        let types: Vec<DataType> = TYPES.iter().map(|ty| value_type(*ty)).collect();
        let text = "x".repeat(40_000);
        let (columns, order, parts) = assembled(&types, 500, &text);
        assert!(parts > 2, "{parts}");
        check(&columns, &order, &text);
    }

    #[test]
    fn lists_stand_beside_scalars() {
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        let list = DataType::List(item);
        // Also where there are no scalars at all.
        for types in [vec![DataType::Boolean, list.clone()], vec![list]] {
            let (columns, order, _) = assembled(&types, 300, "text");
            let lists = columns.last().unwrap().as_list::<i32>();
            for (place, row) in order.iter().enumerate() {
                assert_eq!(lists.is_null(place), row % 5 == 0);
                if row % 5 != 0 {
                    let values = lists.value(place);
                    let expected: Vec<i64> = (0..row % 4).map(|n| (row + n) as i64).collect();
                    assert_eq!(values.as_primitive::<Int64Type>().values().as_ref(), expected);
                }
            }
            assert_eq!(columns.len(), types.len());
        }
    }
}
