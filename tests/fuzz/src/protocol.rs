//! Messages of the protocol: those of clients, and those between services.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use millrace_client::arrow::ArrowEncoder;
use millrace_client::wire::credits::{Load, Loaded as _};
use millrace_client::{Payload, wire};
use millrace_feature_serving::decoders;
use millrace_ingest::arrow::ArrowStreams;
use millrace_ingest::encode::{Encoder, Job, Payload as Facts};
use millrace_ingest::ingest::Batch;
use millrace_placement::Slots;
use millrace_proto::convert::{from_timestamp, key_parts};
use millrace_proto::v1;
use millrace_types::{FieldType, Micros, Position, Row, Value, ValueRef};
use prost::Message;

use crate::history::HISTORY;
use crate::{files, store};

const PRODUCER: &str = "producer";

/// A message decoded and taken for what it stands for.
type Decode = fn(&[u8]) -> bool;

/// Decodes a message, which must be written again as it was read.
fn decoded<M: Message + Default + Debug>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    let bytes = message.encode_to_vec();
    let again = M::decode(bytes.as_slice()).expect("what was encoded decodes");
    // Bytes are compared, as NaN is not equal to itself; sorted, as maps have no order.
    let sorted = |mut bytes: Vec<u8>| {
        bytes.sort_unstable();
        bytes
    };
    assert_eq!(sorted(again.encode_to_vec()), sorted(bytes), "{message:?}");
    Some(message)
}

/// What the first byte chooses from.
const MESSAGES: [Decode; 21] = [
    |data| decoded::<v1::PublishRequest>(data).is_some_and(publish),
    |data| {
        let read = |request: v1::GetFeaturesRequest| {
            request.entities.iter().all(|key| key_parts(key).is_ok())
        };
        decoded(data).is_some_and(read)
    },
    |data| decoded(data).is_some_and(|value: v1::Value| Value::try_from(&value).is_ok()),
    |data| decoded(data).is_some_and(|row: v1::Row| Row::try_from(&row).is_ok()),
    |data| {
        decoded(data).is_some_and(|request: v1::ProcessRequest| {
            let Ok(read) = wire::join::read_process(request) else { return false };
            let again = wire::join::read_process(wire::join::process_request(&read));
            assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(read)));
            true
        })
    },
    |data| {
        decoded(data).is_some_and(|judged: v1::SlotJudgement| {
            let Ok(read) = wire::join::read_judgement(judged) else { return false };
            let again = wire::join::read_judgement(wire::join::judgement(&read));
            assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(read)));
            true
        })
    },
    |data| decoded(data).is_some_and(|slot| wire::join::read_owned_slot(slot).is_ok()),
    |data| decoded(data).is_some_and(|request| wire::store::read_append(request).is_ok()),
    |data| decoded(data).is_some_and(|name| wire::store::read_part_name(name).is_ok()),
    |data| decoded(data).is_some_and(|put| wire::store::read_part_put(put).is_ok()),
    |data| decoded(data).is_some_and(|value| wire::store::read_loaded(value).is_some()),
    |data| {
        decoded(data).is_some_and(|row: v1::EpochRow| {
            let read = wire::store::read_epoch_row(row);
            assert_eq!(wire::store::read_epoch_row(wire::store::epoch_row(&read)), read);
            true
        })
    },
    |data| {
        decoded(data).is_some_and(|row: v1::NodeRow| {
            let read = wire::store::read_node_row(&row);
            assert_eq!(wire::store::read_node_row(&wire::store::node_row(&read)), read);
            true
        })
    },
    |data| {
        decoded(data).is_some_and(|position: v1::LogPosition| {
            let read = Position::from(position);
            assert_eq!(Position::from(v1::LogPosition::from(read)), read);
            true
        })
    },
    |data| decoded(data).is_some_and(|instant| from_timestamp(&instant).is_ok()),
    |data| decoded(data).is_some_and(decoders::training_start),
    |data| {
        decoded(data).is_some_and(|member: v1::Member| {
            let read = wire::store::read_member(member);
            assert_eq!(wire::store::read_member(wire::store::member(&read)), read);
            true
        })
    },
    |data| {
        decoded(data).is_some_and(|request: v1::SuspectEntitiesRequest| {
            let Ok(read) = wire::join::read_suspects(&request.entities) else { return false };
            let again: Vec<_> = read.iter().map(wire::store::stored_entity).collect();
            assert_eq!(again, request.entities);
            !read.is_empty()
        })
    },
    |data| {
        decoded(data).is_some_and(|sample: v1::AnswerSample| {
            let again = wire::store::sample(wire::store::read_sample(sample.clone()));
            assert_eq!(again, sample);
            true
        })
    },
    |data| decoded(data).is_some_and(|request: v1::AppendRequest| credits(request.load())),
    |data| decoded(data).is_some_and(|load: v1::Credits| credits(load.into())),
];

