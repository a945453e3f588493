use arrow_array::builder::StringViewBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    NullArray, StringArray, StringViewArray, StructArray, TimestampMillisecondArray,
};
use arrow_ipc::writer::StreamWriter;
use millrace_placement::Slots;
use millrace_types::Micros;
use proptest::prelude::*;

use super::*;
use crate::batch::Sequences;
use crate::encode::{Encoder, Job, Payload};
use crate::testing::{NOON, catalog, ipc};

/// Clicks, and columns of every nested shape beside them.
fn clicks(rows: usize) -> RecordBatch {
    let n = |i: usize| i as i64;
    let ids: Vec<String> = (0..rows).map(|i| format!("event-{i}")).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "tags",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..rows).map(|i| Some(vec![Some(i as i32); i % 3])),
            )),
        ),
        ("user_id", Arc::new((0..rows).map(n).collect::<Int64Array>())),
        ("event_id", Arc::new(StringArray::from(ids))),
        (
            "colour",
            Arc::new(
                (0..rows).map(|i| ["red", "blue"][i % 2]).collect::<DictionaryArray<Int32Type>>(),
            ),
        ),
        (
            "ts",
            Arc::new(
                (0..rows).map(|i| Some(NOON / 1_000 + n(i))).collect::<TimestampMillisecondArray>(),
            ),
        ),
        (
            "item_id",
            Arc::new((0..rows).map(|i| Some(n(i)).filter(|i| i % 5 > 0)).collect::<Int64Array>()),
        ),
        (
            "view",
            Arc::new((0..rows).map(|i| Some("x".repeat(i % 20))).collect::<StringViewArray>()),
        ),
        ("dwell_ms", Arc::new((0..rows).map(|i| i as i32).collect::<Int32Array>())),
        (
            "nested",
            Arc::new(
                StructArray::try_from(vec![(
                    "a",
                    Arc::new(BooleanArray::from(vec![true; rows])) as ArrayRef,
                )])
                .unwrap(),
            ),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The same batch with another column of this name.
fn replace(batch: &RecordBatch, name: &str, array: ArrayRef) -> RecordBatch {
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let array = if field.name() == name { &array } else { column };
            (field.name().clone(), Arc::clone(array))
        })
        .collect::<Vec<_>>();
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Accepts, decodes and encodes a payload of clicks; gives the number of facts routed.
fn run(payload: &[u8]) -> Result<usize, PayloadError> {
    let payload = ArrowStreams::default().accept("clicks", Bytes::copy_from_slice(payload))?;
    encode(Payload::Arrow(payload), 1 << 20)
}

fn encode(payload: Payload, bytes_max: usize) -> Result<usize, PayloadError> {
    let catalog = catalog(1);
    let Ok(sequences) = Sequences::try_new(0, 0, Vec::new(), payload.facts()) else { return Ok(0) };
    let encoded = Encoder::new(Slots::try_new(4).unwrap()).encode(Job {
        catalog: &catalog,
        stream: "clicks",
        producer: "p",
        sequences: &sequences,
        payload: &payload,
        seen: &[],
        known_at: &[],
        now: Micros(NOON),
        latest_at: Micros(NOON + 300_000_000),
        bytes_max,
    })?;
    Ok(encoded.facts() - encoded.refusals.len())
}

