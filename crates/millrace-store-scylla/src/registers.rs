//! Registers: parts of snapshots, marks, and what nodes tell of themselves. The greatest version wins, whatever order writes land in.
//!
//! Two writes of one version cannot be told apart by the database; versions are unique where one
//! owner stamps them, so of one version there is one content.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millrace_store::encoding::{decode_mark, decode_member, encode_mark, encode_member};
use millrace_store::{Mark, Member, MemberStore, Part, Put, SnapshotStore, StoreError};
use millrace_types::{Entity, KnownAt, SlotId};

use crate::keys::{entity, part, read_versioned, versioned};
use crate::outcome::of_all;
use crate::statements::Statement;
use crate::store::CqlStore;

/// Entities, or parts to read, of one call that are on their way at once; the gates of shards bound
/// all calls together.
const AT_ONCE: usize = 128;

impl CqlStore {
    async fn put_one(&self, put: Put) -> Result<(), StoreError> {
        let Put { entity: of, part: name, ver, bytes, .. } = put;
        let (key, name_key) = (entity(&of), part(name));
        // A head is never deleted: a head that says so is a row like any other.
        if bytes.is_empty() && name != Part::Head {
            return self.run(Statement::DeletePart, (ver.0, key, name_key)).await.map(drop);
        }
        let values = (key, name_key, versioned(ver, &bytes), ver.0);
        self.run(Statement::PutPart, values).await.map(drop)
    }

    /// Puts parts of one entity in order: a head only once its pages are there.
    async fn put_entity(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        let mut puts = puts.into_iter().peekable();
        while let Some(first) = puts.next() {
            let mut side_by_side = vec![self.put_one(first.clone())];
            while let Some(next) = puts.next_if(|next| may_go_together(&first, next)) {
                side_by_side.push(self.put_one(next));
            }
            let outcomes = stream::iter(side_by_side).buffer_unordered(AT_ONCE).collect().await;
            of_all("put", outcomes)?;
        }
        Ok(())
    }

    async fn load_one(
        &self,
        of: Entity,
        name: Part,
    ) -> Result<Option<(KnownAt, Bytes)>, StoreError> {
        let values = (entity(&of), part(name));
        let row = self.one::<(Option<Vec<u8>>,)>(Statement::LoadPart, values).await?;
        let Some((Some(value),)) = row else { return Ok(None) };
        let what = || format!("{name:?} of entity {} of kind {}", of.key, of.kind.0);
        read_versioned(what, value).map(Some)
    }
}

/// Immutable parts that are written: they do not list each other. A deletion waits for what stands
/// before it.
fn may_go_together(first: &Put, next: &Put) -> bool {
    let plain = |put: &Put| {
        let immutable = match put.part {
            Part::Page(..) | Part::Ids(..) => true,
            Part::Head | Part::RebuiltHead(_) => false,
        };
        immutable && !put.bytes.is_empty()
    };
    plain(first) && plain(next) && first.part != next.part
}

#[async_trait]
impl MemberStore for CqlStore {
    async fn put_member(&self, ver: KnownAt, member: Member) -> Result<(), StoreError> {
        let value = versioned(ver, &encode_member(&member));
        self.run(Statement::PutMember, (&member.node.0, value, ver.0)).await.map(drop)
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let rows = self.all::<(Option<Vec<u8>>,)>(Statement::Members, ()).await?;
        let what = || "a member".to_owned();
        let member = |value| {
            let (_, bytes) = read_versioned(what, value)?;
            decode_member(&bytes)
                .map_err(|e| StoreError::Damaged { what: what(), reason: e.to_string() })
        };
        rows.into_iter().filter_map(|(value,)| value).map(member).collect()
    }
}

#[async_trait]
impl SnapshotStore for CqlStore {
    async fn put(&self, parts: Vec<Put>) -> Result<(), StoreError> {
        // Only parts of one entity know each other.
        let mut places: HashMap<Entity, usize> = HashMap::new();
        let mut entities: Vec<Vec<Put>> = Vec::new();
        for put in parts {
            let place = *places.entry(put.entity.clone()).or_insert(entities.len());
            match entities.get_mut(place) {
                Some(puts) => puts.push(put),
                None => entities.push(vec![put]),
            }
        }
        let puts = entities.into_iter().map(|puts| self.put_entity(puts));
        let outcomes = stream::iter(puts).buffer_unordered(AT_ONCE).collect().await;
        of_all("put", outcomes)
    }

    async fn load(
        &self,
        parts: Vec<(Entity, Part)>,
    ) -> Result<Vec<Option<(KnownAt, Bytes)>>, StoreError> {
        let loads = parts.into_iter().map(|(of, name)| self.load_one(of, name));
        stream::iter(loads).buffered(AT_ONCE).try_collect().await
    }

    async fn put_mark(&self, slot: SlotId, ver: KnownAt, mark: Mark) -> Result<(), StoreError> {
        let value = versioned(ver, &encode_mark(&mark));
        self.run(Statement::PutMark, (slot.0.cast_signed(), value, ver.0)).await.map(drop)
    }

    async fn load_mark(&self, slot: SlotId) -> Result<Option<(KnownAt, Mark)>, StoreError> {
        let values = (slot.0.cast_signed(),);
        let row = self.one::<(Option<Vec<u8>>,)>(Statement::LoadMark, values).await?;
        let Some((Some(value),)) = row else { return Ok(None) };
        let what = || format!("mark of slot {}", slot.0);
        let (ver, bytes) = read_versioned(what, value)?;
        let mark = decode_mark(&bytes);
        mark.map(|mark| Some((ver, mark)))
            .map_err(|error| StoreError::Damaged { what: what(), reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::{EntityKey, KeyPart, KindId};

    use super::*;

    #[test]
    fn only_immutable_parts_that_are_written_go_together() {
        let key = EntityKey::try_new(&[KeyPart::Int64(1)]).unwrap();
        let put = |part, bytes: &'static [u8]| Put {
            slot: SlotId(1),
            entity: Entity { kind: KindId(1), key: key.clone() },
            part,
            ver: KnownAt(5),
            bytes: Bytes::from_static(bytes),
        };
        let page = |number| put(Part::Page(KnownAt(5), number), b"x");
        let head = put(Part::Head, b"x");
        assert!(may_go_together(&page(0), &page(1)));
        assert!(!may_go_together(&page(0), &page(0)), "the later one is to stand");
        assert!(!may_go_together(&page(0), &head) && !may_go_together(&head, &page(0)));
        assert!(!may_go_together(&page(0), &put(Part::Page(KnownAt(4), 0), b"")));
    }
}
