//! One row: its fields, its roles, its keys, and the records it becomes.

use std::io::Write;
use std::ops::Range;

use millrace_catalog::{Kind, Stream};
use millrace_placement::Slots;
use millrace_types::chunk::fingerprint;
use millrace_types::codec::put_varint;
use millrace_types::entity::{KeyError, encode_key, entity_hash};
use millrace_types::fact::{encode_body, encode_route};
use millrace_types::limits::{FACT_BYTES_MAX, ID_BYTES_MAX, KEY_BYTES_MAX};
use millrace_types::{KeyPart, KnownAt, Micros, Op, ValueRef};

use super::Job;
use crate::reject::{Refusal, Rule};
use crate::rows::RowSource;

/// The buffers of an encoder.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The records of the batch in the order of its rows.
    pub(super) records: Vec<u8>,
    pub(super) index: Vec<Record>,
    /// Bytes written out so far, those of refused rows included.
    pub(super) spent: usize,
    row: Vec<u8>,
    id: Vec<u8>,
    keys: Vec<u8>,
    routes: Vec<Route>,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.index.clear();
        self.spent = 0;
    }
}

/// Where a record is and whose it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) slot: u32,
    pub(super) fact: u32,
    pub(super) fingerprint: u32,
    start: u32,
    end: u32,
}

impl Record {
    pub(super) fn bytes(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A key of the row: which of the stream's mappings, and where its bytes are.
#[derive(Debug)]
struct Route {
    mapping: usize,
    key: Range<usize>,
}

/// What a row does: its op, and whether it names the id it retracts in the `retracts` field.
#[derive(Debug, Clone, Copy)]
struct Said {
    op: Op,
    names: bool,
}

/// A valid row: its encoded row and keys are in the scratch buffers.
struct Valid<'r> {
    op: Op,
    at: Micros,
    seq: u64,
    revision: u64,
    id: Id<'r>,
}

/// Where the id of a row is.
#[derive(Clone, Copy)]
enum Id<'r> {
    /// In the row itself.
    Given(&'r [u8]),
    /// In the scratch buffer, because it had to be written.
    Written,
}

/// What became of a valid row: whether records were written, and the event time it shows.
pub(super) struct Outcome {
    pub(super) routed: bool,
    pub(super) at: Option<Micros>,
}

/// Encodes the rows of one batch.
pub(super) struct RowCoder<'a> {
    stream: &'a Stream,
    kinds: Vec<&'a Kind>,
    slots: Slots,
    known_at: &'a [KnownAt],
    now: Micros,
    latest_at: Micros,
    producer: &'a str,
    pub(super) scratch: &'a mut Scratch,
}

impl<'a> RowCoder<'a> {
    pub(super) fn new(
        job: &Job<'a>,
        stream: &'a Stream,
        slots: Slots,
        scratch: &'a mut Scratch,
    ) -> Self {
        // A checked catalog has every kind that its streams name.
        let kinds = stream.keys.iter().filter_map(|key| job.catalog.kind(key.kind)).collect();
        let Job { known_at, now, latest_at, producer, .. } = *job;
        Self { stream, kinds, slots, known_at, now, latest_at, producer, scratch }
    }

    /// Checks and encodes a row; one that is `seen` is only checked.
    pub(super) fn row(
        &mut self,
        rows: &impl RowSource,
        row: usize,
        fact: u32,
        sequence: u64,
        seen: bool,
    ) -> Result<Outcome, Refusal> {
        let before = self.scratch.records.len();
        let known_at = self.known_at.get(fact as usize).copied();
        let valid = self.check(rows, row, sequence, known_at);
        if let (Ok(valid), false) = (&valid, seen) {
            self.write(fact, valid, known_at);
        }
        let written = self.scratch.records.len() - before;
        self.scratch.spent += written.max(self.scratch.row.len());
        let valid = valid?;
        let at = (valid.op != Op::Retract).then_some(valid.at);
        Ok(Outcome { routed: !seen, at })
    }

