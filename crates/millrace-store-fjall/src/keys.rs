//! Keys: a table's letter, then its key columns in an encoding that keeps their order.

use millrace_store::{Incarnation, NodeId, Part};
use millrace_types::{Entity, EntityKey, KindId, KnownAt, Position, SlotId};

const AUDIT: u8 = b'A';
const CATALOG: u8 = b'C';
const EPOCH: u8 = b'E';
const ERASURE: u8 = b'X';
const LOG: u8 = b'L';
const MARK: u8 = b'M';
const MEMBER: u8 = b'B';
pub(crate) const NODE: u8 = b'N';
pub(crate) const PART: u8 = b'P';
/// What fills a journal up, so that it is replaced: there is no other way to let go of one.
pub(crate) const PADDING: [u8; 1] = [b'Z'];
const RECEIPT: u8 = b'Y';
const REWRITTEN: u8 = b'V';
pub(crate) const RUN: u8 = b'R';
pub(crate) const WINDOW: u8 = b'W';

/// The key of a chunk.
pub(crate) fn chunk(slot: SlotId, position: Position) -> Vec<u8> {
    let mut key = Vec::with_capacity(21);
    key.push(LOG);
    key.extend_from_slice(&slot.0.to_be_bytes());
    key.extend_from_slice(&position.epoch.to_be_bytes());
    key.extend_from_slice(&position.sequence.to_be_bytes());
    key
}

/// The position in the key of a chunk; `None` when it is no such key.
pub(crate) fn position(key: &[u8]) -> Option<Position> {
    let (epoch, sequence) = key.get(5..)?.split_first_chunk::<8>()?;
    let sequence = <[u8; 8]>::try_from(sequence).ok()?;
    Some(Position { epoch: u64::from_be_bytes(*epoch), sequence: u64::from_be_bytes(sequence) })
}

/// The key of an epoch row.
pub(crate) fn epoch(slot: SlotId, epoch: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(EPOCH);
    key.extend_from_slice(&slot.0.to_be_bytes());
    key.extend_from_slice(&epoch.to_be_bytes());
    key
}

/// The key of a node's row.
pub(crate) fn node(node: &NodeId) -> Vec<u8> {
    let mut key = vec![NODE];
    key.extend_from_slice(node.0.as_bytes());
    key
}

/// The key of what a node tells of itself.
pub(crate) fn member(node: &NodeId) -> Vec<u8> {
    let mut key = vec![MEMBER];
    key.extend_from_slice(node.0.as_bytes());
    key
}

/// The first byte of the keys of all members.
pub(crate) fn members() -> [u8; 1] {
    [MEMBER]
}

/// The first bytes of the keys of a node's samples. Names have their length before them, so that none
/// begins like another.
pub(crate) fn samples(node: &NodeId) -> Vec<u8> {
    let name = node.0.as_bytes();
    let mut key = Vec::with_capacity(9 + name.len());
    key.push(AUDIT);
    key.extend_from_slice(&(name.len() as u32).to_be_bytes()); // a name of a setting
    key.extend_from_slice(name);
    key
}

/// The first byte of the keys of all samples.
pub(crate) fn all_samples() -> [u8; 1] {
    [AUDIT]
}

/// The key of a sample's place.
pub(crate) fn sample(node: &NodeId, place: u32) -> Vec<u8> {
    let mut key = samples(node);
    key.extend_from_slice(&place.to_be_bytes());
    key
}

/// The place in the key of a sample; `None` when it is no such key.
pub(crate) fn sample_place(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.strip_prefix(&[AUDIT])?.last_chunk()?))
}

/// The key of a run's row. The incarnation has a fixed size, so names need no length.
pub(crate) fn run(node: &NodeId, incarnation: Incarnation) -> Vec<u8> {
    let mut key = vec![RUN];
    key.extend_from_slice(node.0.as_bytes());
    key.extend_from_slice(&incarnation.0.to_be_bytes());
    key
}

/// The key of a catalog version.
pub(crate) fn catalog(version: u32) -> Vec<u8> {
    let mut key = vec![CATALOG];
    key.extend_from_slice(&version.to_be_bytes());
    key
}

