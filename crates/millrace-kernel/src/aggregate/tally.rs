//! `count_distinct` and `top_k`: distinct values, up to a limit.
//!
//! Beyond the limit the answer is TRUNCATED whatever follows, so the values are let go: "more than
//! the limit" absorbs every further row and partial, which keeps the result free of order.

use std::cmp::Ordering;

use millrace_types::codec::{Reader, put_bytes, put_signed, put_varint};
use millrace_types::{DecodeError, FieldType, Micros, Value, ValueRef};

use super::edge::{check_double, value_heap_bytes};
use super::sorted::{self, Weight};
use super::sums::read_rows;

/// What is known of each distinct value.
pub(super) trait Occurrence: Weight {
    /// That of one row.
    const ONE: Self;
    fn encode(self, out: &mut Vec<u8>);
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Only that it occurs.
impl Occurrence for () {
    const ONE: Self = ();

    fn encode(self, _out: &mut Vec<u8>) {}

    fn decode(_reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

/// How often it occurs.
impl Occurrence for u64 {
    const ONE: Self = 1;

    fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match read_rows(reader)? {
            0 => Err(DecodeError::Invalid { what: "count of a value", found: 0 }),
            rows => Ok(rows),
        }
    }
}

/// Distinct values in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tally<W> {
    limit: u32,
    /// There are more than `limit` distinct values; `entries` is empty then.
    truncated: bool,
    entries: Vec<(Value, W)>,
}

impl<W: Occurrence> Tally<W> {
    /// Without values. A limit beyond 32 bits is as good as one of 32 bits.
    pub(super) fn new(limit: usize) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Self { limit, truncated: false, entries: Vec::new() }
    }

    /// The values in ascending order, or `None` beyond the limit.
    pub(super) fn entries(&self) -> Option<&[(Value, W)]> {
        (!self.truncated).then_some(&self.entries)
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    #[inline]
    pub(super) fn add(&mut self, value: ValueRef<'_>) {
        if self.truncated {
            return;
        }
        match self.search(value) {
            Ok(place) => self.entries[place].1.add(W::ONE),
            Err(place) => {
                self.entries.insert(place, (value.to_value(), W::ONE));
                self.truncate_beyond_limit();
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.truncated || other.truncated {
            self.truncate();
            return;
        }
        sorted::merge(&mut self.entries, &other.entries, &Value::Null, |a, b| {
            a.as_ref().total_cmp(b.as_ref())
        });
        self.truncate_beyond_limit();
    }

    /// Appends 0 beyond the limit, else the number of values plus one, and if there are any their
    /// type and each value with its weight.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if self.truncated {
            put_varint(out, 0);
            return;
        }
        put_varint(out, self.entries.len() as u64 + 1);
        let Some(ty) = self.entries.first().and_then(|(value, _)| value.as_ref().field_type())
        else {
            return;
        };
        out.push(ty as u8);
        for (value, weight) in &self.entries {
            put_bare(out, value.as_ref());
            weight.encode(out);
        }
    }

    pub(super) fn decode(
        limit: usize,
        ty: FieldType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let mut tally = Self::new(limit);
        let Some(count) = reader.varint("distinct values")?.checked_sub(1) else {
            tally.truncated = true;
            return Ok(tally);
        };
        if count > u64::from(tally.limit) || count > reader.rest().len() as u64 {
            return Err(DecodeError::Invalid { what: "distinct values", found: count });
        }
        if count == 0 {
            return Ok(tally);
        }
        let found = reader.u8("type of values")?;
        if found != ty as u8 {
            return Err(DecodeError::Invalid { what: "type of values", found: u64::from(found) });
        }
        // Bounded twice: by the limit, and by the bytes left, of which each value takes one or more.
        tally.entries.reserve_exact(count as usize);
        for _ in 0..count {
            let value = read_bare(ty, reader)?;
            let after = tally
                .entries
                .last()
                .is_none_or(|(last, _)| last.as_ref().total_cmp(value.as_ref()) == Ordering::Less);
            if !after {
                return Err(DecodeError::Invalid { what: "order of values", found: count });
            }
            tally.entries.push((value, W::decode(reader)?));
        }
        Ok(tally)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(Value, W)>()
            + self.entries.iter().map(|(value, _)| value_heap_bytes(value)).sum::<usize>()
    }

    fn search(&self, value: ValueRef<'_>) -> Result<usize, usize> {
        self.entries.binary_search_by(|(own, _)| own.as_ref().total_cmp(value))
    }

    fn truncate_beyond_limit(&mut self) {
        if self.entries.len() > self.limit as usize {
            self.truncate();
        }
    }

    fn truncate(&mut self) {
        self.truncated = true;
        self.entries = Vec::new();
    }
}

/// Appends a value without its type, which all values of a tally share.
fn put_bare(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => {}
        ValueRef::Bool(v) => out.push(u8::from(v)),
        ValueRef::Int64(v) | ValueRef::Timestamp(Micros(v)) => put_signed(out, v),
        ValueRef::Double(v) => out.extend_from_slice(&v.to_bits().to_le_bytes()),
        ValueRef::String(v) => put_bytes(out, v.as_bytes()),
        ValueRef::Bytes(v) => put_bytes(out, v),
    }
}

fn read_bare(ty: FieldType, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    Ok(match ty {
        FieldType::Bool => match reader.u8("bool")? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            found => {
                return Err(DecodeError::Invalid { what: "bool", found: u64::from(found) });
            }
        },
        FieldType::Int64 => Value::Int64(reader.signed("int64")?),
        FieldType::Timestamp => Value::Timestamp(Micros(reader.signed("timestamp")?)),
        FieldType::Double => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(reader.take(8, "double")?);
            let value = f64::from_bits(u64::from_le_bytes(bytes));
            check_double(ValueRef::Double(value))?;
            Value::Double(value)
        }
        FieldType::String => {
            let text = std::str::from_utf8(reader.bytes("string")?)
                .map_err(|_| DecodeError::NotUtf8("string"))?;
            Value::String(text.into())
        }
        FieldType::Bytes => Value::Bytes(reader.bytes("bytes")?.into()),
    })
}