    /// Checks every rule in the order of the reject reasons: the row's fields in the catalog's
    /// order, its roles, its keys, its event time, its size. A row is looked at no further than to
    /// where it exceeds the size of a fact.
    fn check<'r>(
        &mut self,
        rows: &'r impl RowSource,
        row: usize,
        sequence: u64,
        known_at: Option<KnownAt>,
    ) -> Result<Valid<'r>, Refusal> {
        self.fields(rows, row)?;
        let said = self.said(rows, row)?;
        let at = self.at(rows, row, said.op)?;
        let seq = count(rows, row, self.stream.seq)?;
        let stated = count(rows, row, self.stream.revision)?;
        let revision = if said.names { u64::MAX } else { stated };
        let id = self.id(rows, row, said, sequence)?;
        let id_bytes = self.id_bytes(id).len();
        if let Some(known_at) = known_at.filter(|known_at| known_at.0 > self.now.0) {
            let rule = Rule::KnownAtAhead { known_at: Micros(known_at.0), now: self.now };
            return Err(Refusal { rule, field: None });
        }
        let key_too_large = self.keys(rows, row)?;
        if said.op != Op::Retract && at > self.latest_at {
            let rule = Rule::AtAhead { at, latest: self.latest_at };
            return Err(Refusal::new(rule, self.stream.at));
        }
        if id_bytes > ID_BYTES_MAX {
            let field = if said.names { self.stream.retracts } else { self.stream.id_field };
            return Err(Refusal { rule: Rule::IdTooLarge(id_bytes), field });
        }
        if let Some(refusal) = key_too_large {
            return Err(refusal);
        }
        let longest = self.scratch.routes.iter().map(|route| route.key.len()).max();
        match longest.unwrap_or(0) + id_bytes + self.scratch.row.len() {
            n if n > FACT_BYTES_MAX => Err(Refusal { rule: Rule::FactTooLarge(n), field: None }),
            _ => Ok(Valid { op: said.op, at, seq, revision, id }),
        }
    }

    /// Encodes the fields, in the catalog's order, without the NULLs at the end.
    fn fields(&mut self, rows: &impl RowSource, row: usize) -> Result<(), Refusal> {
        let out = &mut self.scratch.row;
        out.clear();
        out.push(0);
        let (mut fields, mut end) = (0, 1);
        for field in 0..self.stream.fields.len() {
            if rows.put(field, row, out).map_err(|rule| Refusal::new(rule, field))? {
                (fields, end) = (field + 1, out.len());
                if end > FACT_BYTES_MAX {
                    return Err(Refusal::new(Rule::FactTooLarge(end), field));
                }
            }
        }
        out.truncate(end);
        if fields < 0x80 {
            out[0] = fields as u8; // the varint of a small number is the number
        } else {
            let mut prefix = Vec::with_capacity(3);
            put_varint(&mut prefix, fields as u64);
            out.splice(..1, prefix);
        }
        Ok(())
    }

    fn said(&self, rows: &impl RowSource, row: usize) -> Result<Said, Refusal> {
        if let Some(field) = self.stream.retracts
            && !is_empty(value(rows, row, field)?)
        {
            return Ok(Said { op: Op::Retract, names: true });
        }
        let Some(mapping) = &self.stream.op else {
            return Ok(Said { op: Op::Assert, names: false });
        };
        let found = value(rows, row, mapping.field)?;
        let means = |values: &[millrace_types::Value]| values.iter().any(|v| v.as_ref() == found);
        let op = match () {
            () if means(&mapping.retract) => Op::Retract,
            () if means(&mapping.end) => Op::End,
            () => Op::Assert,
        };
        Ok(Said { op, names: false })
    }

    fn at(&self, rows: &impl RowSource, row: usize, op: Op) -> Result<Micros, Refusal> {
        let field = self.stream.at;
        match value(rows, row, field)? {
            ValueRef::Timestamp(at) => Ok(at),
            ValueRef::Null if op == Op::Retract => Ok(Micros(0)),
            ValueRef::Null
            | ValueRef::Bool(_)
            | ValueRef::Int64(_)
            | ValueRef::Double(_)
            | ValueRef::String(_)
            | ValueRef::Bytes(_) => Err(Refusal::new(Rule::NoAt, field)),
        }
    }

    /// Finds the id: text and bytes as they are, anything else as its decimal text, and where none
    /// is given the producer's name and the sequence.
    fn id<'r>(
        &mut self,
        rows: &'r impl RowSource,
        row: usize,
        said: Said,
        sequence: u64,
    ) -> Result<Id<'r>, Refusal> {
        let out = &mut self.scratch.id;
        out.clear();
        let field = if said.names { self.stream.retracts } else { self.stream.id_field };
        let given = match field {
            Some(field) => value(rows, row, field)?,
            None => ValueRef::Null,
        };
        match given {
            ValueRef::String(text) => return Ok(Id::Given(text.as_bytes())),
            ValueRef::Bytes(bytes) => return Ok(Id::Given(bytes)),
            ValueRef::Bool(v) => put_text(out, v),
            ValueRef::Int64(v) | ValueRef::Timestamp(Micros(v)) => put_text(out, v),
            ValueRef::Double(v) => put_text(out, v),
            ValueRef::Null => put_numbered(out, self.producer, sequence),
        }
        Ok(Id::Written)
    }

    fn id_bytes<'b>(&'b self, id: Id<'b>) -> &'b [u8] {
        match id {
            Id::Given(bytes) => bytes,
            Id::Written => &self.scratch.id,
        }
    }

    /// The id of a refused row, as far as it can be read.
    pub(super) fn refused_id(
        &mut self,
        rows: &impl RowSource,
        row: usize,
        sequence: u64,
    ) -> Box<[u8]> {
        let said = self.said(rows, row).unwrap_or(Said { op: Op::Assert, names: false });
        let id = self.id(rows, row, said, sequence);
        let id = id.map(|id| self.id_bytes(id)).unwrap_or_default();
        if id.len() > ID_BYTES_MAX { Box::default() } else { id.into() }
    }

    /// Writes the keys. A key that is too large is given back, because an event time that is out of
    /// bounds weighs more.
    fn keys(&mut self, rows: &impl RowSource, row: usize) -> Result<Option<Refusal>, Refusal> {
        let Scratch { keys, routes, .. } = &mut *self.scratch;
        keys.clear();
        routes.clear();
        let mut too_large = None;
        for (mapping, key) in self.stream.keys.iter().enumerate() {
            let start = keys.len();
            let (mut missing, mut long) = (None, None);
            for &field in &key.fields {
                let part = match value(rows, row, field)? {
                    ValueRef::Int64(v) => KeyPart::Int64(v),
                    // A text that is too large anyway is not copied.
                    ValueRef::String(v) if v.len() > KEY_BYTES_MAX => {
                        long = long.or(Some(Refusal::new(Rule::KeyTooLarge(v.len()), field)));
                        continue;
                    }
                    ValueRef::String(v) => KeyPart::String(v),
                    ValueRef::Null
                    | ValueRef::Bool(_)
                    | ValueRef::Double(_)
                    | ValueRef::Bytes(_)
                    | ValueRef::Timestamp(_) => KeyPart::String(""),
                };
                // The canonical form of a key is that of its parts, one after the other.
                match encode_key(keys, &[part]) {
                    Err(KeyError::Missing) => missing = missing.or(Some(field)),
                    Ok(()) | Err(KeyError::TooLong(_)) => {}
                }
            }
            let bytes = keys.len() - start;
            if bytes > KEY_BYTES_MAX {
                let last = key.fields.last().copied();
                long = long.or(Some(Refusal { rule: Rule::KeyTooLarge(bytes), field: last }));
            }
            match missing {
                Some(field) if !key.optional => return Err(Refusal::new(Rule::NoKey, field)),
                Some(_) => keys.truncate(start),
                None => {
                    routes.push(Route { mapping, key: start..keys.len() });
                    too_large = too_large.or(long);
                }
            }
        }
        match routes.is_empty() {
            true => Err(Refusal { rule: Rule::NoKeyAtAll, field: None }),
            false => Ok(too_large),
        }
    }

    /// Writes one record for each key.
    fn write(&mut self, fact: u32, valid: &Valid<'_>, known_at: Option<KnownAt>) {
        let Scratch { records, index, row, id, keys, routes, .. } = &mut *self.scratch;
        let id = match valid.id {
            Id::Given(bytes) => bytes,
            Id::Written => id,
        };
        for route in routes {
            let kind = self.kinds[route.mapping];
            let key = &keys[route.key.clone()];
            let hash = entity_hash(&kind.name, key);
            let start = records.len() as u32;
            encode_route(records, kind.id, key, self.stream.id);
            let Valid { op, at, seq, revision, .. } = *valid;
            encode_body(records, op, at, seq, revision, known_at, id, row);
            index.push(Record {
                slot: self.slots.slot_of(hash).0,
                fact,
                fingerprint: fingerprint(hash),
                start,
                end: records.len() as u32,
            });
        }
    }
}

