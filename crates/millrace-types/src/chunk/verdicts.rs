//! Verdicts as a chunk's header holds them.

use crate::codec::{DecodeError, Reader, put_varint};
use crate::verdict::{RejectReason, Verdict};

pub(super) fn put_verdict(out: &mut Vec<u8>, verdict: Verdict) {
    match verdict {
        Verdict::Accepted => out.push(0),
        Verdict::Repaired { rows } => {
            out.push(1);
            put_varint(out, rows);
        }
        Verdict::Queued => out.push(2),
        Verdict::Duplicate => out.push(3),
        Verdict::Late => out.push(4),
        Verdict::Rejected(reason) => out.extend_from_slice(&[5, reason as u8]),
    }
}

pub(super) fn read_verdict(reader: &mut Reader<'_>) -> Result<Verdict, DecodeError> {
    Ok(match reader.u8("verdict")? {
        0 => Verdict::Accepted,
        1 => Verdict::Repaired { rows: reader.varint("rows")? },
        2 => Verdict::Queued,
        3 => Verdict::Duplicate,
        4 => Verdict::Late,
        5 => {
            let number = reader.u8("reason")?;
            let what = "reason";
            Verdict::Rejected(
                RejectReason::from_number(number)
                    .ok_or(DecodeError::Invalid { what, found: u64::from(number) })?,
            )
        }
        other => return Err(DecodeError::Invalid { what: "verdict", found: u64::from(other) }),
    })
}
