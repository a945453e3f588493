//! Rows: the values of a fact in the order in which the fields were added to the catalog.
//!
//! Layout (version 1, persisted): varint number of fields `n`, then `n` type bytes packed as the
//! type tag (0 = NULL) followed by the value: bool 1 byte, int64 and timestamp zigzag varint,
//! double 8 bytes little-endian bits, string and bytes length-prefixed. Trailing NULLs are not
//! written, so equal rows have equal bytes and a row written before a field was added reads as
//! NULL there.

use std::cmp::Ordering;
use std::fmt;

use crate::codec::{DecodeError, Reader, put_bytes, put_tagged_signed, put_varint};
use crate::time::Micros;
use crate::value::{FieldType, Value, ValueRef};

/// A row that owns its bytes. Equality is equality of rows.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Row(Box<[u8]>);

/// A row that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowView<'a>(&'a [u8]);

/// Appends the encoding of the row `values` to `out`.
pub fn encode_row(out: &mut Vec<u8>, values: &[ValueRef<'_>]) {
    let n = values.iter().rposition(|v| !v.is_null()).map_or(0, |last| last + 1);
    put_varint(out, n as u64);
    for value in &values[..n] {
        put_value(out, *value);
    }
}

/// Appends one value: its type tag (0 for NULL), then its bytes.
#[inline]
pub fn put_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(0),
        ValueRef::Bool(v) => out.extend_from_slice(&[FieldType::Bool as u8, u8::from(v)]),
        ValueRef::Int64(v) => put_tagged_signed(out, FieldType::Int64 as u8, v),
        ValueRef::Double(v) => {
            out.push(FieldType::Double as u8);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        ValueRef::String(v) => {
            out.push(FieldType::String as u8);
            put_bytes(out, v.as_bytes());
        }
        ValueRef::Bytes(v) => {
            out.push(FieldType::Bytes as u8);
            put_bytes(out, v);
        }
        ValueRef::Timestamp(v) => put_tagged_signed(out, FieldType::Timestamp as u8, v.0),
    }
}

/// Reads one value as [`put_value`] wrote it.
///
/// # Errors
/// [`DecodeError`] for an unknown tag, an early end, text that is not UTF-8 or a double no fact may hold.
#[inline]
pub fn read_value<'a>(reader: &mut Reader<'a>) -> Result<ValueRef<'a>, DecodeError> {
    Ok(match reader.u8("value tag")? {
        0 => ValueRef::Null,
        1 => ValueRef::Bool(reader.u8("bool")? != 0),
        2 => ValueRef::Int64(reader.signed("int64")?),
        3 => {
            let mut bits = [0; 8];
            bits.copy_from_slice(reader.take(8, "double")?);
            let value = f64::from_bits(u64::from_le_bytes(bits));
            match crate::value::canonical_double(value) {
                Some(canonical) if canonical.to_bits() == value.to_bits() => {
                    ValueRef::Double(value)
                }
                _ => {
                    return Err(DecodeError::Invalid { what: "double", found: value.to_bits() });
                }
            }
        }
        4 => ValueRef::String(
            std::str::from_utf8(reader.bytes("string")?)
                .map_err(|_| DecodeError::NotUtf8("string"))?,
        ),
        5 => ValueRef::Bytes(reader.bytes("bytes")?),
        6 => ValueRef::Timestamp(Micros(reader.signed("timestamp")?)),
        tag => return Err(DecodeError::Invalid { what: "value tag", found: u64::from(tag) }),
    })
}

/// Moves past one value without looking into it.
///
/// # Errors
/// [`DecodeError`] for an unknown tag or an early end.
#[inline]
fn skip_value(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.u8("value tag")? {
        0 => {}
        1 => {
            reader.take(1, "bool")?;
        }
        2 | 6 => reader.skip_varint("integer")?,
        3 => {
            reader.take(8, "double")?;
        }
        4 | 5 => {
            reader.bytes("string")?;
        }
        tag => return Err(DecodeError::Invalid { what: "value tag", found: u64::from(tag) }),
    }
    Ok(())
}

impl Row {
    /// Encodes `values`, given in the order of the stream's fields.
    #[must_use]
    pub fn new(values: &[ValueRef<'_>]) -> Self {
        let mut out = Vec::with_capacity(values.len() * 8 + 1);
        encode_row(&mut out, values);
        Self(out.into_boxed_slice())
    }

    /// Encodes owned values.
    #[must_use]
    pub fn from_values(values: &[Value]) -> Self {
        Self::new(&values.iter().map(Value::as_ref).collect::<Vec<_>>())
    }

    /// The same row, borrowed.
    #[must_use]
    pub fn view(&self) -> RowView<'_> {
        RowView(&self.0)
    }