#[derive(Debug, Clone)]
enum Damage {
    Set(prop::sample::Index, u8),
    Word(prop::sample::Index, i64),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, b)| Damage::Set(i, b)),
        4 => (any::<prop::sample::Index>(), prop_oneof![
            Just(0), Just(-1), Just(1), Just(i64::MAX), Just(i64::MIN), Just(1 << 31), any::<i64>(),
        ]).prop_map(|(i, w)| Damage::Word(i, w)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => any::<(prop::sample::Index, prop::sample::Index)>()
            .prop_map(|(a, b)| Damage::Repeat(a, b)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    if bytes.len() < 8 {
        return;
    }
    match damage {
        Damage::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // Lengths, offsets and counts are aligned.
        Damage::Word(at, word) => {
            let at = at.index(bytes.len() / 8) * 8;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Repeat(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.extend(part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn damaged_payloads_are_refused_or_read_but_never_panic(
        rows in 0..9usize,
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        // Ids as plain text, or as views.
        let whole = clicks(rows);
        let batch = match rows % 2 {
            0 => whole,
            _ => {
                let ids = Arc::new(StringViewArray::from_iter((0..rows).map(|i| {
                    Some("a long id, beside the view ".repeat(i % 3))
                })));
                replace(&whole, "event_id", ids)
            }
        };
        let mut bytes = ipc(&batch).to_vec();
        for damage in damages {
            apply(&mut bytes, damage);
        }
        let _ = run(&bytes);
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
        let _ = run(&bytes);
    }
}

#[test]
fn the_schema_of_a_stream_holds_for_the_call() {
    let mut streams = ArrowStreams::default();
    let first = ipc(&clicks(3));
    // A writer that goes on: its second write holds no schema.
    let mut writer = StreamWriter::try_new(Vec::new(), &clicks(3).schema()).unwrap();
    writer.write(&clicks(3)).unwrap();
    let written = writer.get_ref().len();
    writer.write(&clicks(5)).unwrap();
    let second = Bytes::copy_from_slice(&writer.get_ref()[written..]);
    assert_eq!(streams.accept("clicks", second.clone()).unwrap_err(), PayloadError::NoSchema);
    assert_eq!(streams.accept("clicks", first.clone()).unwrap().rows(), 3);
    let next = streams.accept("clicks", second.clone()).unwrap();
    assert_eq!(encode(Payload::Arrow(next), 1 << 20), Ok(5));
    assert_eq!(streams.accept("other", second).unwrap_err(), PayloadError::NoSchema);
    // Whole streams one after the other, with their ends, are taken too.
    writer.finish().unwrap();
    let whole = [writer.get_ref().as_slice(), &first].concat();
    assert_eq!(run(&whole), Ok(11));
    for i in 0..SCHEMAS_MAX - 1 {
        streams.accept(&format!("s{i}"), first.clone()).unwrap();
    }
    assert_eq!(streams.accept("more", first).unwrap_err(), PayloadError::TooManySchemas);
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let batch = clicks(2);
    let field_of = |batch: &RecordBatch| run(&ipc(batch)).unwrap_err().field();
    let without = batch.project(&[0, 1, 2, 3, 4, 6, 7, 8]).unwrap();
    assert_eq!(run(&ipc(&without)), Err(PayloadError::MissingColumn("item_id".to_owned())));
    let twice = batch.project(&[0, 1, 1, 2, 4, 5, 7]).unwrap();
    assert_eq!(run(&ipc(&twice)), Err(PayloadError::RepeatedColumn("user_id".to_owned())));
    let double = replace(&batch, "dwell_ms", Arc::new(Float64Array::from(vec![1.0, 2.0])));
    assert_eq!(field_of(&double), "arrow_ipc.dwell_ms");
    let dictionary = replace(&batch, "event_id", Arc::clone(batch.column(3)));
    assert_eq!(field_of(&dictionary), "arrow_ipc.event_id");
    let local = TimestampMillisecondArray::from(vec![1, 2]).with_timezone("Europe/Berlin");
    assert_eq!(field_of(&replace(&batch, "ts", Arc::new(local))), "arrow_ipc.ts");
    let nulls = replace(&batch, "item_id", Arc::new(NullArray::new(2)));
    assert_eq!(run(&ipc(&nulls)), Ok(2));
}

#[test]
fn views_that_repeat_their_bytes_are_stopped() {
    let rows = 20_000;
    let mut ids = StringViewBuilder::new();
    let block = ids.append_block("x".repeat(40_000).into_bytes().into());
    for _ in 0..rows {
        ids.try_append_view(block, 0, 40_000).unwrap();
    }
    let batch = clicks(rows);
    let columns = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| (field.name().clone(), Arc::clone(column)))
        .filter(|(name, _)| name != "event_id")
        .collect::<Vec<_>>();
    let ids: ArrayRef = Arc::new(ids.finish());
    let batch =
        RecordBatch::try_from_iter(columns.into_iter().chain([("event_id".to_owned(), ids)]));
    let payload = ipc(&batch.unwrap());
    assert!(payload.len() < 3 << 20);
    let payload = ArrowStreams::default().accept("clicks", payload).unwrap();
    let spent = encode(Payload::Arrow(payload), 8 << 20);
    assert_eq!(spent, Err(PayloadError::TooLarge(8 << 20)));
}

/// Arrow panics on offsets and views that end inside an element; found by the damaged payloads.
#[test]
fn a_buffer_that_ends_inside_an_element_is_refused() {
    let rows = 6;
    let views = StringViewArray::from(vec!["x"; rows]);
    for batch in [clicks(rows), replace(&clicks(rows), "event_id", Arc::new(views))] {
        let bytes = ipc(&batch);
        // Metadata holds a buffer as offset and length: one more byte to every length there is.
        let whole = bytes.len();
        let mut refused = 0;
        for at in (0..whole - 8).step_by(8) {
            let mut damaged = bytes.to_vec();
            let length = i64::from_le_bytes(damaged[at..at + 8].try_into().unwrap());
            if (1..whole as i64).contains(&length) {
                damaged[at..at + 8].copy_from_slice(&(length + 1).to_le_bytes());
                refused += usize::from(run(&damaged).is_err());
            }
        }
        assert!(refused > 0);
    }
}
