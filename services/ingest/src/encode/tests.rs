//! The encoder against a reference that knows one row at a time and no columns.

use std::collections::BTreeMap;

use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, NullArray, RecordBatch,
    StringArray, StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
};
use millrace_types::chunk::fingerprint;
use millrace_types::entity::entity_hash;
use millrace_types::fact::records;
use millrace_types::limits::{ID_BYTES_MAX, KEY_BYTES_MAX};
use millrace_types::value::canonical_double;
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, KeyPart, Op, RejectReason, Row, StreamId, Value,
};
use proptest::prelude::*;

use super::*;
use crate::arrow::ArrowStreams;
use crate::testing::{NOON, catalog, ipc};

const LATEST: Micros = Micros(NOON + 300_000_000);

/// What a cell holds before any rule is applied.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A count and the nanoseconds of its unit.
    Instant(i64, i64),
}

/// A column in one of the Arrow types its field accepts.
type Column = (ArrayRef, Vec<Cell>);

fn numbers(max: i64) -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        4 => (0..5i64).prop_map(Some),
        1 => (-3..0i64).prop_map(Some),
        1 => Just(None),
        1 => Just(Some(max)),
    ]
}

fn cells<T: Clone>(values: &[Option<T>], cell: impl Fn(T) -> Cell) -> Vec<Cell> {
    values.iter().cloned().map(|v| v.map_or(Cell::Null, &cell)).collect()
}

fn int_column(rows: usize, max: i64) -> impl Strategy<Value = Column> {
    (prop::collection::vec(numbers(max), rows), 0..5u8).prop_map(|(values, form)| {
        let narrow = |v: &Option<i64>, max: i64| v.map(|v| v.clamp(-max, max));
        let natural = |v: &Option<i64>| v.map(|v| v.clamp(0, i64::from(u32::MAX)));
        match form {
            0 => {
                let values: Vec<_> = values.iter().map(|v| narrow(v, 127)).collect();
                let array = values.iter().map(|v| v.map(|v| v as i8)).collect::<Int8Array>();
                (Arc::new(array) as ArrayRef, cells(&values, Cell::Int))
            }
            1 => {
                let values: Vec<_> = values.iter().map(|v| narrow(v, 1 << 30)).collect();
                let array = values.iter().map(|v| v.map(|v| v as i32)).collect::<Int32Array>();
                (Arc::new(array) as ArrayRef, cells(&values, Cell::Int))
            }
            2 => {
                let values: Vec<_> = values.iter().map(natural).collect();
                let array = values.iter().map(|v| v.map(|v| v as u32)).collect::<UInt32Array>();
                (Arc::new(array) as ArrayRef, cells(&values, Cell::Int))
            }
            3 => {
                (Arc::new(NullArray::new(values.len())) as ArrayRef, vec![Cell::Null; values.len()])
            }
            _ => (
                Arc::new(values.iter().copied().collect::<Int64Array>()) as ArrayRef,
                cells(&values, Cell::Int),
            ),
        }
    })
}

fn text_column(rows: usize, texts: &'static [&'static str]) -> impl Strategy<Value = Column> {
    let long = prop_oneof![
        8 => prop::sample::select(texts).prop_map(|t| Some(t.to_owned())),
        1 => Just(None),
        1 => prop_oneof![Just(KEY_BYTES_MAX), Just(ID_BYTES_MAX + 1), Just(60_000usize)]
            .prop_map(|n| Some("x".repeat(n))),
    ];
    (prop::collection::vec(long, rows), 0..3u8).prop_map(|(values, form)| {
        let array: ArrayRef = match form {
            0 => Arc::new(values.iter().collect::<StringArray>()),
            1 => Arc::new(values.iter().collect::<LargeStringArray>()),
            _ => Arc::new(values.iter().collect::<StringViewArray>()),
        };
        (array, cells(&values, Cell::Text))
    })
}

fn bytes_column(rows: usize) -> impl Strategy<Value = Column> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..4));
    (prop::collection::vec(value, rows), 0..3u8).prop_map(|(values, form)| {
        let array: ArrayRef = match form {
            0 => Arc::new(BinaryArray::from_iter(values.iter())),
            1 => Arc::new(LargeBinaryArray::from_iter(values.iter())),
            _ => Arc::new(BinaryViewArray::from_iter(values.iter())),
        };
        (array, cells(&values, Cell::Bytes))
    })
}

