//! Keys and values as bytes, and the hours that the log is split by.

use bytes::{BufMut, Bytes};
use millrace_store::{Part, StoreError};
use millrace_types::{Entity, KnownAt};

const HOUR_US: i64 = 3_600_000_000;

/// The hour of a chunk, by its own known_at.
pub(crate) fn hour(known_at: KnownAt) -> i32 {
    let hour = known_at.0.div_euclid(HOUR_US);
    i32::try_from(hour).unwrap_or(if hour < 0 { i32::MIN } else { i32::MAX })
}

/// The partition of an entity's snapshot: its kind and its encoded key.
pub(crate) fn entity(entity: &Entity) -> Vec<u8> {
    let key = entity.key.as_bytes();
    let mut out = Vec::with_capacity(2 + key.len());
    out.put_u16(entity.kind.0);
    out.extend_from_slice(key);
    out
}

/// The name of a part in it: a tag, and for immutable parts their version and number, in order.
pub(crate) fn part(part: Part) -> Vec<u8> {
    let mut out = Vec::with_capacity(13);
    let (tag, name) = match part {
        Part::Head => (0, None),
        Part::RebuiltHead(ver) => (1, Some((ver, 0))),
        Part::Page(ver, number) => (2, Some((ver, number))),
        Part::Ids(ver, number) => (3, Some((ver, number))),
    };
    out.put_u8(tag);
    if let Some((KnownAt(ver), number)) = name {
        out.put_u64(ver.cast_unsigned() ^ (1 << 63));
        out.put_u32(number);
    }
    out
}

/// The name of a part read back; `None` when it is none.
pub(crate) fn read_part(bytes: &[u8]) -> Option<Part> {
    let (tag, rest) = bytes.split_first()?;
    let name = || {
        let (ver, number) = rest.split_first_chunk()?;
        let ver = KnownAt((u64::from_be_bytes(*ver) ^ (1 << 63)).cast_signed());
        Some((ver, u32::from_be_bytes(number.try_into().ok()?)))
    };
    match tag {
        0 if rest.is_empty() => Some(Part::Head),
        // A second form of one name would be listed, and never found again.
        1 => name().and_then(|(ver, number)| (number == 0).then_some(Part::RebuiltHead(ver))),
        2 => name().map(|(ver, number)| Part::Page(ver, number)),
        3 => name().map(|(ver, number)| Part::Ids(ver, number)),
        _ => None,
    }
}

/// A value with its version in front, so that even of two writes with one timestamp the one of the
/// greater version is kept.
pub(crate) fn versioned(ver: KnownAt, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + bytes.len());
    out.put_u64(ver.0.cast_unsigned() ^ (1 << 63));
    out.extend_from_slice(bytes);
    out
}

/// Takes a value apart. `what` names it should it be damaged.
pub(crate) fn read_versioned(
    what: impl FnOnce() -> String,
    value: Vec<u8>,
) -> Result<(KnownAt, Bytes), StoreError> {
    let Some(ver) = value.first_chunk::<8>() else {
        let reason = format!("{} bytes are too few", value.len());
        return Err(StoreError::Damaged { what: what(), reason });
    };
    let ver = KnownAt((u64::from_be_bytes(*ver) ^ (1 << 63)).cast_signed());
    Ok((ver, Bytes::from(value).slice(8..)))
}

#[cfg(test)]
mod tests {
    use millrace_types::{EntityKey, KeyPart, KindId};

    use super::*;

    #[test]
    fn versions_order_values_and_names() {
        let vers = [i64::MIN, -5, 0, 7, i64::MAX].map(KnownAt);
        assert!(vers.map(|ver| versioned(ver, b"x")).is_sorted());
        assert!(vers.map(|ver| part(Part::Page(ver, 3))).is_sorted());
        for ver in vers {
            let read = read_versioned(String::new, versioned(ver, b"abc")).unwrap();
            assert_eq!(read, (ver, Bytes::from_static(b"abc")));
        }
        let short = read_versioned(|| "mark of slot 3".into(), vec![1, 2]).unwrap_err();
        assert!(short.to_string().starts_with("mark of slot 3 is damaged"), "{short}");
    }

    #[test]
    fn names_and_entities_are_told_apart() {
        let ver = KnownAt(7);
        let parts = [
            Part::Head,
            Part::RebuiltHead(ver),
            Part::Page(ver, 0),
            Part::Page(ver, 1),
            Part::Ids(ver, 0),
        ];
        let mut names: Vec<_> = parts.into_iter().map(part).collect();
        for (name, part) in names.iter().zip(parts) {
            assert_eq!(read_part(name), Some(part));
            assert_eq!(read_part(&name[..name.len() - 1]), None);
        }
        let numbered = [&names[1][..names[1].len() - 1], &[7]].concat();
        assert_eq!(read_part(&numbered), None, "a rebuilt head has no number");
        names.dedup();
        assert_eq!(names.len(), parts.len());
        let of = |kind, id| {
            let key = EntityKey::try_new(&[KeyPart::Int64(id)]).unwrap();
            entity(&Entity { kind: KindId(kind), key })
        };
        assert_ne!(of(1, 5), of(2, 5));
        assert_ne!(of(1, 5), of(1, 6));
    }

    #[test]
    fn hours_are_those_of_the_clock_also_before_the_epoch() {
        for (us, expected) in
            [(0, 0), (HOUR_US - 1, 0), (HOUR_US, 1), (-1, -1), (i64::MAX, i32::MAX)]
        {
            assert_eq!(hour(KnownAt(us)), expected, "{us}");
        }
    }
}
