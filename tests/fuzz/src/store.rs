//! The small rows of the stores: marks, members, erasures, producer windows, leases, keys, values,
//! samples of answers; and the journals of the embedded store.

use millrace_store::encoding::{decode_mark, decode_member, encode_mark, encode_member};
use millrace_store::erasure::{decode_erasure, decode_receipt, encode_erasure, encode_receipt};
use millrace_store::window::ProducerWindow;
use millrace_store::{Erasure, Incarnation, Mark, Member, MemberSlot, NodeId, Receipt};
use millrace_store_fjall::decoders;
use millrace_types::codec::Reader;
use millrace_types::row::{Row, RowView, read_value};
use millrace_types::{EntityKey, KeyPart, Micros, Position, SlotId, Value};

use crate::history::HISTORY;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut window = ProducerWindow::default();
    window.mark(3, 70);
    window.mark(90, 91);
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Int64(-7),
        Value::Double(0.1),
        Value::String("text".into()),
        Value::Bytes(b"\0\xff".as_slice().into()),
    ];
    let key = EntityKey::try_new(&[KeyPart::Int64(-7), KeyPart::String("a\0b")]);
    let row = Row::from_values(&values).as_bytes().to_vec();
    let key = key.expect("a short key").as_bytes().to_vec();
    let entity = &HISTORY.snapshots.first().expect("the history has entities").0;
    let ours = decoders::examples(entity).into_iter();
    let all = [(0, encode_mark(&mark())), (1, window.encode()), (2, key), (3, row)];
    let ours = ours.map(|bytes| (4, bytes.to_vec()));
    let erasure = Erasure { entity: entity.clone(), asked_at: Micros(-7) };
    let others = [
        (5, millrace_feature_serving::decoders::sample_of(entity.clone())),
        (6, encode_member(&member())),
        (7, encode_erasure(&erasure)),
        (8, encode_receipt(&receipt())),
        (10, millrace_store_redis::decoders::example(3, 70, &[0, 0b1000_0000, 1])),
    ];
    let cql = millrace_store_scylla::decoders::examples().into_iter().map(|bytes| (9, bytes));
    all.into_iter()
        .chain(ours)
        .chain(others)
        .chain(cql)
        .map(|(which, bytes)| [vec![which], bytes].concat())
        .collect()
}

/// The mark of the slot of the history.
fn mark() -> Mark {
    let mark = HISTORY.mark.clone().expect("the slot is open");
    Mark {
        position: mark.position,
        closed: mark.closed,
        watermarks: mark.watermarks,
        incarnations: mark.incarnations,
        views: mark.views,
        latest: mark.latest,
        oldest_waiting: mark.oldest_waiting,
        erasures: mark.erasures,
        filled: mark.filled,
        retained: mark.retained,
    }
}

/// A node that offers one of two slots.
pub(crate) fn member() -> Member {
    let slot = |slot, offered_to: Option<&str>| MemberSlot {
        slot: SlotId(slot),
        epoch: 3,
        load: 1_000,
        offered_to: offered_to.map(|node| NodeId(node.to_owned())),
    };
    Member {
        node: NodeId("join-0".to_owned()),
        incarnation: Incarnation(7),
        endpoint: "http://127.0.0.1:7402".to_owned(),
        weight: 2,
        beat: 9,
        leaving: false,
        slots: vec![slot(0, None), slot(1, Some("join-1"))],
    }
}

fn receipt() -> Receipt {
    Receipt {
        slot: SlotId(1),
        position: Position { epoch: 2, sequence: 5 },
        facts: 300,
        chunks: 4,
        entities: 2,
        parts: 7,
    }
}

/// One of the rows, chosen by the first byte.
pub(crate) fn row(data: &[u8]) -> bool {
    let Some((which, data)) = data.split_first() else { return false };
    match which % 11 {
        0 => decode_mark(data).is_ok_and(|mark| {
            let again = decode_mark(&encode_mark(&mark)).expect("what was encoded decodes");
            assert_eq!(again, mark);
            true
        }),
        1 => ProducerWindow::decode(data).is_ok_and(|mut window| {
            let again = ProducerWindow::decode(&window.encode()).expect("what was encoded decodes");
            assert_eq!(again, window);
            let (base, end) = (window.base(), window.end());
            assert!(base <= end, "a window begins before it ends");
            let _ = (window.seen(base), window.seen(end), window.seen(u64::MAX));
            window.mark(end, end.saturating_add(1));
            true
        }),
        2 => EntityKey::from_bytes(data).is_ok_and(|key| {
            let parts: Vec<KeyPart<'_>> = key.parts().collect();
            assert_eq!(EntityKey::try_new(&parts).ok().as_ref(), Some(&key));
            true
        }),
        3 => RowView::check(data).is_ok_and(|row| {
            let values: Vec<Value> = row.values().map(|value| value.to_value()).collect();
            let again = Row::from_values(&values);
            assert!(again.view().total_cmp(row).is_eq(), "{values:?}");
            read_value(&mut Reader::new(data)).is_ok() || data.is_empty()
        }),
        4 => decoders::check(data),
        5 => millrace_feature_serving::decoders::parity_sample(data),
        6 => decode_member(data).is_ok_and(|member| {
            assert_eq!(decode_member(&encode_member(&member)), Ok(member));
            true
        }),
        7 => decode_erasure(data).is_ok_and(|erasure| {
            assert_eq!(decode_erasure(&encode_erasure(&erasure)), Ok(erasure));
            true
        }),
        8 => decode_receipt(data).is_ok_and(|receipt| {
            assert_eq!(decode_receipt(&encode_receipt(&receipt)), Ok(receipt));
            true
        }),
        9 => millrace_store_scylla::decoders::check(data),
        _ => millrace_store_redis::decoders::window(data),
    }
}

/// Journals, behind the number of bytes that are read at a time.
pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let plain = [decoders::journal_batch(7, &[b"value"]), decoders::journal_batch(9, &[b"", b"v"])];
    let within = decoders::journal_batch(8, &[&plain[0], b"another"]);
    [plain.concat(), within, decoders::journal_batch(1, &[])]
        .map(|journal| [&[40][..], &journal].concat())
        .into()
}

/// A journal of the embedded store.
pub(crate) fn journal(data: &[u8]) -> bool {
    let Some((block, data)) = data.split_first() else { return false };
    decoders::journal(data, usize::from(*block))
}