fn double_column(rows: usize) -> impl Strategy<Value = Column> {
    let value = prop_oneof![
        6 => prop::sample::select(vec![0.0, -0.0, 1.5, -2.25, 1e300, f64::MIN_POSITIVE / 2.0]),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ];
    (prop::collection::vec(prop::option::of(value), rows), any::<bool>()).prop_map(
        |(values, narrow)| match narrow {
            true => {
                let values: Vec<_> = values.iter().map(|v| v.map(|v| v as f32)).collect();
                let array = values.iter().copied().collect::<Float32Array>();
                (Arc::new(array) as ArrayRef, cells(&values, |v| Cell::Double(f64::from(v))))
            }
            false => (
                Arc::new(values.iter().copied().collect::<Float64Array>()) as ArrayRef,
                cells(&values, Cell::Double),
            ),
        },
    )
}

/// `unit` is what an integer counts, in nanoseconds.
fn instant_column(rows: usize, unit: i64) -> impl Strategy<Value = Column> {
    let micros = prop_oneof![
        6 => (NOON - 10_000_000..NOON).prop_map(Some),
        2 => (-2_000_000..2_000_000i64).prop_map(Some),
        1 => (LATEST.0 - 1..LATEST.0 + 2).prop_map(Some),
        1 => Just(None),
    ];
    let extreme = prop::option::weighted(0.05, prop::sample::select(vec![i64::MAX, i64::MIN]));
    let value = (micros, extreme);
    (prop::collection::vec(value, rows), 0..6u8).prop_map(move |(values, form)| {
        let nanos = match form {
            0 => 1_000_000_000,
            1 => 1_000_000,
            2 => 1_000,
            3 => 1,
            _ => unit,
        };
        // Half a microsecond more, to be cut off.
        let count = |m: i64| (i128::from(m) * 1_000 + 500).div_euclid(i128::from(nanos)) as i64;
        let values: Vec<Option<i64>> =
            values.into_iter().map(|(m, extreme)| m.map(|m| extreme.unwrap_or(count(m)))).collect();
        let counts = values.iter().copied();
        let array: ArrayRef = match form {
            0 => Arc::new(counts.collect::<TimestampSecondArray>()),
            1 => Arc::new(counts.collect::<TimestampMillisecondArray>().with_timezone("UTC")),
            2 => Arc::new(counts.collect::<TimestampMicrosecondArray>().with_timezone("+00:00")),
            3 => Arc::new(counts.collect::<TimestampNanosecondArray>()),
            _ => Arc::new(counts.collect::<Int64Array>()),
        };
        (array, cells(&values, |v| Cell::Instant(v, nanos)))
    })
}

fn bool_column(rows: usize) -> impl Strategy<Value = Column> {
    prop::collection::vec(any::<Option<bool>>(), rows).prop_map(|values| {
        let array = values.iter().copied().collect::<BooleanArray>();
        (Arc::new(array) as ArrayRef, cells(&values, Cell::Bool))
    })
}

/// Columns for the stream `all`, in the order of its fields.
fn columns() -> impl Strategy<Value = Vec<Column>> {
    (1..12usize).prop_flat_map(|rows| {
        let first = (
            int_column(rows, i64::MAX),
            text_column(rows, &["a", "b", "é", ""]),
            instant_column(rows, 1_000_000),
            text_column(rows, &["i1", "i2", "i3", ""]),
            int_column(rows, i64::MAX),
            int_column(rows, 3),
        );
        let second = (
            text_column(rows, &["upsert", "delete", "undo", ""]),
            text_column(rows, &["", "", "", "i1"]),
            bool_column(rows),
            double_column(rows),
            bytes_column(rows),
            instant_column(rows, 1_000_000_000),
        );
        (first, second).prop_map(|((a, b, c, d, e, f), (g, h, i, j, k, l))| {
            vec![a, b, c, d, e, f, g, h, i, j, k, l]
        })
    })
}

// === the reference ===

type Refused = (RejectReason, String);

fn bad(field: &str) -> Refused {
    (RejectReason::BadRow, field.to_owned())
}