/// A message of this load, sent where credits are shared: what both ends count never wraps around.
fn credits(load: Load) -> bool {
    let most = Load { facts: u64::MAX, bytes: u64::MAX };
    for allowed in [Load::default(), Load { facts: 1_000, bytes: 1 << 20 }, load, most] {
        for calls in [0, 1, 3, usize::MAX] {
            let share = allowed.share(calls);
            assert!(share.facts >= 1 && share.bytes >= 1, "a share is never nothing: {allowed:?}");
            let mut under_way = Load::default();
            assert!(under_way.admits(load, share), "a message goes alone whatever it takes");
            under_way.add(load);
            let more = under_way.admits(load, share);
            under_way.add(load);
            let fits = under_way.facts <= share.facts && under_way.bytes <= share.bytes;
            assert!(!more || fits || load == Load::default(), "{load:?} twice within {share:?}");
            assert!(under_way.facts >= load.facts && under_way.bytes >= load.bytes);
            under_way.remove(load);
            under_way.remove(load);
            assert_eq!(under_way, Load::default(), "what is answered is given back");
        }
    }
    true
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let row = v1::Row { values: [1, 2].map(|n| v1::Value::from(ValueRef::Int64(n))).to_vec() };
    let named = [("i".to_owned(), row.values[0].clone())].into();
    let publish = v1::PublishRequest {
        rows: vec![v1::TypedRow { values: named }],
        arrow_ipc: Bytes::new(),
        ..request()
    };
    let key =
        v1::EntityKey { parts: vec![v1::KeyPart { kind: Some(v1::key_part::Kind::Int64(7)) }] };
    let get = v1::GetFeaturesRequest {
        view: "view".to_owned(),
        entities: vec![key],
        features: vec!["feature".to_owned()],
        ..Default::default()
    };
    let position = v1::LogPosition::from(Position { epoch: 1, sequence: 5 });
    let start = v1::TrainingSetStart {
        views: vec![v1::TrainingView { view: "view".to_owned(), features: Vec::new() }],
        rows: Some(v1::training_set_start::Rows::Spine(v1::SpineRows::default())),
        known_at: Some(v1::training_set_start::KnownAt::Latest(v1::AsKnownLatest {})),
        ..Default::default()
    };
    let suspects = v1::SuspectEntitiesRequest {
        slot: 1,
        entities: vec![wire::store::stored_entity(&HISTORY.snapshots[0].0)],
    };
    let sample = v1::AnswerSample { place: 3, ver_us: 9, sample: Bytes::from_static(b"sample") };
    let chunk = v1::ChunkAppend { chunk: HISTORY.chunks[0].clone().into(), ..Default::default() };
    let append = v1::AppendRequest { chunks: vec![chunk], ..Default::default() };
    [
        (0, request().encode_to_vec()),
        (0, publish.encode_to_vec()),
        (1, get.encode_to_vec()),
        (2, row.values[0].encode_to_vec()),
        (3, row.encode_to_vec()),
        (13, position.encode_to_vec()),
        (15, start.encode_to_vec()),
        (16, wire::store::member(&store::member()).encode_to_vec()),
        (17, suspects.encode_to_vec()),
        (18, sample.encode_to_vec()),
        (19, append.encode_to_vec()),
        (20, v1::Credits { facts: u64::MAX, bytes: 7 }.encode_to_vec()),
    ]
    .into_iter()
    .map(|(which, bytes)| [vec![which], bytes].concat())
    .collect()
}

