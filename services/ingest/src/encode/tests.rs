//! The encoder against a reference that knows one row at a time and no columns.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, Int32Array, Int64Array, NullArray, RecordBatch, StringArray};
use millrace_types::chunk::fingerprint;
use millrace_types::entity::entity_hash;
use millrace_types::fact::records;
use millrace_types::{Fact, Op, RejectReason, Value};
use proptest::prelude::*;

use super::*;
use crate::arrow::ArrowStreams;
use crate::testing::{NOON, catalog, ipc};

mod generate;
mod reference;

use generate::{Cell, Column, columns};

const LATEST: Micros = Micros(NOON + 300_000_000);

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
        known_at: &[],
        now: Micros(NOON),
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
    fn encodes_what_the_reference_says(
        columns in columns(),
        bits in 0..7u32,
        seen_mask: u16,
        import in any::<Option<[i8; 16]>>(),
    ) {
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
        // Around now, which is the last instant that may be stated.
        let stated = |of: [i8; 16]| -> Vec<KnownAt> {
            of.iter().cycle().take(rows).map(|after| KnownAt(NOON + i64::from(*after))).collect()
        };
        let known_at = import.map(stated).unwrap_or_default();
        let job = Job {
            seen: &seen,
            known_at: &known_at,
            ..job(&catalog, "all", &sequences, &payload)
        };
        let encoded = Encoder::new(slots).encode(job).unwrap();
        let facts = read_back(&encoded, slots);
        let mut max_at = None;
        for row in 0..rows {
            let cells: Vec<&Cell> = columns.iter().map(|(_, cells)| &cells[row]).collect();
            let stated = known_at.get(row).copied();
            let expected = reference::facts(stream, &cells, "p", 7 + row as u64, stated);
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
        row(&[user.clone(), ("id", text("d")), ("ts", at), ("flag", text("true"))]),
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

/// Rows of two bytes each, and rows of many small values, take far more decoded than on the wire.
#[test]
fn typed_rows_count_with_what_they_take_once_decoded() {
    let decoded = |row: TypedRow| Payload::Typed(vec![row; 1_000]).decoded_bytes();
    assert!(decoded(TypedRow::default()) >= 1_000 * size_of::<TypedRow>());
    let values = (0..20).map(|n| (n.to_string(), millrace_proto::v1::Value::default())).collect();
    // A table of twenty takes 32 places of a name and a value; each name is elsewhere.
    let least = 28 * size_of::<(String, millrace_proto::v1::Value)>() + 20 * 8;
    assert!(decoded(TypedRow { values }) >= 1_000 * least);
    assert_eq!(Payload::Empty.decoded_bytes(), 0);
}
