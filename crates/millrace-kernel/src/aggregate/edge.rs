//! `min` and `max`; `first`, `last`, `first_n` and `last_n`: what stands at one end of an order.

use std::cmp::Ordering;
use std::collections::VecDeque;

use millrace_types::codec::{Reader, put_bytes, put_signed, put_varint};
use millrace_types::row::{put_value, read_value};
use millrace_types::{DecodeError, FieldType, Micros, OrderKey, Value, ValueRef};

/// Which end of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

impl End {
    /// True when something that compares as `order` to what is kept lies nearer to this end.
    #[inline]
    fn prefers(self, order: Ordering) -> bool {
        order
            == match self {
                Self::Least => Ordering::Less,
                Self::Greatest => Ordering::Greater,
            }
    }
}

/// The least or greatest value; NULL while there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Extreme {
    end: End,
    value: Value,
}

impl Extreme {
    pub(super) fn new(end: End) -> Self {
        Self { end, value: Value::Null }
    }

    #[inline]
    pub(super) fn end(&self) -> End {
        self.end
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    #[inline]
    pub(super) fn add(&mut self, value: ValueRef<'_>) {
        let kept = self.value.as_ref();
        if !value.is_null() && (kept.is_null() || self.end.prefers(value.total_cmp(kept))) {
            self.value = value.to_value();
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_value(out, self.value.as_ref());
    }

    pub(super) fn decode(
        end: End,
        ty: FieldType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let value = read_value(reader)?;
        if !value.is_null() {
            check_value(value, ty)?;
        }
        Ok(Self { end, value: value.to_value() })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        value_heap_bytes(&self.value)
    }
}

/// A value and its place. The id and the encoded value share one buffer, which is written over
/// when a later row takes the place: following the last value allocates nothing.
#[derive(Debug, PartialEq)]
struct Placed {
    at: Micros,
    seq: u64,
    id_len: u32,
    bytes: Vec<u8>,
}

impl Clone for Placed {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), ..*self }
    }

    fn clone_from(&mut self, source: &Self) {
        (self.at, self.seq, self.id_len) = (source.at, source.seq, source.id_len);
        self.bytes.clone_from(&source.bytes);
    }
}

impl Placed {
    fn new(key: OrderKey<'_>, value: ValueRef<'_>) -> Self {
        let mut placed = Self {
            at: key.at,
            seq: key.seq,
            id_len: 0,
            bytes: Vec::with_capacity(key.id.len() + 10),
        };
        placed.set(key, value);
        placed
    }

    #[inline]
    fn set(&mut self, key: OrderKey<'_>, value: ValueRef<'_>) {
        (self.at, self.seq, self.id_len) = (key.at, key.seq, key.id.len() as u32);
        self.bytes.clear();
        self.bytes.extend_from_slice(key.id);
        put_value(&mut self.bytes, value);
    }

    #[inline]
    fn key(&self) -> OrderKey<'_> {
        OrderKey { at: self.at, seq: self.seq, id: &self.bytes[..self.id_len as usize] }
    }

    fn value(&self) -> ValueRef<'_> {
        read_value(&mut Reader::new(&self.bytes[self.id_len as usize..]))
            .expect("an encoded value decodes")
    }

    /// The order of rows. Two live facts never tie in `(at, seq, id)`; should they, the value
    /// decides, so that the result still does not depend on who came first.
    #[inline]
    fn order(&self, key: OrderKey<'_>, value: ValueRef<'_>) -> Ordering {
        self.key().cmp(&key).then_with(|| self.value().total_cmp(value))
    }

    /// As [`Placed::order`], of two rows that are kept.
    #[inline]
    fn order_of(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key()).then_with(|| self.value().total_cmp(other.value()))
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.seq);
        put_bytes(out, self.key().id);
        out.extend_from_slice(&self.bytes[self.id_len as usize..]);
    }

    fn decode(at: Micros, ty: FieldType, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let seq = reader.varint("seq")?;
        let id = reader.bytes("id")?;
        let value = read_value(reader)?;
        check_value(value, ty)?;
        Ok(Self::new(OrderKey { at, seq, id }, value))
    }
}

/// `first` or `last`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outermost {
    end: End,
    row: Option<Box<Placed>>,
}

impl Outermost {
    pub(super) fn new(end: End) -> Self {
        Self { end, row: None }
    }

    #[inline]
    pub(super) fn end(&self) -> End {
        self.end
    }

    /// True when only newer rows can take the place of what is kept.
    #[inline]
    pub(super) fn is_newest(&self) -> bool {
        self.end == End::Greatest && self.row.is_some()
    }

    pub(super) fn value(&self) -> Value {
        self.row.as_ref().map_or(Value::Null, |row| row.value().to_value())
    }

    #[inline]
    pub(super) fn add(&mut self, key: OrderKey<'_>, value: ValueRef<'_>) {
        match &mut self.row {
            None => self.row = Some(Box::new(Placed::new(key, value))),
            Some(row) if self.end.prefers(row.order(key, value).reverse()) => row.set(key, value),
            Some(_) => {}
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Some(other) = &other.row else { return };
        match &mut self.row {
            None => self.row = Some(other.clone()),
            Some(row) if self.end.prefers(other.order_of(row)) => {
                row.clone_from(other);
            }
            Some(_) => {}
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.row.is_some()));
        if let Some(row) = &self.row {
            put_signed(out, row.at.0);
            row.encode(out);
        }
    }

