//! Entities of one kind, numbered as they are named.

use hashbrown::HashTable;
use millrace_types::EntityKey;
use millrace_types::entity::entity_hash;

/// Entities of a kind by number, found by their keys.
#[derive(Debug)]
pub struct Entities {
    kind_name: String,
    entities: Vec<(u64, EntityKey)>,
    /// Those whose key is one integer, by its bytes: they stand in the table itself, so that one look is
    /// enough.
    integers: HashTable<(u64, u32)>,
    /// The others, by their hash.
    others: HashTable<u32>,
    /// What the keys take, in bytes.
    key_bytes: usize,
}

impl Entities {
    /// No entities of a kind with this name.
    #[must_use]
    pub fn new(kind_name: &str) -> Self {
        Self {
            kind_name: kind_name.to_owned(),
            entities: Vec::new(),
            integers: HashTable::new(),
            others: HashTable::new(),
            key_bytes: 0,
        }
    }

    /// How many there are; their numbers are below it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// True when none was named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// The hash of the entity with this canonical key.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        entity_hash(&self.kind_name, key)
    }

    /// The number of the entity with this canonical key, if it was named.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        match integer(key) {
            Some(bytes) => self.find_integer(bytes),
            None => self.find_other(self.hash(key), key),
        }
    }

    #[inline]
    fn find_integer(&self, bytes: u64) -> Option<u32> {
        let found = self.integers.find(mixed(bytes), |(have, _)| *have == bytes);
        found.map(|(_, number)| *number)
    }

    fn find_other(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |number: &u32| {
            let (have, name) = &self.entities[*number as usize];
            *have == hash && name.as_bytes() == key
        };
        self.others.find(hash, same).copied()
    }

    /// The number of the entity with this canonical key, which is named if it was not.
    #[inline]
    pub fn name(&mut self, key: &[u8]) -> u32 {
        match self.find(key) {
            Some(number) => number,
            None => self.insert(self.hash(key), key),
        }
    }

    /// Names an entity with this hash and canonical key, that was not named before.
    fn insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        let number = self.entities.len() as u32;
        self.entities.push((hash, EntityKey::from_canonical(key)));
        self.key_bytes += key.len();
        match integer(key) {
            Some(bytes) => {
                self.integers.insert_unique(mixed(bytes), (bytes, number), |(b, _)| mixed(*b));
            }
            None => {
                let entities = &self.entities;
                self.others.insert_unique(hash, number, |n| entities[*n as usize].0);
            }
        }
        number
    }

    /// The hash and the key of an entity.
    ///
    /// # Panics
    /// When there is no entity of this number.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u32) -> (u64, &EntityKey) {
        let (hash, key) = &self.entities[number as usize];
        (*hash, key)
    }

    /// Hashes and keys, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &EntityKey)> {
        self.entities.iter().map(|(hash, key)| (*hash, key))
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.entities.len() * (size_of::<(u64, EntityKey)>() + 2 * size_of::<(u64, u32)>())
            + self.key_bytes
    }
}

/// The bytes of a canonical key that is one integer.
#[inline]
fn integer(key: &[u8]) -> Option<u64> {
    match key.split_first_chunk() {
        Some(([1], bytes)) => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// Spreads an integer over all 64 bits: both halves of a product, folded.
#[inline]
fn mixed(bytes: u64) -> u64 {
    let product = u128::from(bytes ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use millrace_types::KeyPart;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entities_keep_their_numbers(keys in prop::collection::vec((0..40i64, 0..3u8), 0..200)) {
            let mut entities = Entities::new("user");
            let mut named: Vec<EntityKey> = Vec::new();
            for (number, form) in keys {
                let text = number.to_string();
                let parts = match form {
                    0 => vec![KeyPart::Int64(number - 20)],
                    1 => vec![KeyPart::String(&text)],
                    _ => vec![KeyPart::Int64(number), KeyPart::String("a")],
                };
                let key = EntityKey::try_new(&parts).unwrap();
                let before = named.iter().position(|have| *have == key).map(|n| n as u32);
                prop_assert_eq!(entities.find(key.as_bytes()), before);
                let number = entities.name(key.as_bytes());
                prop_assert_eq!(number, before.unwrap_or(named.len() as u32));
                if before.is_none() {
                    named.push(key.clone());
                }
                let hash = entity_hash("user", key.as_bytes());
                prop_assert_eq!(entities.get(number), (hash, &key));
            }
            prop_assert_eq!(entities.len(), named.len());
        }
    }
}
