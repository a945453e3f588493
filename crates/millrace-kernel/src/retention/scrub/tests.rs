//! Rounds of a rewrite, and what a rewritten chunk says.

use millrace_catalog::Catalog;
use millrace_types::chunk::{encode_chunk, fingerprint};
use millrace_types::{Fact, FactBody, KeyPart, KindId, KnownAt, Micros, Row, StreamId, Value};

use super::*;

const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: id
    repair: 1s
    retention: 1d
    fields: {id: string, user_id: int64, ts: timestamp}
  views:
    kind: event
    keys: {user: user_id}
    at: ts
    repair: 1s
    retention: 1d
    fields: {user_id: int64, ts: timestamp}
";

fn fact(stream: u16, user: i64, id: &str, at: i64) -> Fact {
    let key = EntityKey::try_new(&[KeyPart::Int64(user)]).unwrap();
    let body = FactBody {
        id: id.as_bytes().into(),
        revision: 0,
        at: Micros(at),
        seq: 0,
        op: Op::Assert,
        row: Row::from_values(&[Value::String(id.into())]),
        known_at: None,
    };
    Fact { stream: StreamId(stream), entity: Entity { kind: KindId(0), key }, body }
}

fn chunk(facts: &[Fact]) -> Vec<u8> {
    let mut bytes = Vec::new();
    facts.iter().for_each(|fact| fact.encode(&mut bytes));
    let hash = |fact: &Fact| fingerprint(entity_hash("user", fact.entity.key.as_bytes()));
    let mut filter: Vec<u32> = facts.iter().map(hash).collect();
    filter.sort_unstable();
    filter.dedup();
    let ats = || facts.iter().map(|fact| fact.body.at);
    let header = ChunkHeader {
        known_at: KnownAt(5),
        facts: facts.len() as u32,
        at_range: ats().min().zip(ats().max()),
        verdicts: vec![(1, Verdict::Late), (3, Verdict::Duplicate)],
        filter,
        ..ChunkHeader::default()
    };
    encode_chunk(&header, [bytes.as_slice()])
}

fn round(from: u64, max: usize) -> RetentionScrub {
    let plan = Arc::new(Plan::new(Arc::new(Catalog::compile(CATALOG, None).unwrap())));
    let boundaries = [(StreamId(0), Micros(10)), (StreamId(1), Micros(20))];
    RetentionScrub::new(plan, Arc::new(boundaries.into_iter().collect()), from, max)
}

#[test]
fn a_rewritten_chunk_says_what_is_left_and_what_may_be_missing() {
    let facts = [
        fact(0, 1, "gone", 9),
        fact(0, 1, "late", 10),
        fact(0, 2, "moved", 3),
        fact(0, 2, "moved", 30),
        fact(1, 2, "p/1", 19),
        fact(1, 3, "p/2", 20),
    ];
    let bytes = chunk(&facts);
    let chunk = Chunk::decode(bytes.as_slice()).unwrap();
    let mut scrub = round(0, usize::MAX);
    scrub.find(&chunk).unwrap();
    scrub.keep(&chunk).unwrap();
    let mut users = scrub.entities();
    users.sort_unstable();
    assert_eq!(users, [facts[0].entity.clone(), facts[2].entity.clone()]);
    let rest = scrub.rest(&chunk).unwrap().expect("something goes");
    assert_eq!((scrub.facts(), scrub.next()), (2, None));

    let rest = Chunk::decode(rest).unwrap();
    let left: Vec<Fact> = rest.records().map(|r| r.unwrap().to_fact().unwrap()).collect();
    assert_eq!(left, [1, 2, 3, 5].map(|index: usize| facts[index].clone()));
    let header = &rest.header;
    assert_eq!(header.verdicts, [(0, Verdict::Late), (2, Verdict::Duplicate)]);
    assert_eq!(header.at_range, Some((Micros(3), Micros(30))));
    assert_eq!(header.known_at, KnownAt(5));
    let notes = header.retention.clone().expect("it tells of it");
    assert!(notes.base.is_empty());
    assert_eq!(notes.scrubbed.of(StreamId(1)), Micros(20));
    // Another round finds nothing to take out.
    let mut again = round(0, usize::MAX);
    again.find(&rest).unwrap();
    again.keep(&rest).unwrap();
    assert_eq!(again.entities(), []);
    assert_eq!(again.rest(&rest).unwrap(), None);
}

#[test]
fn rounds_take_every_entity_once_whatever_memory_there_is() {
    let facts: Vec<Fact> =
        (0..20).flat_map(|user| (0..3).map(move |n| fact(0, user, &n.to_string(), n))).collect();
    for max in [1, 40, usize::MAX] {
        let mut log = chunk(&facts);
        let (mut from, mut rounds, mut seen) = (0, 0, Vec::new());
        loop {
            let mut scrub = round(from, max);
            let decoded = Chunk::decode(log.clone()).unwrap();
            scrub.find(&decoded).unwrap();
            scrub.keep(&decoded).unwrap();
            seen.extend(scrub.entities());
            rounds += 1;
            log = scrub.rest(&decoded).unwrap().expect("each round takes some");
            match scrub.next() {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(Chunk::decode(log).unwrap().header.facts, 0);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 20);
        assert_eq!(
            rounds,
            match max {
                1 => 20,
                40 => 10,
                _ => 1,
            }
        );
    }
}
