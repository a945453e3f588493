//! Random histories: what producers send, and what they send again, correct and take back.

use std::sync::Arc;

use millrace_types::{FieldType, Micros, Sequence, Value};

use super::Options;
use super::rng::Rng;
use super::spec::{CatalogSpec, KindSpec, StreamSpec};
use super::values::value;
use crate::record::RawRecord;

/// 2024-03-01T00:00:00Z, in microseconds.
const BASE_US: i64 = 1_709_251_200_000_000;
const DAY_US: i64 = 86_400_000_000;
/// How far instants stray from their base at most.
const RANGE_US: i64 = 500 * DAY_US;

/// Steps between the instants of a history, from microseconds to days.
const STEPS_US: [i64; 8] =
    [1, 1_000, 1_000_000, 10_000_000, 60_000_000, 600_000_000, 3_600_000_000, DAY_US];

/// Makes the records of a history one after the other.
struct History<'a> {
    rng: &'a mut Rng,
    options: &'a Options,
    catalog: &'a CatalogSpec,
    names: Vec<Arc<[String]>>,
    /// Instants that occur, so that ties are common.
    instants: Vec<i64>,
    base_us: i64,
    step_us: i64,
    /// Widths and hops of the catalog's windows.
    spans: Vec<i64>,
    records: Vec<RawRecord>,
    /// By stream and producer the next sequence.
    next: Vec<[u64; 2]>,
}

/// A random history for a catalog.
pub(super) fn history(rng: &mut Rng, options: &Options, catalog: &CatalogSpec) -> Vec<RawRecord> {
    let names = |s: &StreamSpec| s.fields.iter().map(|(name, _)| name.clone()).collect();
    let windows = catalog.views.iter().flat_map(|v| &v.features).filter_map(|f| f.window);
    let spans = windows.flat_map(|w| [w.width.us, w.hop.map_or(1, |h| h.us)]).collect();
    let base_us = if rng.percent(12) { 0 } else { BASE_US };
    let step_us = *rng.pick(&STEPS_US);
    let count = rng.between(1, options.records_max);
    let mut history = History {
        names: catalog.streams.iter().map(names).collect(),
        next: vec![[0; 2]; catalog.streams.len()],
        instants: vec![base_us],
        records: Vec::new(),
        rng,
        options,
        catalog,
        base_us,
        step_us,
        spans,
    };
    while history.records.len() < count {
        let record = history.record();
        history.records.push(record);
    }
    history.records
}