    /// The encoded bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.view().values()).finish()
    }
}

impl<'a> RowView<'a> {
    /// Takes bytes that [`encode_row`] wrote, or that [`RowView::check`] accepted.
    #[inline]
    #[must_use]
    pub fn new_unchecked(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes bytes after reading them through once.
    ///
    /// # Errors
    /// [`DecodeError`] when they are not a row.
    pub fn check(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read_through(bytes, |_, _| {})
    }

    fn read_through(
        bytes: &'a [u8],
        mut take: impl FnMut(usize, ValueRef<'a>),
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        for field in 0..reader.varint("field count")? {
            take(field as usize, read_value(&mut reader)?);
        }
        match reader.rest().len() {
            0 => Ok(Self(bytes)),
            found => Err(DecodeError::Invalid { what: "bytes after a row", found: found as u64 }),
        }
    }

    /// The encoded bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    #[must_use]
    pub fn to_row(self) -> Row {
        Row(self.0.into())
    }

    /// The values in field order, without trailing NULLs. Stops early at bytes that are no row.
    #[inline]
    pub fn values(self) -> impl Iterator<Item = ValueRef<'a>> {
        let mut reader = Reader::new(self.0);
        let mut left = reader.varint("field count").unwrap_or(0);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            read_value(&mut reader).ok()
        })
    }

    /// The value of the field with this index; NULL beyond the fields written.
    #[inline]
    #[must_use]
    pub fn get(self, index: usize) -> ValueRef<'a> {
        let mut reader = Reader::new(self.0);
        let fields = reader.varint("field count").unwrap_or(0);
        if index as u64 >= fields {
            return ValueRef::Null;
        }
        for _ in 0..index {
            if skip_value(&mut reader).is_err() {
                return ValueRef::Null;
            }
        }
        read_value(&mut reader).unwrap_or(ValueRef::Null)
    }

    /// The values of the fields marked in `wanted` into `out`, which is cleared first; NULL for the
    /// others, which are not looked into, and nothing for fields beyond the row's.
    #[inline]
    pub fn pick(self, wanted: &[bool], out: &mut Vec<ValueRef<'a>>) {
        out.clear();
        let mut reader = Reader::new(self.0);
        let fields = reader.varint("field count").unwrap_or(0);
        for (wanted, _) in wanted.iter().zip(0..fields) {
            let value = match wanted {
                true => read_value(&mut reader),
                false => skip_value(&mut reader).map(|()| ValueRef::Null),
            };
            let Ok(value) = value else { return };
            out.push(value);
        }
    }

    /// Hands the values of the fields that `columns` names a column for to `take`, with the column, in
    /// field order: NULL for fields beyond the row's. The other fields are not looked into, and nothing
    /// is read behind the last that is wanted.
    #[inline]
    pub fn project(self, columns: &[Option<u16>], mut take: impl FnMut(usize, ValueRef<'a>)) {
        let mut reader = Reader::new(self.0);
        let mut left = reader.varint("field count").unwrap_or(0);
        for column in columns {
            let is_there = left > 0;
            left = left.saturating_sub(1);
            match column {
                Some(column) => {
                    let value = match is_there {
                        true => read_value(&mut reader).ok(),
                        false => None,
                    };
                    // Behind bytes that are no value there is nothing to be read.
                    if value.is_none() {
                        left = 0;
                    }
                    take(usize::from(*column), value.unwrap_or(ValueRef::Null));
                }
                None if is_there && skip_value(&mut reader).is_err() => left = 0,
                None => {}
            }
        }
    }

    /// Compares field by field in field order, NULL least.
    #[must_use]
    pub fn total_cmp(self, other: RowView<'_>) -> Ordering {
        let mut left = self.values();
        let mut right = other.values();
        loop {
            match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (a, b) => {
                    let a = a.unwrap_or(ValueRef::Null);
                    let order = a.total_cmp(b.unwrap_or(ValueRef::Null));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
            }
        }
    }
}

/// Of which types the values of some rows are, field by field: a bit a type tag.
///
/// It stands for the rows where they are looked through before it is known of which stream they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowTypes(Vec<u8>);

