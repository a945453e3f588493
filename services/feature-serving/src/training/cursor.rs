//! Where a training set of events goes on, as a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millrace_types::codec::{Reader, put_bytes, put_signed, put_varint};
use millrace_types::entity::entity_hash;
use millrace_types::{DecodeError, EntityKey, Micros, OrderKey};

/// Behind a row of a slot. It names the row by what orders rows, not by a count of them: rows before it may
/// go while a call is broken off, when an entity is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventCursor {
    /// The set has no events before it, whatever may be forgotten since.
    pub(crate) from: Micros,
    pub(crate) slot: u32,
    pub(crate) row: EventPlace,
}

/// The place of a row among those of its slot, which come by the hash and the key of their entity, then by
/// `(at, seq, id)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventPlace {
    key: EntityKey,
    at: Micros,
    seq: u64,
    id: Vec<u8>,
}

impl EventPlace {
    pub(crate) fn new(key: &EntityKey, event: OrderKey<'_>) -> Self {
        Self { key: key.clone(), at: event.at, seq: event.seq, id: event.id.to_vec() }
    }

    /// The hash and the key of its entity, given the name of the kind.
    pub(crate) fn entity(&self, kind_name: &str) -> (u64, &EntityKey) {
        (entity_hash(kind_name, self.key.as_bytes()), &self.key)
    }

    /// Its place among the events of its entity.
    pub(crate) fn event(&self) -> OrderKey<'_> {
        OrderKey { at: self.at, seq: self.seq, id: &self.id }
    }
}

impl EventCursor {
    /// The token.
    pub(crate) fn text(&self) -> String {
        let mut out = vec![1];
        put_signed(&mut out, self.from.0);
        put_varint(&mut out, u64::from(self.slot));
        put_bytes(&mut out, self.row.key.as_bytes());
        put_signed(&mut out, self.row.at.0);
        put_varint(&mut out, self.row.seq);
        put_bytes(&mut out, &self.row.id);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads what [`EventCursor::text`] wrote, for this many slots.
    pub(crate) fn parse(text: &str, slots: u32) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64".to_owned())?;
        let cursor = Self::read(&bytes).map_err(|e| e.to_string())?;
        if cursor.slot >= slots {
            return Err(format!("slot {} is out of range", cursor.slot));
        }
        Ok(cursor)
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("form")? {
            1 => {}
            found => return Err(DecodeError::Invalid { what: "form", found: u64::from(found) }),
        }
        let from = Micros(reader.signed("from")?);
        let slot = reader.u32("slot")?;
        let key = EntityKey::from_bytes(reader.bytes("key")?)?;
        let at = Micros(reader.signed("at")?);
        let seq = reader.varint("seq")?;
        let id = reader.bytes("id")?.to_vec();
        match reader.rest().len() {
            0 => Ok(Self { from, slot, row: EventPlace { key, at, seq, id } }),
            more => Err(DecodeError::Invalid { what: "bytes after it", found: more as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_types::KeyPart;

    use super::*;

    #[test]
    fn tokens_read_back_and_damaged_ones_are_refused() {
        let key = EntityKey::try_new(&[KeyPart::Int64(-7), KeyPart::String("a:b")]).unwrap();
        let event = OrderKey { at: Micros(-5), seq: u64::MAX, id: b"\xff:1" };
        let row = EventPlace::new(&key, event);
        for from in [Micros::MIN, Micros(1_700_000_000_000_000), Micros::MAX] {
            let cursor = EventCursor { from, slot: 3, row: row.clone() };
            let text = cursor.text();
            assert_eq!(EventCursor::parse(&text, 4), Ok(cursor));
            assert!(EventCursor::parse(&text, 3).is_err(), "other slots");
            assert!(EventCursor::parse(&text[..text.len() - 2], 4).is_err());
            assert!(EventCursor::parse(&format!("{text}AA"), 4).is_err());
        }
        assert_eq!(row.event(), event);
        assert_eq!(row.entity("pair"), (entity_hash("pair", key.as_bytes()), &key));
        for bad in ["", "%", "3:12", "AQ"] {
            assert!(EventCursor::parse(bad, 4).is_err(), "{bad}");
        }
    }
}
