//! Entities and the fixed hash that places them in slots.

use std::fmt;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::limits::KEY_BYTES_MAX;

/// The number the catalog gave an entity kind when it first appeared; it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub u16);

/// A slot: one of a power-of-two number of shards of the entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

/// The types a part of an entity key may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `int64`
    Int64,
    /// `string`
    String,
}

/// One part of an entity key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// An integer part.
    Int64(i64),
    /// A text part, never empty.
    String(&'a str),
}

/// An entity key in its canonical bytes: per part a tag (1 int64, 2 string), then 8 bytes
/// big-endian with the sign bit flipped, or length-prefixed UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey(Box<[u8]>);

/// An entity: its kind and its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity {
    /// The kind, as numbered by the catalog.
    pub kind: KindId,
    /// The key.
    pub key: EntityKey,
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A part is NULL or empty, or there is no part.
    #[error("a part of the key is missing")]
    Missing,
    /// The canonical bytes exceed [`KEY_BYTES_MAX`].
    #[error("the key takes {0} bytes; at most {KEY_BYTES_MAX} are allowed")]
    TooLong(usize),
}

impl EntityKey {
    /// Encodes the parts of a key.
    ///
    /// # Errors
    /// [`KeyError::Missing`] for no part or an empty text, [`KeyError::TooLong`] beyond the limit.
    pub fn try_new(parts: &[KeyPart<'_>]) -> Result<Self, KeyError> {
        let mut out = Vec::with_capacity(16);
        encode_key(&mut out, parts)?;
        Ok(Self(out.into_boxed_slice()))
    }

    /// Takes canonical bytes, checking them.
    ///
    /// # Errors
    /// [`DecodeError`] when they are not a key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_key(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Takes bytes that are known to be canonical, such as those of a fact record that ingest encoded.
    #[must_use]
    pub fn from_canonical(bytes: &[u8]) -> Self {
        debug_assert!(check_key(bytes).is_ok(), "the bytes are a canonical key");
        Self(bytes.into())
    }

    /// The canonical bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parts in order.
    pub fn parts(&self) -> impl Iterator<Item = KeyPart<'_>> {
        let mut reader = Reader::new(&self.0);
        std::iter::from_fn(move || read_part(&mut reader).ok())
    }
}

/// Reads the canonical bytes of a key through once. There is one form of a key: two would be two
/// entities, so a length that is written longer than it need be is refused.
pub(crate) fn check_key(bytes: &[u8]) -> Result<(), DecodeError> {
    let wrong = Err(DecodeError::Invalid { what: "key length", found: bytes.len() as u64 });
    if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX {
        return wrong;
    }
    let mut reader = Reader::new(bytes);
    let mut canonical = 0;
    while !reader.is_empty() {
        canonical += 1 + match read_part(&mut reader)? {
            KeyPart::Int64(_) => 8,
            // Seven bits of the length a byte.
            KeyPart::String(v) => (v.len().ilog2() / 7 + 1) as usize + v.len(),
        };
    }
    if canonical == bytes.len() { Ok(()) } else { wrong }
}

/// Appends the canonical bytes of a key to `out`.
///
/// # Errors
/// As [`EntityKey::try_new`]; `out` is then left with part of the key.
pub fn encode_key(out: &mut Vec<u8>, parts: &[KeyPart<'_>]) -> Result<(), KeyError> {
    let start = out.len();
    if parts.is_empty() {
        return Err(KeyError::Missing);
    }
    for part in parts {
        match part {
            KeyPart::Int64(v) => {
                out.push(1);
                out.extend_from_slice(&((*v as u64) ^ (1 << 63)).to_be_bytes());
            }
            KeyPart::String("") => return Err(KeyError::Missing),
            KeyPart::String(v) => {
                out.push(2);
                put_bytes(out, v.as_bytes());
            }
        }
    }
    match out.len() - start {
        n if n > KEY_BYTES_MAX => Err(KeyError::TooLong(n)),
        _ => Ok(()),
    }
}

fn read_part<'a>(reader: &mut Reader<'a>) -> Result<KeyPart<'a>, DecodeError> {
    match reader.u8("key tag")? {
        1 => {
            let mut raw = [0; 8];
            raw.copy_from_slice(reader.take(8, "key int64")?);
            Ok(KeyPart::Int64((u64::from_be_bytes(raw) ^ (1 << 63)) as i64))
        }
        2 => match std::str::from_utf8(reader.bytes("key string")?) {
            // No key is made with an empty text: it is a missing one.
            Ok("") => Err(DecodeError::Invalid { what: "key string length", found: 0 }),
            Ok(text) => Ok(KeyPart::String(text)),
            Err(_) => Err(DecodeError::NotUtf8("key")),
        },
        tag => Err(DecodeError::Invalid { what: "key tag", found: u64::from(tag) }),
    }
}

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The form the command line uses: the parts joined by commas.
impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match part {
                KeyPart::Int64(v) => write!(f, "{v}")?,
                KeyPart::String(v) => f.write_str(v)?,
            }
        }
        Ok(())
    }
}

