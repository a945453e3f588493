//! Reads of the past are folded from the log on a path of their own: while it has all it may have, reads
//! of now are answered from heads.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_client::port::{
    CatalogPort as _, EntityOutcome, FeatureOutcome, HeadAnswer, HeadPort, HeadRequest, JoinError,
    SlotPort, SlotStatus,
};
use millrace_feature_serving::{Moment, Read, Reader, ReaderConfig, ReaderPorts};
use millrace_grpc::PeerNetwork;
use millrace_parity_tests::{OneCatalog, SOON};
use millrace_placement::Slots;
use millrace_store::memory::{Call, Fault, FaultPlan, Landing, MemoryStore};
use millrace_store_writer::{Options, StoreWriter};
use millrace_types::{
    Entity, EntityKey, FeatureValue, KeyPart, KnownAt, Micros, Position, SlotId, Status, Value,
};

/// The last confirmed position.
const END: Position = Position { epoch: 1, sequence: 1 };

/// Heads that cover all reads of what is known now, and none of what was known once.
struct Heads;

#[async_trait]
impl HeadPort for Heads {
    async fn read_heads(&self, request: HeadRequest) -> Result<Vec<HeadAnswer>, JoinError> {
        let feature = FeatureOutcome {
            value: FeatureValue::Scalar(Value::Int64(7)),
            status: Status::Present,
            window_start: Micros::MIN,
        };
        let answer = |_: &Entity| match request.known_at == KnownAt::MAX {
            true => HeadAnswer::Answer(EntityOutcome {
                features: vec![feature.clone()],
                position: END,
                known_at: KnownAt(100),
                watermark: None,
                rebuilding: false,
                versions: Vec::new(),
            }),
            false => HeadAnswer::FromLog {
                position: END,
                known_at: KnownAt(100),
                watermark: None,
                rebuilding: false,
            },
        };
        Ok(request.entities.iter().map(answer).collect())
    }
}

#[async_trait]
impl SlotPort for Heads {
    async fn close_up_to(&self, _: SlotId, _: KnownAt) -> Result<Position, JoinError> {
        Ok(END)
    }

    async fn suspect(&self, slot: SlotId, _: Vec<Entity>) -> Result<Position, JoinError> {
        Err(JoinError::NotServing { slot })
    }

    async fn status(&self) -> Result<Vec<SlotStatus>, JoinError> {
        Ok(Vec::new())
    }
}

/// A read of one user, of what was known at an instant or is known now.
fn read(known_at: Option<Micros>) -> Read {
    Read {
        view: "activity".to_owned(),
        keys: vec![EntityKey::try_new(&[KeyPart::Int64(1)]).expect("a short key")],
        features: Vec::new(),
        moment: Moment::Now,
        known_at,
        peer: PeerNetwork::of(None),
    }
}

#[tokio::test]
async fn reads_of_now_do_not_wait_for_reads_of_the_past() {
    let held = Fault::Delayed(Landing::OnDemand);
    let plan = FaultPlan::none().on_first(1_000, Call::ReadLog, held);
    let store = Arc::new(MemoryStore::new().handle(plan));
    let catalog = OneCatalog::counting();
    assert_eq!(catalog.current().views.len(), 1);
    let heads = Arc::new(Heads);
    let ports = ReaderPorts {
        heads: heads.clone(),
        owner: heads,
        store: Arc::new(StoreWriter::spawn(store.clone(), Options::default())),
        catalog: Arc::new(catalog),
    };
    // Longer than the test may take: the reads that are held do not end by themselves.
    let config = ReaderConfig { log_time: Duration::from_secs(600), ..ReaderConfig::default() };
    let slots = Slots::try_new(1).expect("a power of two");
    let reader = Arc::new(Reader::new(&config, ports, slots));
    let at_once = u64::from(config.log_reads.at_once);
    let past: Vec<_> = (0..2 * at_once)
        .map(|_| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.read(read(Some(Micros(100)))).await })
        })
        .collect();
    let reached = async {
        while store.calls(Call::ReadLog) < at_once {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, reached).await.expect("the path is full");

    let now = tokio::time::timeout(SOON, reader.read(read(None))).await;
    let now = now.expect("it does not wait").expect("an answer");
    assert_eq!(now.from_log, 0);
    let value = &now.entities[0].1.features[0].value;
    assert_eq!(value, &FeatureValue::Scalar(Value::Int64(7)));
    assert_eq!(store.calls(Call::ReadLog), at_once, "the path was full all the time");
    assert!(past.iter().all(|read| !read.is_finished()));

    let go_on = async {
        while past.iter().any(|read| !read.is_finished()) {
            store.land();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, go_on).await.expect("the reads of the past go on");
    for read in past {
        let answer = read.await.expect("no panic").expect("an answer");
        assert_eq!(answer.from_log, 1);
    }
}