/// The version in the key of a catalog version; `None` when it is no such key.
pub(crate) fn catalog_version(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// The key of an erasure.
pub(crate) fn erasure(number: u64) -> Vec<u8> {
    let mut key = vec![ERASURE];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number in the key of an erasure; `None` when it is no such key.
pub(crate) fn erasure_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// The key of a slot's receipt of an erasure.
pub(crate) fn receipt(number: u64, slot: SlotId) -> Vec<u8> {
    let mut key = vec![RECEIPT];
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(&slot.0.to_be_bytes());
    key
}

/// The key of the version at which a chunk was rewritten last.
pub(crate) fn rewritten(slot: SlotId, position: Position) -> Vec<u8> {
    let mut key = chunk(slot, position);
    key[0] = REWRITTEN;
    key
}

/// What the keys of all parts of an entity begin with.
pub(crate) fn parts(entity: &Entity) -> Vec<u8> {
    let mut key = part(entity, Part::Head);
    key.pop();
    key
}

/// The key of a producer's window.
pub(crate) fn window(producer: &str) -> Vec<u8> {
    let mut key = vec![WINDOW];
    key.extend_from_slice(producer.as_bytes());
    key
}

/// The key of a slot's mark.
pub(crate) fn mark(slot: SlotId) -> Vec<u8> {
    let mut key = vec![MARK];
    key.extend_from_slice(&slot.0.to_be_bytes());
    key
}

/// The key of a snapshot part: the parts of an entity stand together. An entity key of canonical
/// bytes is no prefix of another of its kind, but its length is cheap and needs no proof.
pub(crate) fn part(entity: &Entity, part: Part) -> Vec<u8> {
    let bytes = entity.key.as_bytes();
    let mut key = Vec::with_capacity(18 + bytes.len());
    key.push(PART);
    key.extend_from_slice(&entity.kind.0.to_be_bytes());
    key.extend_from_slice(&(bytes.len() as u16).to_be_bytes()); // at most KEY_BYTES_MAX
    key.extend_from_slice(bytes);
    let (tag, name) = match part {
        Part::Head => (0, None),
        Part::RebuiltHead(ver) => (1, Some((ver, 0))),
        Part::Page(ver, number) => (2, Some((ver, number))),
        Part::Ids(ver, number) => (3, Some((ver, number))),
    };
    key.push(tag);
    if let Some((KnownAt(ver), number)) = name {
        key.extend_from_slice(&(ver.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

/// A part's key read back.
pub(crate) fn read_part(key: &[u8]) -> Option<(Entity, Part)> {
    let (kind, rest) = key.strip_prefix(&[PART])?.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let entity =
        Entity { kind: KindId(u16::from_be_bytes(*kind)), key: EntityKey::from_bytes(bytes).ok()? };
    let name = || {
        let (ver, number) = rest.get(1..)?.split_first_chunk()?;
        let ver = KnownAt((u64::from_be_bytes(*ver) ^ (1 << 63)).cast_signed());
        Some((ver, u32::from_be_bytes(number.try_into().ok()?)))
    };
    // A second form of one name would be listed, and never found again.
    let part = match rest.first()? {
        0 if rest.len() == 1 => Part::Head,
        1 => name().and_then(|(ver, number)| (number == 0).then_some(Part::RebuiltHead(ver)))?,
        2 => name().map(|(ver, number)| Part::Page(ver, number))?,
        3 => name().map(|(ver, number)| Part::Ids(ver, number))?,
        _ => return None,
    };
    Some((entity, part))
}

/// The item of a key as messages show it.
pub(crate) fn describe(key: &[u8]) -> String {
    named(key).unwrap_or_else(|| format!("row {}", key.escape_ascii()))
}

fn named(key: &[u8]) -> Option<String> {
    let (table, rest) = key.split_first()?;
    let slot = || Some(u32::from_be_bytes(*rest.first_chunk()?));
    Some(match *table {
        AUDIT => {
            let name = rest.get(4..rest.len().checked_sub(4)?)?;
            format!("sample {} of node {}", sample_place(key)?, name.escape_ascii())
        }
        CATALOG => format!("catalog version {}", catalog_version(key)?),
        ERASURE => format!("erasure {}", erasure_number(key)?),
        RECEIPT => format!("receipt of erasure {}", u64::from_be_bytes(*rest.first_chunk()?)),
        REWRITTEN => format!("version of chunk {} of slot {}", position(key)?, slot()?),
        EPOCH => {
            let epoch = u64::from_be_bytes(rest.get(4..)?.try_into().ok()?);
            format!("epoch {epoch} of slot {}", slot()?)
        }
        LOG => format!("chunk {} of slot {}", position(key)?, slot()?),
        MARK => format!("mark of slot {}", slot()?),
        NODE => format!("lease of node {}", rest.escape_ascii()),
        RUN => {
            let (node, run) = rest.split_last_chunk()?;
            format!("run {:016x} of node {}", u64::from_be_bytes(*run), node.escape_ascii())
        }
        WINDOW => format!("window of producer {}", rest.escape_ascii()),
        PART => {
            let (entity, part) = read_part(key)?;
            let part = match part {
                Part::Head => "head".to_owned(),
                Part::RebuiltHead(ver) => format!("rebuilt head {}", ver.0),
                Part::Page(ver, number) => format!("page {}.{number}", ver.0),
                Part::Ids(ver, number) => format!("ids {}.{number}", ver.0),
            };
            format!("{part} of entity {} of kind {}", entity.key, entity.kind.0)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_keys_keep_the_order_of_the_log_and_read_back() {
        let places = [(1, 1, 1), (1, 1, 255), (1, 1, 256), (1, 2, 1), (1, 300, 1), (2, 1, 1)];
        let keys: Vec<_> = places
            .iter()
            .map(|&(slot, epoch, sequence)| chunk(SlotId(slot), Position { epoch, sequence }))
            .collect();
        assert!(keys.is_sorted());
        for ((_, epoch, sequence), key) in places.iter().zip(&keys) {
            assert_eq!(position(key), Some(Position { epoch: *epoch, sequence: *sequence }));
        }
        assert_eq!(position(b"L123"), None);
        assert_eq!(describe(&keys[5]), "chunk 1.1 of slot 2");
        assert_eq!(describe(b"L123"), "row L123");
        assert_eq!(catalog_version(&catalog(70_000)), Some(70_000));
    }

    #[test]
    fn sample_keys_read_back_and_names_are_apart() {
        let (one, ten) = (NodeId("serving-1".into()), NodeId("serving-10".into()));
        let key = sample(&one, 70_000);
        assert_eq!(sample_place(&key), Some(70_000));
        assert!(key.starts_with(&samples(&one)) && !sample(&ten, 1).starts_with(&samples(&one)));
        assert_eq!(describe(&key), "sample 70000 of node serving-1");
        assert_eq!((sample_place(b"A12"), describe(b"A12")), (None, "row A12".to_owned()));
    }

    #[test]
    fn part_keys_read_back() {
        let key = EntityKey::try_new(&[millrace_types::KeyPart::Int64(-4)]).unwrap();
        let entity = Entity { kind: KindId(2), key };
        let ver = KnownAt(-9);
        for named in
            [Part::Head, Part::RebuiltHead(ver), Part::Page(KnownAt(1 << 50), 7), Part::Ids(ver, 0)]
        {
            let bytes = part(&entity, named);
            assert_eq!(read_part(&bytes), Some((entity.clone(), named)));
            assert_eq!(read_part(&bytes[..bytes.len() - 1]), None);
        }
        // Neither a head nor a rebuilt one has a number.
        for named in [Part::Head, Part::RebuiltHead(ver)] {
            let mut bytes = part(&entity, named);
            bytes.truncate(bytes.len() - usize::from(named != Part::Head));
            bytes.push(7);
            assert_eq!(read_part(&bytes), None, "{named:?}");
        }
        assert_eq!(describe(&part(&entity, Part::Head)), "head of entity -4 of kind 2");
    }
}