impl History<'_> {
    fn record(&mut self) -> RawRecord {
        if self.records.is_empty() || self.rng.percent(50) {
            let stream = self.rng.below(self.catalog.streams.len());
            return self.fresh(stream);
        }
        let earlier = self.records[self.rng.below(self.records.len())].clone();
        let stream = self
            .catalog
            .streams
            .iter()
            .position(|s| *s.name == *earlier.stream)
            .expect("records are made for the catalog's streams");
        match self.rng.below(10) {
            // Sent again, by the same producer under the same number …
            0 => earlier,
            // … and by another one, or under another number.
            1 => self.numbered(stream, earlier),
            2..=4 => self.changed(stream, earlier, 1),
            5 => self.changed(stream, earlier, 0),
            _ => self.taken_back(stream, earlier),
        }
    }

    /// A record of its own.
    fn fresh(&mut self, stream: usize) -> RawRecord {
        let spec = &self.catalog.streams[stream];
        let values = spec
            .fields
            .iter()
            .map(|(name, ty)| match name.as_str() {
                "ts" => self.at(),
                "eid" => self.id(*ty),
                "sq" => self.natural(),
                "rv" => self.natural(),
                "op" => self.op(spec),
                "undo" => self.undo(spec, *ty),
                key if self.is_key(key) => self.key(spec, key, *ty),
                _ => self.payload(*ty),
            })
            .collect();
        let record = RawRecord {
            stream: spec.name.as_str().into(),
            producer: Arc::from(""),
            sequence: Sequence(0),
            names: self.names[stream].clone(),
            values,
        };
        self.numbered(stream, record)
    }

    /// Gives the record the next number of one of the stream's producers, now and then with a hole.
    fn numbered(&mut self, stream: usize, mut record: RawRecord) -> RawRecord {
        let producer = self.rng.below(2);
        let next = &mut self.next[stream][producer];
        if self.rng.percent(10) {
            *next += 1 + self.rng.below(3) as u64;
        }
        record.producer = format!("{}-{producer}", record.stream).into();
        record.sequence = Sequence(*next);
        *next += 1;
        record
    }

    /// The same id and keys with other values, `by` revisions later; 0 makes a conflict.
    fn changed(&mut self, stream: usize, mut record: RawRecord, by: i64) -> RawRecord {
        let spec = &self.catalog.streams[stream];
        for (name, ty) in &spec.fields {
            let keep = match name.as_str() {
                "eid" | "rv" | "undo" => true,
                "ts" => self.rng.percent(50),
                "op" | "sq" => self.rng.percent(80),
                key => self.is_key(key) || self.rng.percent(40),
            };
            if !keep {
                let value = match name.as_str() {
                    "ts" => self.at(),
                    "sq" => self.natural(),
                    "op" => self.op(spec),
                    _ => self.payload(*ty),
                };
                record.set(name, value);
            }
        }
        self.revise(&mut record, by);
        self.numbered(stream, record)
    }

    /// A RETRACT or an END of an earlier record, where its stream has a way to say so.
    fn taken_back(&mut self, stream: usize, mut record: RawRecord) -> RawRecord {
        let spec = &self.catalog.streams[stream];
        if let Some(ty) = spec.field("undo").filter(|_| self.rng.percent(50)) {
            let own =
                Value::String(format!("{}/{:020}", record.producer, record.sequence.0).into());
            let id = if spec.field("eid").is_some() { record.get("eid").clone() } else { own };
            record.set("undo", id);
            if spec.field("eid").is_some() {
                let fresh = self.id(ty);
                record.set("eid", fresh);
            }
            return self.numbered(stream, record);
        }
        let Some(op) = &spec.op else { return self.changed(stream, record, 1) };
        let ways: Vec<&Value> = op.retract.iter().chain(&op.end).collect();
        record.set("op", (*self.rng.pick(&ways)).clone());
        if self.rng.percent(50) {
            let at = self.at();
            record.set("ts", at);
        }
        // Of an earlier, the same or a later revision than what it takes back.
        let by = *self.rng.pick(&[-1, 0, 0, 0, 1]);
        self.revise(&mut record, by);
        self.numbered(stream, record)
    }

    fn revise(&mut self, record: &mut RawRecord, by: i64) {
        if record.names.iter().any(|n| n == "rv") {
            let known = if let Value::Int64(v) = record.get("rv") { *v } else { 0 };
            let revision = known.saturating_add(by);
            record.set("rv", Value::Int64(revision.max(0)));
        }
    }

    /// An instant: one that occurred, one a step further, or one at a window's edge.
    fn at(&mut self) -> Value {
        if self.options.bad_records && self.rng.percent(1) {
            return Value::Null;
        }
        let known = *self.rng.pick(&self.instants);
        let us = match self.rng.below(10) {
            0..=2 => known,
            3..=6 => self.base_us + self.step_us * (self.rng.below(17) as i64 - 8),
            7 => known + *self.rng.pick(&[-1, 1, self.step_us, -self.step_us]),
            _ if self.spans.is_empty() => known,
            _ => {
                let span = *self.rng.pick(&self.spans);
                known + span * *self.rng.pick(&[-1, 1]) + *self.rng.pick(&[-1, 0, 0, 1])
            }
        };
        let us = if (us - self.base_us).abs() > RANGE_US { known } else { us };
        self.instants.push(us);
        Value::Timestamp(Micros(us))
    }

    /// An id out of so few that some occur again.
    fn id(&mut self, ty: FieldType) -> Value {
        let number = self.rng.below(self.options.records_max / 2 + 2);
        if ty == FieldType::Int64 {
            return Value::Int64(number as i64 - 1);
        }
        Value::String(format!("id{number}").into())
    }

    /// A seq or a revision.
    fn natural(&mut self) -> Value {
        match self.rng.below(100) {
            0 if self.options.bad_records => Value::Int64(-1),
            0..=29 => Value::Null,
            30..=33 => Value::Int64(i64::MAX),
            _ => Value::Int64(self.rng.below(3) as i64),
        }
    }

    fn op(&mut self, spec: &StreamSpec) -> Value {
        let Some(op) = &spec.op else { return Value::Null };
        let values = match self.rng.below(20) {
            0..=2 => &op.retract,
            3..=5 => &op.end,
            6 => return Value::Null,
            _ => &op.assert,
        };
        if values.is_empty() { Value::Null } else { self.rng.pick(values).clone() }
    }

    /// Mostly nothing; now and then an id that may or may not occur.
    fn undo(&mut self, spec: &StreamSpec, ty: FieldType) -> Value {
        if self.rng.percent(85) {
            let empty = ty == FieldType::String && self.rng.percent(30);
            return if empty { Value::String("".into()) } else { Value::Null };
        }
        if spec.field("eid").is_some() {
            return self.id(ty);
        }
        let (producer, sequence) = (self.rng.below(2), self.rng.below(8));
        Value::String(format!("{}-{producer}/{sequence:020}", spec.name).into())
    }

    fn is_key(&self, field: &str) -> bool {
        self.catalog.kinds.iter().any(|k| k.parts.iter().any(|(_, name)| *name == field))
    }

    /// One of a handful of keys; sometimes none where a fact need not have it.
    fn key(&mut self, spec: &StreamSpec, field: &str, ty: FieldType) -> Value {
        let names = |kind: &KindSpec| kind.parts.iter().any(|(_, name)| *name == field);
        let optional = spec.keys.iter().any(|(k, o)| *o && names(&self.catalog.kinds[*k]));
        let missing = if optional { 20 } else { usize::from(self.options.bad_records) };
        if self.rng.percent(missing) {
            let empty = ty == FieldType::String && self.rng.percent(50);
            return if empty { Value::String("".into()) } else { Value::Null };
        }
        if ty == FieldType::Int64 {
            return Value::Int64(*self.rng.pick(&[1, 1, 2, -7]));
        }
        Value::String((*self.rng.pick(&["k", "k", "ключ"])).into())
    }

    fn payload(&mut self, ty: FieldType) -> Value {
        if self.options.bad_records && self.rng.percent(1) {
            return match ty {
                FieldType::Double => {
                    Value::Double(*self.rng.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]))
                }
                FieldType::Bool => Value::String("yes".into()),
                FieldType::Int64 | FieldType::String | FieldType::Bytes | FieldType::Timestamp => {
                    Value::Bool(true)
                }
            };
        }
        value(self.rng, ty, &self.instants)
    }
}