/// The fixed 64-bit hash of an entity: XXH3-64 with seed 0 over the length-prefixed kind name
/// followed by the canonical key bytes. Slots, filters and maps all use it.
#[inline]
#[must_use]
pub fn entity_hash(kind_name: &str, key: &[u8]) -> u64 {
    // Keys are short: a stack buffer spares an allocation for each fact.
    let mut buffer = [0u8; 10 + 64 + KEY_BYTES_MAX];
    if kind_name.len() <= 64 && key.len() <= KEY_BYTES_MAX {
        let mut n = 0;
        buffer[n] = kind_name.len() as u8; // below 128, so the varint is one byte
        n += 1;
        buffer[n..n + kind_name.len()].copy_from_slice(kind_name.as_bytes());
        n += kind_name.len();
        buffer[n..n + key.len()].copy_from_slice(key);
        n += key.len();
        return xxh3_64(&buffer[..n]);
    }
    let mut long = Vec::with_capacity(kind_name.len() + key.len() + 10);
    put_varint(&mut long, kind_name.len() as u64);
    long.extend_from_slice(kind_name.as_bytes());
    long.extend_from_slice(key);
    xxh3_64(&long)
}

/// The stable key of a view in chunk headers and marks: XXH3-64 of its name.
#[must_use]
pub fn view_key(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hash_vectors_never_change() {
        let user = EntityKey::try_new(&[KeyPart::Int64(42)]).unwrap();
        let item = EntityKey::try_new(&[KeyPart::String("85123A")]).unwrap();
        let pair = EntityKey::try_new(&[KeyPart::Int64(-1), KeyPart::String("é")]).unwrap();
        // The encodings are spelled out so that another implementation can check its own.
        assert_eq!(user.as_bytes(), [1, 0x80, 0, 0, 0, 0, 0, 0, 42]);
        assert_eq!(item.as_bytes(), b"\x02\x0685123A");
        assert_eq!(pair.as_bytes(), [1, 0x7f, 255, 255, 255, 255, 255, 255, 255, 2, 2, 0xc3, 0xa9]);
        assert_eq!(
            entity_hash("user", user.as_bytes()),
            xxh3_64(b"\x04user\x01\x80\0\0\0\0\0\0\x2a")
        );
        assert_eq!(entity_hash("user", user.as_bytes()), 0x708f_5897_a8f3_e8b2);
        assert_eq!(entity_hash("item", item.as_bytes()), 0x6029_4731_30d4_98a2);
        assert_eq!(entity_hash("pair", pair.as_bytes()), 0xb331_a6ef_a3b8_1e0b);
    }

    #[test]
    fn empty_and_long_keys_are_refused() {
        assert_eq!(EntityKey::try_new(&[]), Err(KeyError::Missing));
        assert_eq!(EntityKey::try_new(&[KeyPart::String("")]), Err(KeyError::Missing));
        let long = "x".repeat(255);
        assert_eq!(EntityKey::try_new(&[KeyPart::String(&long)]), Err(KeyError::TooLong(258)));
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_order_like_their_parts(a: i64, b: i64, s in "[a-z]{1,9}") {
            let one = EntityKey::try_new(&[KeyPart::Int64(a), KeyPart::String(&s)]).unwrap();
            prop_assert_eq!(&EntityKey::from_bytes(one.as_bytes()).unwrap(), &one);
            prop_assert_eq!(one.parts().collect::<Vec<_>>(), vec![KeyPart::Int64(a), KeyPart::String(&s)]);
            let two = EntityKey::try_new(&[KeyPart::Int64(b), KeyPart::String(&s)]).unwrap();
            prop_assert_eq!(one.cmp(&two), a.cmp(&b));
        }

        #[test]
        fn any_bytes_are_a_key_or_refused(bytes: Vec<u8>) {
            if let Ok(key) = EntityKey::from_bytes(&bytes) {
                prop_assert!(key.parts().count() > 0);
            }
        }
    }
}
