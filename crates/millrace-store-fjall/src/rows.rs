//! The binary forms of rows and parts: `crc32 u32 little-endian over all that follows · bytes`. The
//! bytes of the small rows start with a version byte, and all their integers are varints. Chunks
//! stand without it: they have a sum of their own.

use bytes::Bytes;
use millrace_store::rules::{NodeRow, RunRow};
use millrace_store::{Incarnation, NodeId, SlotEpoch, StoreError};
use millrace_types::KnownAt;
use millrace_types::codec::{DecodeError, Reader, put_bytes, put_signed, put_varint};

use crate::failure;

const VERSION: u8 = 1;

/// Bytes of a sum.
pub(crate) const SUM: usize = 4;

/// Puts the sum before `bytes`.
pub(crate) fn seal(bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(SUM + bytes.len());
    out.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
    out.into()
}

/// The bytes behind their sum.
pub(crate) fn unseal(sealed: &[u8]) -> Result<&[u8], DecodeError> {
    let (sum, bytes) = sealed.split_first_chunk().ok_or(DecodeError::Truncated("checksum"))?;
    let (expected, found) = (u32::from_le_bytes(*sum), crc32fast::hash(bytes));
    if expected != found {
        return Err(DecodeError::Checksum { expected, found });
    }
    Ok(bytes)
}

fn versioned(sealed: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(unseal(sealed)?);
    match reader.u8("row version")? {
        VERSION => Ok(reader),
        other => Err(DecodeError::Invalid { what: "row version", found: u64::from(other) }),
    }
}

/// Turns what does not decode into damage of the item named.
pub(crate) fn damaged(what: String) -> impl FnOnce(DecodeError) -> StoreError {
    move |error| failure::damaged(what, &error.to_string())
}

pub(crate) fn encode_node(row: NodeRow) -> Bytes {
    let mut out = vec![VERSION];
    put_varint(&mut out, row.newest.0);
    put_signed(&mut out, row.ceiling.0);
    seal(&out)
}

pub(crate) fn decode_node(bytes: &[u8]) -> Result<NodeRow, DecodeError> {
    let mut reader = versioned(bytes)?;
    Ok(NodeRow {
        newest: Incarnation(reader.varint("newest run")?),
        ceiling: KnownAt(reader.signed("ceiling")?),
    })
}

pub(crate) fn encode_run(row: RunRow) -> Bytes {
    let mut out = vec![VERSION];
    put_varint(&mut out, row.renewals);
    out.push(u8::from(row.fenced));
    seal(&out)
}

pub(crate) fn decode_run(bytes: &[u8]) -> Result<RunRow, DecodeError> {
    let mut reader = versioned(bytes)?;
    Ok(RunRow { renewals: reader.varint("renewals")?, fenced: reader.u8("fenced")? != 0 })
}

pub(crate) fn encode_epoch(row: &SlotEpoch) -> Bytes {
    let mut out = vec![VERSION];
    put_varint(&mut out, row.epoch);
    put_bytes(&mut out, row.node.0.as_bytes());
    put_varint(&mut out, row.incarnation.0);
    put_signed(&mut out, row.floor.0);
    put_varint(&mut out, row.previous_end);
    match row.released {
        None => out.push(0),
        Some((end, last_ver)) => {
            out.push(1);
            put_varint(&mut out, end);
            put_signed(&mut out, last_ver.0);
        }
    }
    seal(&out)
}

pub(crate) fn decode_epoch(bytes: &[u8]) -> Result<SlotEpoch, DecodeError> {
    let mut reader = versioned(bytes)?;
    let epoch = reader.varint("epoch")?;
    let name = std::str::from_utf8(reader.bytes("node")?);
    Ok(SlotEpoch {
        epoch,
        node: NodeId(name.map_err(|_| DecodeError::NotUtf8("node"))?.to_owned()),
        incarnation: Incarnation(reader.varint("incarnation")?),
        floor: KnownAt(reader.signed("floor")?),
        previous_end: reader.varint("previous end")?,
        released: match reader.u8("released")? {
            0 => None,
            _ => Some((reader.varint("end")?, KnownAt(reader.signed("last version")?))),
        },
    })
}

/// A versioned value: its sum, the version in 8 bytes, little-endian, then the bytes.
pub(crate) fn encode_versioned(ver: KnownAt, bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(SUM + 8 + bytes.len());
    out.extend_from_slice(&[0; SUM]);
    out.extend_from_slice(&ver.0.to_le_bytes());
    out.extend_from_slice(bytes);
    let sum = crc32fast::hash(&out[SUM..]);
    out[..SUM].copy_from_slice(&sum.to_le_bytes());
    out.into()
}

pub(crate) fn decode_versioned(value: &Bytes) -> Result<(KnownAt, Bytes), DecodeError> {
    let (ver, _) = unseal(value)?.split_first_chunk().ok_or(DecodeError::Truncated("version"))?;
    Ok((KnownAt(i64::from_le_bytes(*ver)), value.slice(SUM + 8..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back() {
        let node = NodeRow { newest: Incarnation(u64::MAX), ceiling: KnownAt(-7) };
        assert_eq!(decode_node(&encode_node(node)), Ok(node));
        for fenced in [false, true] {
            let run = RunRow { renewals: 300, fenced };
            assert_eq!(decode_run(&encode_run(run)), Ok(run));
        }
        for released in [None, Some((9, KnownAt(1 << 50)))] {
            let epoch = SlotEpoch {
                epoch: 3,
                node: NodeId("join-é".into()),
                incarnation: Incarnation(7),
                floor: KnownAt(1 << 50),
                previous_end: 12,
                released,
            };
            assert_eq!(decode_epoch(&encode_epoch(&epoch)), Ok(epoch));
        }
        let part = encode_versioned(KnownAt(-3), b"head");
        assert_eq!(decode_versioned(&part), Ok((KnownAt(-3), Bytes::from_static(b"head"))));
        assert!(decode_versioned(&Bytes::from_static(b"short")).is_err());
        assert!(decode_run(&seal(&[9, 0, 0])).is_err());
        let mut flipped = part.to_vec();
        for bit in 0..flipped.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode_versioned(&Bytes::copy_from_slice(&flipped));
            assert!(matches!(decoded, Err(DecodeError::Checksum { .. })), "bit {bit}: {decoded:?}");
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
