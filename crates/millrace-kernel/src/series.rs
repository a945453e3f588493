//! Partials of facts that left, sealed in tiles.

use millrace_types::codec::{Reader, put_bytes, put_signed, put_varint};
use millrace_types::{DecodeError, Micros, OrderKey, ValueRef};

use crate::aggregate::Partial;
use crate::plan::{KindPlan, Sealing, Series};

/// A tile of facts that left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SealedTile {
    /// A multiple of the hop; the one tile of a base starts at the earliest instant.
    pub(crate) start: i64,
    pub(crate) partial: Partial,
}

/// The partials of one series over the facts that left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SealedSeries {
    pub(crate) key: u64,
    /// Ascending by start.
    pub(crate) tiles: Vec<SealedTile>,
    /// Whether the tiles are complete.
    pub(crate) keeping: Keeping,
    /// Where the tiles begin: they hold everything that left from here on. Those before it were let
    /// go under a plan whose windows did not reach them.
    reach: i64,
}

/// Whether sealed partials are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Keeping {
    /// Complete.
    Kept = 0,
    /// Given up: the head would have grown past its limit.
    TooLarge = 1,
    /// The series came with a catalog version after facts had left; a backfill completes it.
    Unknown = 2,
}

impl SealedSeries {
    pub(crate) fn new(key: u64) -> Self {
        Self { key, tiles: Vec::new(), keeping: Keeping::Kept, reach: i64::MIN }
    }

    /// A series without tiles, for this reason.
    pub(crate) fn without(key: u64, keeping: Keeping) -> Self {
        Self { key, tiles: Vec::new(), keeping, reach: i64::MIN }
    }

    /// True when the tiles have all that a window which begins at `start` holds of what left.
    pub(crate) fn reaches(&self, start: Micros) -> bool {
        self.keeping == Keeping::Kept && self.reach <= start.0
    }

    /// True when nothing is to be filled in: every window read at or after the horizon is covered, or
    /// the series was given up.
    pub(crate) fn is_filled(&self, series: &Series, horizon: Micros) -> bool {
        match (self.keeping, series.sealing) {
            (Keeping::TooLarge, _) | (_, Sealing::None) => true,
            (Keeping::Unknown, Sealing::Tiles | Sealing::Base) => false,
            (Keeping::Kept, Sealing::Base) => true,
            (Keeping::Kept, Sealing::Tiles) => self.reach <= earliest_start(series, horizon),
        }
    }

    pub(crate) fn add(&mut self, series: &Series, key: OrderKey<'_>, value: ValueRef<'_>) {
        if self.keeping != Keeping::Kept || series.sealing == Sealing::None {
            return;
        }
        let start = match series.sealing {
            Sealing::Tiles => key.at.floor(series.hop_us).0,
            Sealing::Base | Sealing::None => i64::MIN,
        };
        let index = self.tiles.partition_point(|t| t.start < start);
        if self.tiles.get(index).is_none_or(|t| t.start != start) {
            let partial = Partial::new(&series.feature);
            self.tiles.insert(index, SealedTile { start, partial });
        }
        self.tiles[index].partial.add(key, value);
    }

    /// Drops tiles that no window read at or after the horizon reaches.
    pub(crate) fn forget_before(&mut self, series: &Series, horizon: Micros) {
        if series.sealing == Sealing::Tiles {
            self.reach = self.reach.max(earliest_start(series, horizon));
            let gone = self.tiles.partition_point(|t| t.start < self.reach);
            self.tiles.drain(..gone);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.tiles.iter().map(|t| size_of::<SealedTile>() + t.partial.heap_bytes()).sum()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        body.push(self.keeping as u8);
        put_varint(&mut body, self.tiles.len() as u64);
        for tile in &self.tiles {
            put_signed(&mut body, tile.start);
            tile.partial.encode(&mut body);
        }
        put_signed(&mut body, self.reach);
        out.extend_from_slice(&self.key.to_le_bytes());
        put_bytes(out, &body);
    }

    /// Reads a series; `None` when the plan no longer has it.
    pub(crate) fn decode(
        plan: &KindPlan,
        reader: &mut Reader<'_>,
    ) -> Result<Option<Self>, DecodeError> {
        let mut raw = [0; 8];
        raw.copy_from_slice(reader.take(8, "series key")?);
        let key = u64::from_le_bytes(raw);
        let mut body = Reader::new(reader.bytes("series")?);
        let Some(series) = plan.series.iter().find(|s| s.key == key) else { return Ok(None) };
        let mut sealed = Self::new(key);
        sealed.keeping = match body.u8("keeping")? {
            0 => Keeping::Kept,
            1 => Keeping::TooLarge,
            2 => Keeping::Unknown,
            other => {
                return Err(DecodeError::Invalid { what: "keeping", found: u64::from(other) });
            }
        };
        for _ in 0..body.count("tiles")? {
            let start = body.signed("tile start")?;
            let partial = Partial::decode(&series.feature, &mut body)?;
            sealed.tiles.push(SealedTile { start, partial });
        }
        sealed.reach = match (body.is_empty(), plan.catalog_version) {
            (false, _) => body.signed("reach")?,
            // Heads did not always tell. Under the first version no window was ever narrower.
            (true, 0 | 1) => i64::MIN,
            (true, _) if series.sealing == Sealing::Base => i64::MIN,
            (true, _) => sealed.tiles.first().map_or(i64::MAX, |tile| tile.start),
        };
        Ok(Some(sealed))
    }
}

/// Where the longest window of a series begins that is read at the horizon.
fn earliest_start(series: &Series, horizon: Micros) -> i64 {
    horizon.minus(series.width_us).floor(series.hop_us).0
}
