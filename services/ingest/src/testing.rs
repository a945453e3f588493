//! A catalog with every role and type, and Arrow payloads, for the tests of this crate.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use millrace_catalog::{
    BeyondRepair, Catalog, Field, KeyMapping, Kind, OpMapping, Stream, StreamKind, TimeUnit,
};
use millrace_types::{FieldType, KeyType, KindId, StreamId, Value};

/// The minute after which the tests take place: 2026-03-01T12:00:00Z.
pub(crate) const NOON: i64 = 1_772_366_400_000_000;

fn field(name: &str, ty: FieldType, unit: TimeUnit) -> Field {
    Field { name: name.to_owned(), ty, unit }
}

/// `all`: a changelog with every role and type, routed to `user`, to `item` where it has one, and
/// to the pair of them. `clicks`: the clickprofile events, routed to `user`.
pub(crate) fn catalog(version: u32) -> Arc<Catalog> {
    let kind = |id, name: &str, parts: &[KeyType]| Kind {
        id: KindId(id),
        name: name.to_owned(),
        parts: parts.to_vec(),
    };
    Arc::new(Catalog {
        version,
        kinds: vec![
            kind(0, "user", &[KeyType::Int64]),
            kind(1, "item", &[KeyType::String]),
            kind(2, "pair", &[KeyType::Int64, KeyType::String]),
        ],
        streams: vec![all(), clicks()],
        views: Vec::new(),
        source: Arc::from(""),
    })
}

fn key(kind: u16, fields: &[usize], optional: bool) -> KeyMapping {
    KeyMapping { kind: KindId(kind), fields: fields.to_vec(), optional }
}

fn all() -> Stream {
    use FieldType::{Bool, Bytes, Double, Int64, String, Timestamp};
    let text = |text: &str| Value::String(text.into());
    let micros = |name: &str, ty| field(name, ty, TimeUnit::Micros);
    Stream {
        id: StreamId(0),
        name: "all".to_owned(),
        kind: StreamKind::Changelog,
        keys: vec![key(0, &[0], false), key(1, &[1], true), key(2, &[0, 1], true)],
        at: 2,
        id_field: Some(3),
        seq: Some(5),
        revision: Some(4),
        op: Some(OpMapping { field: 6, retract: vec![text("undo")], end: vec![text("delete")] }),
        retracts: Some(7),
        out_of_orderness_us: 5_000_000,
        repair_us: 86_400_000_000,
        beyond_repair: BeyondRepair::Rebuild,
        retention_us: None,
        forgets: false,
        fields: vec![
            micros("user", Int64),
            micros("item", String),
            field("ts", Timestamp, TimeUnit::Millis),
            micros("id", String),
            micros("rev", Int64),
            micros("seq", Int64),
            micros("op", String),
            micros("undoes", String),
            micros("flag", Bool),
            micros("price", Double),
            micros("blob", Bytes),
            field("day", Timestamp, TimeUnit::Seconds),
        ],
    }
}

fn clicks() -> Stream {
    use FieldType::{Int64, String, Timestamp};
    let micros = |name: &str, ty| field(name, ty, TimeUnit::Micros);
    Stream {
        id: StreamId(1),
        name: "clicks".to_owned(),
        kind: StreamKind::Event,
        keys: vec![key(0, &[0], false)],
        at: 2,
        id_field: Some(1),
        seq: None,
        revision: None,
        op: None,
        retracts: None,
        out_of_orderness_us: 5_000_000,
        repair_us: 86_400_000_000,
        beyond_repair: BeyondRepair::Rebuild,
        retention_us: None,
        forgets: false,
        fields: vec![
            micros("user_id", Int64),
            micros("event_id", String),
            field("ts", Timestamp, TimeUnit::Millis),
            micros("item_id", Int64),
            micros("dwell_ms", Int64),
        ],
    }
}

/// A record batch as an IPC stream, schema first, without an end.
pub(crate) fn ipc(batch: &RecordBatch) -> Bytes {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.get_ref().clone().into()
}
