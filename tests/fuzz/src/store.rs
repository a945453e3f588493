//! The small rows of the store: marks, producer windows, leases, keys, values, samples of answers.

use millrace_store::Mark;
use millrace_store::encoding::{decode_mark, encode_mark};
use millrace_store::window::ProducerWindow;
use millrace_store_fjall::decoders;
use millrace_types::codec::Reader;
use millrace_types::row::{Row, RowView, read_value};
use millrace_types::{EntityKey, KeyPart, Value};

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
    let sample = (5, millrace_feature_serving::decoders::sample_of(entity.clone()));
    all.into_iter()
        .chain(ours)
        .chain([sample])
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

/// One of the rows, chosen by the first byte.
pub(crate) fn row(data: &[u8]) -> bool {
    let Some((which, data)) = data.split_first() else { return false };
    match which % 6 {
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
        _ => millrace_feature_serving::decoders::parity_sample(data),
    }
}