#[inline(always)]
fn value<'r>(rows: &'r impl RowSource, row: usize, field: usize) -> Result<ValueRef<'r>, Refusal> {
    rows.get(field, row).map_err(|rule| Refusal::new(rule, field))
}

/// A revision or a seq: 0 where it is NULL or the stream has none.
#[inline]
fn count(rows: &impl RowSource, row: usize, field: Option<usize>) -> Result<u64, Refusal> {
    let Some(field) = field else { return Ok(0) };
    match value(rows, row, field)? {
        ValueRef::Int64(v) => u64::try_from(v).map_err(|_| Refusal::new(Rule::Negative(v), field)),
        ValueRef::Null
        | ValueRef::Bool(_)
        | ValueRef::Double(_)
        | ValueRef::String(_)
        | ValueRef::Bytes(_)
        | ValueRef::Timestamp(_) => Ok(0),
    }
}

fn is_empty(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Null => true,
        ValueRef::String(text) => text.is_empty(),
        ValueRef::Bytes(bytes) => bytes.is_empty(),
        ValueRef::Bool(_) | ValueRef::Int64(_) | ValueRef::Double(_) | ValueRef::Timestamp(_) => {
            false
        }
    }
}

fn put_text(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value}");
}

/// Writes `producer/` and the sequence in 20 digits.
fn put_numbered(out: &mut Vec<u8>, producer: &str, sequence: u64) {
    out.extend_from_slice(producer.as_bytes());
    out.push(b'/');
    let mut digits = [b'0'; 20];
    let mut rest = sequence;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}