fn logical(cell: &Cell, field: &str) -> Result<Value, Refused> {
    Ok(match cell {
        Cell::Null => Value::Null,
        Cell::Bool(v) => Value::Bool(*v),
        Cell::Int(v) => Value::Int64(*v),
        Cell::Double(v) => canonical_double(*v).map(Value::Double).ok_or_else(|| bad(field))?,
        Cell::Text(v) => Value::String(v.as_str().into()),
        Cell::Bytes(v) => Value::Bytes(v.as_slice().into()),
        Cell::Instant(count, nanos) => {
            let micros = (i128::from(*count) * i128::from(*nanos)).div_euclid(1_000);
            let micros = i64::try_from(micros).map_err(|_| bad(field))?;
            Value::Timestamp(Micros(micros))
        }
    })
}

/// Everything semantics §3 says of one row of `all`, word by word.
fn reference(
    stream: &Stream,
    cells: &[&Cell],
    producer: &str,
    sequence: u64,
) -> Result<Vec<Fact>, Refused> {
    let mut row = Vec::new();
    let mut bytes = 1;
    for (cell, field) in cells.iter().zip(&stream.fields) {
        let value = logical(cell, &field.name)?;
        bytes = match &value {
            Value::Null => bytes,
            _ => Row::from_values(&[row.as_slice(), std::slice::from_ref(&value)].concat())
                .as_bytes()
                .len(),
        };
        if bytes > 48 * 1024 {
            return Err((RejectReason::TooLarge, field.name.clone()));
        }
        row.push(value);
    }
    let text = |i: usize| match &row[i] {
        Value::String(v) if !v.is_empty() => Some(v.to_string()),
        _ => None,
    };
    let undoes = text(7);
    let op = match (&undoes, text(6).as_deref()) {
        (Some(_), _) | (None, Some("undo")) => Op::Retract,
        (None, Some("delete")) => Op::End,
        _ => Op::Assert,
    };
    let at = match (&row[2], op) {
        (Value::Timestamp(at), _) => *at,
        (_, Op::Retract) => Micros(0),
        _ => return Err(bad("ts")),
    };
    let natural = |i: usize, name: &str| match row[i] {
        Value::Int64(v) if v < 0 => Err(bad(name)),
        Value::Int64(v) => Ok(v as u64),
        _ => Ok(0),
    };
    let seq = natural(5, "seq")?;
    let mut revision = natural(4, "rev")?;
    if undoes.is_some() {
        revision = u64::MAX;
    }
    let id = match (undoes.clone(), &row[3]) {
        (Some(id), _) => id,
        (None, Value::String(id)) => id.to_string(),
        (None, _) => format!("{producer}/{sequence:020}"),
    };
    let Value::Int64(user) = row[0] else {
        return Err((RejectReason::MissingKey, "user".to_owned()));
    };
    let item = text(1);
    if op != Op::Retract && at > LATEST {
        return Err((RejectReason::AtOutOfBounds, "ts".to_owned()));
    }
    if id.len() > ID_BYTES_MAX {
        let field = if undoes.is_some() { "undoes" } else { "id" };
        return Err((RejectReason::TooLarge, field.to_owned()));
    }
    let mut keys = vec![(0, vec![KeyPart::Int64(user)])];
    if let Some(item) = &item {
        keys.push((1, vec![KeyPart::String(item)]));
        keys.push((2, vec![KeyPart::Int64(user), KeyPart::String(item)]));
    }
    let too_large = |field: &str| (RejectReason::TooLarge, field.to_owned());
    let mut facts = Vec::new();
    for (kind, parts) in keys {
        let key = EntityKey::try_new(&parts).map_err(|_| too_large("item"))?;
        let row = Row::from_values(&row);
        if key.as_bytes().len() + id.len() + row.as_bytes().len() > 48 * 1024 {
            return Err(too_large(""));
        }
        let known_at = None;
        let id = id.as_bytes().into();
        facts.push(Fact {
            stream: StreamId(0),
            entity: Entity { kind: millrace_types::KindId(kind), key },
            body: FactBody { id, revision, at, seq, op, row, known_at },
        });
    }
    Ok(facts)
}

