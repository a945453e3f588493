//! The version of a training set: the catalog version and the positions of all slots, as a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millrace_types::codec::{Reader, put_signed, put_varint};
use millrace_types::{DecodeError, Micros, Position, StreamId};

/// What a training set is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetVersion {
    pub(crate) catalog: u32,
    /// The greatest known_at of what is read.
    pub(crate) known_at: i64,
    /// By slot, up to where its log is read.
    pub(crate) ends: Vec<Position>,
    /// The watermark of each stream up to there, where it has one; of versions of the first form unknown.
    pub(crate) watermarks: Vec<(StreamId, Micros)>,
}

impl SetVersion {
    /// The token.
    pub(crate) fn text(&self) -> String {
        let mut out = vec![2];
        put_varint(&mut out, u64::from(self.catalog));
        put_varint(&mut out, self.known_at as u64);
        put_varint(&mut out, self.ends.len() as u64);
        for end in &self.ends {
            put_varint(&mut out, end.epoch);
            put_varint(&mut out, end.sequence);
        }
        put_varint(&mut out, self.watermarks.len() as u64);
        for (stream, at) in &self.watermarks {
            put_varint(&mut out, u64::from(stream.0));
            put_signed(&mut out, at.0);
        }
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads what [`SetVersion::text`] wrote, for this many slots.
    pub(crate) fn parse(text: &str, slots: u32) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64".to_owned())?;
        let version = Self::read(&bytes).map_err(|e| e.to_string())?;
        match version.ends.len() {
            n if n == slots as usize => Ok(version),
            n => Err(format!("it names {n} slots, and here are {slots}")),
        }
    }

    /// The watermark of all of these streams together: the least.
    pub(crate) fn watermark(&self, streams: &[StreamId]) -> Option<Micros> {
        let of = self.watermarks.iter().filter(|(stream, _)| streams.contains(stream));
        of.map(|(_, at)| *at).min()
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let form = reader.u8("form")?;
        match form {
            1 | 2 => {}
            found => return Err(DecodeError::Invalid { what: "form", found: u64::from(found) }),
        }
        let catalog = reader.u32("catalog version")?;
        let known_at = reader.varint("known_at")? as i64;
        let count = reader.count("slots")?;
        let ends = (0..count)
            .map(|_| {
                let epoch = reader.varint("epoch")?;
                Ok(Position { epoch, sequence: reader.varint("sequence")? })
            })
            .collect::<Result<_, DecodeError>>()?;
        let mut watermarks = Vec::new();
        for _ in 0..if form == 1 { 0 } else { reader.count("watermarks")? } {
            let stream = StreamId(reader.u16("stream")?);
            watermarks.push((stream, Micros(reader.signed("watermark")?)));
        }
        match reader.rest().len() {
            0 => Ok(Self { catalog, known_at, ends, watermarks }),
            more => Err(DecodeError::Invalid { what: "bytes after it", found: more as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_and_damaged_ones_are_refused() {
        let ends = vec![Position::START, Position { epoch: 3, sequence: 900 }];
        let (clicks, profiles) = ((StreamId(3), Micros(-5)), (StreamId(4), Micros(9)));
        let watermarks = vec![clicks, profiles];
        let version = SetVersion { catalog: 7, known_at: 1_700_000_000_000_000, ends, watermarks };
        assert_eq!(version.watermark(&[StreamId(4), StreamId(3)]), Some(Micros(-5)));
        assert_eq!(version.watermark(&[StreamId(4)]), Some(Micros(9)));
        assert_eq!(version.watermark(&[StreamId(5)]), None);
        let text = version.text();
        assert_eq!(SetVersion::parse(&text, 2), Ok(version));
        assert!(SetVersion::parse(&text, 4).is_err(), "other slots");
        assert!(SetVersion::parse(&text[1..], 2).is_err());
        assert!(SetVersion::parse("%", 2).is_err());
        assert!(SetVersion::parse("", 2).is_err());
        // One of before watermarks were in them.
        let first = SetVersion::parse("AQeAgPnAwcSCAwIAAAOEBw", 2);
        assert!(first.is_ok_and(|v| v.catalog == 7 && v.watermarks.is_empty()));
    }
}
