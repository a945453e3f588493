//! What a token says is what was answered: entities that are folded from the log together state one position.

use std::sync::Arc;

use async_trait::async_trait;
use millrace_catalog::Catalog;
use millrace_client::port::{
    CatalogPort, HeadAnswer, HeadPort, HeadRequest, JoinError, SlotPort, SlotStatus,
};
use millrace_feature_serving::{Moment, Read, Reader, ReaderConfig, ReaderPorts};
use millrace_grpc::PeerNetwork;
use millrace_kernel::Plan;
use millrace_kernel::slot::{Input, SlotCore};
use millrace_parity_tests::OneCatalog;
use millrace_placement::Slots;
use millrace_store::memory::MemoryStore;
use millrace_store::{Append, Incarnation, LogStore as _, NodeId, SlotEpoch};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::{
    Entity, EntityKey, Fact, FactBody, FeatureValue, KeyPart, KindId, KnownAt, Micros, Op,
    Position, Row, SlotId, StreamId, Value,
};

fn at(sequence: u64) -> Position {
    Position { epoch: 1, sequence }
}

fn user(id: i64) -> EntityKey {
    EntityKey::try_new(&[KeyPart::Int64(id)]).expect("a short key")
}

/// Heads that cover nothing. The second entity is asked for after one more chunk is confirmed.
struct Heads;

#[async_trait]
impl HeadPort for Heads {
    async fn read_heads(&self, request: HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        let answer = |sequence: u64| HeadAnswer::FromLog {
            position: at(sequence),
            known_at: KnownAt(sequence.cast_signed() * 100),
            watermark: Some(Micros(sequence.cast_signed())),
            rebuilding: sequence == 1,
        };
        Ok((1..).take(request.entities.len()).map(answer).collect())
    }
}

#[async_trait]
impl SlotPort for Heads {
    async fn close_up_to(&self, slot: SlotId, _: KnownAt) -> Result<Position, JoinError> {
        Err(JoinError::NotServing { slot })
    }

    async fn suspect(&self, slot: SlotId, _: Vec<Entity>) -> Result<Position, JoinError> {
        Err(JoinError::NotServing { slot })
    }

    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        Ok(Vec::new())
    }
}

/// Two chunks, with a click of each of two users.
async fn log(catalog: &Arc<Catalog>) -> MemoryStore {
    let store = MemoryStore::default();
    let epoch = SlotEpoch {
        epoch: 1,
        node: NodeId("join-0".to_owned()),
        incarnation: Incarnation(1),
        floor: KnownAt(0),
        previous_end: 0,
        released: None,
    };
    store.insert_epoch(SlotId(0), epoch).await.expect("the first epoch");
    let mut core = SlotCore::new(SlotId(0), Arc::new(Plan::new(catalog.clone())));
    core.set_empty();
    core.open_epoch(1);
    for sequence in [1, 2] {
        let mut facts = Vec::new();
        for id in [1, 2] {
            let name = format!("{id}/{sequence}");
            let row = [Value::String(name.as_str().into()), Value::Int64(id)];
            let row = [row.as_slice(), &[Value::Timestamp(Micros(5))]].concat();
            let body = FactBody {
                id: name.as_bytes().into(),
                revision: 0,
                at: Micros(5),
                seq: 0,
                op: Op::Assert,
                row: Row::from_values(&row),
                known_at: None,
            };
            let entity = Entity { kind: KindId(0), key: user(id) };
            Fact { stream: StreamId(0), entity, body }.encode(&mut facts);
        }
        let input = Input {
            incarnation: 1,
            facts: &facts,
            watermarks: &[],
            departs: false,
            replays_late: false,
        };
        let known_at = KnownAt(sequence * 100);
        let draft = core.judge(&[input], known_at).expect("facts").expect("there are some");
        core.confirm(draft.position, known_at);
        let (slot, bytes) = (SlotId(0), draft.bytes.into());
        let append = Append { slot, position: draft.position, known_at, bytes };
        store.append(vec![append]).await.expect("it is written");
    }
    store
}

#[tokio::test]
async fn entities_folded_from_the_log_together_state_where_the_fold_ended() {
    let catalog = OneCatalog::counting();
    let store = Arc::new(log(&catalog.current()).await);
    let heads = Arc::new(Heads);
    let ports = ReaderPorts {
        heads: heads.clone(),
        owner: heads,
        store: Arc::new(StoreWriter::spawn(store, Options::default())),
        catalog: Arc::new(catalog),
    };
    let slots = Slots::try_new(1).expect("a power of two");
    let reader = Reader::new(&ReaderConfig::default(), ports, slots);
    let read = Read {
        view: "activity".to_owned(),
        keys: vec![user(1), user(2)],
        features: Vec::new(),
        moment: Moment::At(Micros(10)),
        known_at: None,
        peer: PeerNetwork::of(None),
    };
    let answer = reader.read(read).await.expect("an answer");
    assert_eq!(answer.from_log, 2);
    let told = answer.entities.iter().map(|(_, of)| {
        let value = of.features[0].value.clone();
        (value, of.position, of.known_at, of.watermark, of.rebuilding)
    });
    // Both have both clicks, so both are of the second chunk. Whether an entity waits is its own.
    let two = FeatureValue::Scalar(Value::Int64(2));
    let of = |rebuilding| (two.clone(), at(2), KnownAt(200), Some(Micros(2)), rebuilding);
    assert_eq!(told.collect::<Vec<_>>(), [of(true), of(false)]);
}