impl RowTypes {
    /// Looks through a row.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a row.
    pub fn add<'a>(&mut self, bytes: &'a [u8]) -> Result<RowView<'a>, DecodeError> {
        RowView::read_through(bytes, |field, value| {
            if self.0.len() <= field {
                self.0.resize(field + 1, 0);
            }
            if let Some(ty) = value.field_type() {
                self.0[field] |= 1 << ty as u8;
            }
        })
    }

    /// Holds the values against the types of a stream's fields, in their order. NULL is of every type,
    /// and fields beyond those given are of a later catalog version.
    ///
    /// # Errors
    /// [`DecodeError`] with the first field that has a value of another type.
    pub fn check(&self, fields: &[FieldType]) -> Result<(), DecodeError> {
        let other = |(seen, ty): (&u8, &FieldType)| seen & !(1 << *ty as u8) != 0;
        match self.0.iter().zip(fields).position(other) {
            None => Ok(()),
            Some(field) => Err(DecodeError::Invalid {
                what: "type of the values of field",
                found: field as u64,
            }),
        }
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int64),
            any::<f64>()
                .prop_filter_map("finite", crate::value::canonical_double)
                .prop_map(Value::Double),
            ".{0,8}".prop_map(|s| Value::String(s.into())),
            any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())),
            any::<i64>().prop_map(|t| Value::Timestamp(Micros(t))),
        ]
    }

    fn any_type() -> impl Strategy<Value = FieldType> {
        prop::sample::select(vec![
            FieldType::Bool,
            FieldType::Int64,
            FieldType::Double,
            FieldType::String,
            FieldType::Bytes,
            FieldType::Timestamp,
        ])
    }

    proptest! {
        #[test]
        fn rows_round_trip(values in prop::collection::vec(any_value(), 0..6)) {
            let row = Row::from_values(&values);
            RowView::check(row.as_bytes()).unwrap();
            for (i, value) in values.iter().enumerate() {
                prop_assert_eq!(row.view().get(i).to_value(), value.clone());
            }
            prop_assert_eq!(row.view().get(values.len()), ValueRef::Null);
        }

        /// NULL is of every type, and fields that are not known are not looked at.
        #[test]
        fn rows_are_held_against_types(
            rows in prop::collection::vec(prop::collection::vec(any_value(), 0..6), 0..4),
            types in prop::collection::vec(any_type(), 0..6),
        ) {
            let mut seen = RowTypes::default();
            for row in &rows {
                seen.add(Row::from_values(row).as_bytes()).unwrap();
            }
            let other = |field: &usize| {
                let of_field = rows.iter().filter_map(|row| row.get(*field)?.as_ref().field_type());
                let expected = types[*field];
                of_field.into_iter().any(|ty| ty != expected)
            };
            let expected = (0..types.len()).find(other).map(|field| field as u64);
            let found = match seen.check(&types) {
                Err(DecodeError::Invalid { found, .. }) => Some(found),
                Err(other) => panic!("{other}"),
                Ok(()) => None,
            };
            prop_assert_eq!(found, expected);
        }

        /// Fields beyond the row's are those that a later catalog version added.
        #[test]
        fn a_projection_has_the_values_of_a_full_decode(
            values in prop::collection::vec(any_value(), 0..12),
            wanted in prop::collection::vec(any::<bool>(), 0..16),
        ) {
            let row = Row::from_values(&values);
            let mut columns = 0..;
            let of_field = |is_wanted: &bool| is_wanted.then(|| columns.next()).flatten();
            let by_field: Vec<Option<u16>> = wanted.iter().map(of_field).collect();
            let mut found = Vec::new();
            row.view().project(&by_field, |column, value| found.push((column, value.to_value())));
            let all: Vec<Value> = row.view().values().map(ValueRef::to_value).collect();
            let fields = (0..wanted.len()).filter(|field| wanted[*field]);
            let expected: Vec<(usize, Value)> = fields
                .map(|field| all.get(field).cloned().unwrap_or(Value::Null))
                .enumerate()
                .collect();
            prop_assert_eq!(found, expected);
        }

        /// Bytes that are no row give NULLs, once for each column.
        #[test]
        fn a_projection_of_any_bytes_has_every_column(bytes: Vec<u8>) {
            let mut found = Vec::new();
            let columns = [Some(0), None, Some(1), Some(2)];
            RowView::new_unchecked(&bytes).project(&columns, |column, _| found.push(column));
            prop_assert_eq!(found, [0, 1, 2]);
        }

        #[test]
        fn equal_rows_have_equal_bytes(values in prop::collection::vec(any_value(), 0..6)) {
            let mut longer = values.clone();
            longer.extend([Value::Null, Value::Null]);
            prop_assert_eq!(Row::from_values(&values), Row::from_values(&longer));
        }

        #[test]
        fn any_bytes_are_a_row_or_refused(bytes: Vec<u8>) {
            let _ = RowView::check(&bytes);
            let _ = RowView::new_unchecked(&bytes).values().count();
        }
    }
}