/// The facts of a batch by the index of the row, read back from its pieces; checks slots and
/// fingerprints on the way.
fn read_back(batch: &EncodedBatch, slots: Slots) -> BTreeMap<u32, Vec<Fact>> {
    let mut facts: BTreeMap<u32, Vec<Fact>> = BTreeMap::new();
    for request in 0..batch.requests() {
        let given = batch.slot_facts(request);
        assert!(given.windows(2).all(|pair| pair[0].slot < pair[1].slot));
        for (piece, given) in batch.pieces(request).iter().zip(given) {
            assert!(given.facts.len() <= PIECE_BYTES_MAX);
            let read: Vec<_> = records(&given.facts).map(|r| r.unwrap()).collect();
            assert_eq!(read.len(), given.count as usize);
            for ((record, print), row) in
                read.iter().zip(&given.fingerprints).zip(batch.facts_of(piece))
            {
                let fact = record.to_fact().unwrap();
                let kind = &batch.catalog.kinds[usize::from(fact.entity.kind.0)].name;
                let hash = entity_hash(kind, fact.entity.key.as_bytes());
                assert_eq!((slots.slot_of(hash), fingerprint(hash)), (given.slot, *print));
                facts.entry(*row).or_default().push(fact);
            }
        }
    }
    for facts in facts.values_mut() {
        facts.sort_by_key(|fact| fact.entity.kind);
    }
    facts
}

fn job<'a>(
    catalog: &'a Arc<Catalog>,
    stream: &'a str,
    sequences: &'a Sequences,
    payload: &'a Payload,
) -> Job<'a> {
    Job {
        catalog,
        stream,
        producer: "p",
        sequences,
        payload,
        seen: &[],
        latest_at: LATEST,
        bytes_max: 64 << 20,
    }
}

fn record_batch(stream: &Stream, columns: &[Column]) -> RecordBatch {
    let named = stream
        .fields
        .iter()
        .zip(columns)
        .map(|(field, (array, _))| (field.name.as_str(), Arc::clone(array), true));
    // Not in the catalog's order, and with one more column, which is ignored.
    let extra: ArrayRef = Arc::new(NullArray::new(columns[0].0.len()));
    let columns = std::iter::once(("extra", extra, true)).chain(named.rev());
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn encodes_what_the_reference_says(columns in columns(), bits in 0..7u32, seen_mask: u16) {
        let catalog = catalog(1);
        let stream = &catalog.streams[0];
        let slots = Slots::try_new(1 << bits).unwrap();
        let rows = columns[0].1.len();
        let batch = record_batch(stream, &columns);
        let payload = ArrowStreams::default().accept("all", ipc(&batch)).unwrap();
        let payload = Payload::Arrow(payload);
        let sequences = Sequences::try_new(7, 0, Vec::new(), rows).unwrap();
        let seen: Vec<Seen> = (0..rows)
            .map(|i| if seen_mask >> i & 1 == 1 { Seen::Yes } else { Seen::No })
            .collect();
        let job = Job { seen: &seen, ..job(&catalog, "all", &sequences, &payload) };
        let encoded = Encoder::new(slots).encode(job).unwrap();
        let facts = read_back(&encoded, slots);
        let mut max_at = None;
        for row in 0..rows {
            let cells: Vec<&Cell> = columns.iter().map(|(_, cells)| &cells[row]).collect();
            let expected = reference(stream, &cells, "p", 7 + row as u64);
            let refusal = encoded.refusals.iter().find(|(index, ..)| *index as usize == row);
            let found = match refusal {
                Some((_, refusal, _)) => {
                    prop_assert_eq!(encoded.fates[row], Fate::Refused);
                    let field = refusal.field_name(Some(stream)).to_owned();
                    Err((refusal.rule.reason(), field))
                }
                None => Ok(facts.get(&(row as u32)).cloned().unwrap_or_default()),
            };
            if let Ok(facts) = &expected {
                let at = facts.iter().find(|f| f.body.op != Op::Retract).map(|f| f.body.at);
                max_at = max_at.max(at);
            }
            match seen[row] {
                Seen::Yes if expected.is_ok() => {
                    prop_assert_eq!((encoded.fates[row], found), (Fate::Seen, Ok(Vec::new())));
                }
                Seen::Yes | Seen::No => prop_assert_eq!(found, expected),
            }
        }
        prop_assert_eq!(encoded.max_at, max_at);
    }
}