/// One of the messages, chosen by the first byte.
pub(crate) fn message(data: &[u8]) -> bool {
    let Some((which, data)) = data.split_first() else { return false };
    MESSAGES[usize::from(*which) % MESSAGES.len()](data)
}

/// The payload of a seed: a schema and a batch.
static PAYLOAD: LazyLock<Bytes> = LazyLock::new(|| {
    let batch = files::batch();
    let mut encoder = ArrowEncoder::try_new(&batch.schema()).expect("a stream's schema is plain");
    match encoder.encode(&batch).expect("a batch can be encoded") {
        Payload::Arrow { schema, batches, .. } => [schema, batches].concat().into(),
        Payload::None | Payload::Rows(_) => Bytes::new(),
    }
});

fn request() -> v1::PublishRequest {
    v1::PublishRequest {
        producer_id: PRODUCER.to_owned(),
        stream: files::stream().name.clone(),
        first_sequence: 1,
        arrow_ipc: PAYLOAD.clone(),
        ..Default::default()
    }
}

pub(crate) fn arrow_seeds() -> Vec<Vec<u8>> {
    vec![PAYLOAD.to_vec(), SPINE.to_vec()]
}

/// An Arrow payload of the stream, or of a spine of any view.
pub(crate) fn arrow(data: &[u8]) -> bool {
    let payload = Bytes::copy_from_slice(data);
    let catalog = &HISTORY.catalog;
    let spines = catalog.views.iter().filter(|v| decoders::spine(catalog, v, payload.clone()));
    let taken = spines.count() > 0;
    publish(v1::PublishRequest { arrow_ipc: payload, ..request() }) || taken
}

/// A spine for the first view: a row with a key of its kind.
static SPINE: LazyLock<Bytes> = LazyLock::new(|| {
    let catalog = &HISTORY.catalog;
    let view = catalog.views.first().expect("the history has a view");
    let stream = catalog.stream_by_id(view.events).expect("a checked catalog");
    let key = stream.key_for(view.entity).expect("a checked catalog");
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for field in &key.fields {
        let field = &stream.fields[*field];
        let column: ArrayRef = match field.ty {
            FieldType::String => Arc::new(StringArray::from(vec!["k"])),
            FieldType::Int64
            | FieldType::Bool
            | FieldType::Double
            | FieldType::Bytes
            | FieldType::Timestamp => Arc::new(Int64Array::from(vec![7])),
        };
        columns.push((field.name.clone(), column));
    }
    columns.push(("at".to_owned(), Arc::new(Int64Array::from(vec![1]))));
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one row");
    let mut encoder = ArrowEncoder::try_new(&batch.schema()).expect("plain columns");
    match encoder.encode(&batch).expect("a batch can be encoded") {
        Payload::Arrow { schema, batches, .. } => [schema, batches].concat().into(),
        Payload::None | Payload::Rows(_) => Bytes::new(),
    }
});

/// A batch, read and encoded into facts, of which each is routed, seen or refused.
fn publish(request: v1::PublishRequest) -> bool {
    let mut streams = ArrowStreams::default();
    let Ok(batch) = Batch::read(request, &mut streams, Micros::MAX) else { return false };
    let Ok(slots) = Slots::try_new(4) else { return false };
    let job = Job {
        catalog: &HISTORY.catalog,
        stream: &batch.stream,
        producer: &batch.producer,
        sequences: &batch.sequences,
        payload: &batch.payload,
        seen: &[],
        known_at: &batch.known_at,
        now: Micros::MAX,
        latest_at: Micros::MAX,
        bytes_max: 8 << 20,
    };
    let Ok(encoded) = Encoder::new(slots).encode(job) else { return false };
    assert_eq!(encoded.facts(), batch.payload.facts(), "each fact has a fate");
    !matches!(batch.payload, Facts::Empty)
}