    pub(super) fn decode(
        end: End,
        ty: FieldType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let row = match reader.u8("presence of a row")? {
            0 => None,
            1 => {
                let at = Micros(reader.signed("at")?);
                Some(Box::new(Placed::decode(at, ty, reader)?))
            }
            found => {
                let found = u64::from(found);
                return Err(DecodeError::Invalid { what: "presence of a row", found });
            }
        };
        Ok(Self { end, row })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.row.as_ref().map_or(0, |row| size_of::<Placed>() + row.heap_bytes())
    }
}

/// `first_n` or `last_n`: the `n` outermost rows, in ascending order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outermosts {
    end: End,
    n: usize,
    rows: VecDeque<Placed>,
}

impl Outermosts {
    pub(super) fn new(end: End, n: usize) -> Self {
        Self { end, n, rows: VecDeque::new() }
    }

    #[inline]
    pub(super) fn end(&self) -> End {
        self.end
    }

    /// As [`Outermost::is_newest`], of all that are kept.
    #[inline]
    pub(super) fn are_newest(&self) -> bool {
        self.end == End::Greatest && self.rows.len() >= self.n
    }

    /// The values, the outermost first: oldest first for `first_n`, newest first for `last_n`.
    pub(super) fn values(&self) -> Vec<Value> {
        let values = self.rows.iter().map(|row| row.value().to_value());
        match self.end {
            End::Least => values.collect(),
            End::Greatest => values.rev().collect(),
        }
    }

    #[inline]
    pub(super) fn add(&mut self, key: OrderKey<'_>, value: ValueRef<'_>) {
        if self.rows.len() < self.n {
            let place = self.place(key, value);
            self.rows.insert(place, Placed::new(key, value));
            return;
        }
        let innermost = match self.end {
            End::Least => self.rows.back(),
            End::Greatest => self.rows.front(),
        };
        if innermost.is_none_or(|row| !self.end.prefers(row.order(key, value).reverse())) {
            return;
        }
        let removed = match self.end {
            End::Least => self.rows.pop_back(),
            End::Greatest => self.rows.pop_front(),
        };
        if let Some(mut row) = removed {
            row.set(key, value);
            let place = self.place(key, value);
            self.rows.insert(place, row);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for row in &other.rows {
            self.add(row.key(), row.value());
        }
    }

    /// Where the row belongs. Rows mostly come in order, so the last place is looked at first.
    fn place(&self, key: OrderKey<'_>, value: ValueRef<'_>) -> usize {
        match self.rows.back() {
            Some(last) if last.order(key, value) == Ordering::Greater => {
                self.rows.partition_point(|row| row.order(key, value) != Ordering::Greater)
            }
            Some(_) | None => self.rows.len(),
        }
    }

    /// Appends the number of rows, then each as its distance in `at` from the one before (the first
    /// from the epoch, zigzag) and the rest.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.rows.len() as u64);
        let mut before: Option<Micros> = None;
        for row in &self.rows {
            match before {
                None => put_signed(out, row.at.0),
                Some(before) => put_varint(out, row.at.0.wrapping_sub(before.0) as u64),
            }
            before = Some(row.at);
            row.encode(out);
        }
    }

    pub(super) fn decode(
        end: End,
        n: usize,
        ty: FieldType,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let count = reader.count("rows of a list")?;
        if count > n {
            return Err(DecodeError::Invalid { what: "rows of a list", found: count as u64 });
        }
        let mut rows = VecDeque::<Placed>::with_capacity(count);
        for _ in 0..count {
            let at = match rows.back() {
                None => reader.signed("at")?,
                Some(before) => {
                    let step = reader.varint("distance in at")?;
                    before
                        .at
                        .0
                        .checked_add_unsigned(step)
                        .ok_or(DecodeError::Invalid { what: "distance in at", found: step })?
                }
            };
            let row = Placed::decode(Micros(at), ty, reader)?;
            if rows.back().is_some_and(|last| last.order_of(&row).is_gt()) {
                return Err(DecodeError::Invalid { what: "order of a list", found: row.seq });
            }
            rows.push_back(row);
        }
        Ok(Self { end, n, rows })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Placed>()
            + self.rows.iter().map(Placed::heap_bytes).sum::<usize>()
    }
}

/// Refuses a value of another type, NULL included, or a double that no fact may hold.
fn check_value(value: ValueRef<'_>, ty: FieldType) -> Result<(), DecodeError> {
    if value.field_type() != Some(ty) {
        let found = value.field_type().map_or(0, |found| found as u64);
        return Err(DecodeError::Invalid { what: "type of a value", found });
    }
    check_double(value)
}

/// Refuses NaN, infinities and −0.0.
pub(super) fn check_double(value: ValueRef<'_>) -> Result<(), DecodeError> {
    match value {
        ValueRef::Double(v) if !v.is_finite() || v.to_bits() == 1 << 63 => {
            Err(DecodeError::Invalid { what: "double", found: v.to_bits() })
        }
        ValueRef::Double(_)
        | ValueRef::Null
        | ValueRef::Bool(_)
        | ValueRef::Int64(_)
        | ValueRef::String(_)
        | ValueRef::Bytes(_)
        | ValueRef::Timestamp(_) => Ok(()),
    }
}

/// The bytes that a value holds beyond its own size.
pub(super) fn value_heap_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null | Value::Bool(_) | Value::Int64(_) | Value::Double(_) | Value::Timestamp(_) => {
            0
        }
    }
}