/// Clicks of one user with ids of this length.
fn clicks(rows: usize, id_bytes: usize) -> RecordBatch {
    let ids = (0..rows).map(|i| Some(format!("{i:0id_bytes$}")));
    let columns: [(&str, ArrayRef); 5] = [
        ("user_id", Arc::new(Int64Array::from(vec![42; rows]))),
        ("event_id", Arc::new(ids.collect::<StringArray>())),
        ("ts", Arc::new(Int64Array::from(vec![NOON / 1_000; rows]))),
        ("item_id", Arc::new(Int64Array::from(vec![7; rows]))),
        ("dwell_ms", Arc::new(Int32Array::from(vec![900; rows]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn arrow_payload(stream: &str, batch: &RecordBatch) -> Payload {
    Payload::Arrow(ArrowStreams::default().accept(stream, ipc(batch)).unwrap())
}

#[test]
fn more_than_a_chunk_for_one_slot_is_cut_into_requests_in_order() {
    let (catalog, slots) = (catalog(1), Slots::try_new(64).unwrap());
    let payload = arrow_payload("clicks", &clicks(3_000, 500));
    let sequences = Sequences::try_new(0, 0, Vec::new(), 3_000).unwrap();
    let encoded =
        Encoder::new(slots).encode(job(&catalog, "clicks", &sequences, &payload)).unwrap();
    // About 1,050 bytes a record, since the id stands in the row too.
    assert_eq!(encoded.requests(), 4);
    let order: Vec<u32> =
        (0..4).flat_map(|request| encoded.facts_of(&encoded.pieces(request)[0]).to_vec()).collect();
    assert_eq!(order, (0..3_000).collect::<Vec<u32>>());
    assert_eq!(read_back(&encoded, slots).len(), 3_000);
}

#[test]
fn facts_of_an_unknown_stream_are_refused_one_by_one() {
    let catalog = catalog(1);
    let payload = arrow_payload("other", &clicks(3, 8));
    let sequences = Sequences::try_new(0, 0, Vec::new(), 3).unwrap();
    let mut encoder = Encoder::new(Slots::try_new(1).unwrap());
    let encoded = encoder.encode(job(&catalog, "other", &sequences, &payload)).unwrap();
    assert_eq!(encoded.fates, [Fate::Refused; 3]);
    assert_eq!(encoded.refusals[2].1.rule.reason(), RejectReason::UnknownStream);
    assert_eq!(encoded.requests(), 0);
}

#[test]
fn typed_rows_say_the_same_as_columns() {
    use millrace_proto::v1::{Value as Wire, value::Kind};
    let catalog = catalog(1);
    let row = |values: &[(&str, Kind)]| TypedRow {
        values: values
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), Wire { kind: Some(kind.clone()) }))
            .collect(),
    };
    let int = Kind::Int64;
    let text = |text: &str| Kind::String(text.to_owned());
    let at = Kind::Timestamp(prost_types::Timestamp { seconds: NOON / 1_000_000, nanos: 1_999 });
    let user = ("user", int(1));
    let rows = vec![
        row(&[user.clone(), ("id", text("a")), ("ts", at.clone()), ("price", int(3))]),
        // In the unit of the field, milliseconds; what the catalog does not name is ignored.
        row(&[user.clone(), ("id", text("b")), ("ts", int(NOON / 1_000)), ("x", int(3))]),
        row(&[user.clone(), ("id", text("c")), ("ts", at.clone()), ("price", int((1 << 53) + 1))]),
        row(&[user.clone(), ("id", text("d")), ("ts", at.clone()), ("flag", text("true"))]),
        row(&[user.clone(), ("id", text("e"))]),
    ];
    let payload = Payload::Typed(rows);
    let sequences = Sequences::try_new(0, 0, Vec::new(), 5).unwrap();
    let slots = Slots::try_new(1).unwrap();
    let encoded = Encoder::new(slots).encode(job(&catalog, "all", &sequences, &payload)).unwrap();
    let refused: Vec<_> = encoded
        .refusals
        .iter()
        .map(|(index, refusal, id)| {
            let id = String::from_utf8_lossy(id).into_owned();
            (*index, refusal.field_name(encoded.stream()).to_owned(), id)
        })
        .collect();
    let named = |index, field: &str, id: &str| (index, field.to_owned(), id.to_owned());
    assert_eq!(refused, [named(2, "price", "c"), named(3, "flag", "d"), named(4, "ts", "e")]);
    let facts = read_back(&encoded, slots);
    assert_eq!(facts[&0][0].body.at, Micros(NOON + 1));
    assert_eq!(facts[&0][0].body.row.view().get(9).to_value(), Value::Double(3.0));
    assert_eq!(facts[&1][0].body.at, Micros(NOON));
}
