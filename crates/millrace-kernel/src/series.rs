//! Partials in tiles: sealed ones of facts that left, and cached ones of facts at hand.

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
    /// Whether the tiles are complete; reads of an incomplete series are answered from the log.
    pub(crate) keeping: Keeping,
}

/// Whether sealed partials are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Keeping {
    /// Complete.
    Kept = 0,
    /// Given up: the head would have grown past its limit.
    TooLarge = 1,
    /// The series came with a catalog version after facts had left; a rebuild completes it.
    Unknown = 2,
}

impl SealedSeries {
    pub(crate) fn new(key: u64) -> Self {
        Self { key, tiles: Vec::new(), keeping: Keeping::Kept }
    }

    /// A series without tiles, for this reason.
    pub(crate) fn without(key: u64, keeping: Keeping) -> Self {
        Self { key, tiles: Vec::new(), keeping }
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
            let reach = horizon.minus(series.width_us).floor(series.hop_us);
            let gone = self.tiles.partition_point(|t| t.start < reach.0);
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
        Ok(Some(sealed))
    }
}

/// A cached tile of facts at hand.
#[derive(Debug, Clone)]
pub(crate) struct CachedTile {
    pub(crate) start: i64,
    pub(crate) greatest_at: i64,
    /// `None` when a fact of it changed: it is folded again when it is next read.
    pub(crate) partial: Option<Partial>,
}

/// Cached tiles of one series over all live facts at hand, ascending by start.
#[derive(Debug, Clone, Default)]
pub(crate) struct CachedSeries {
    pub(crate) tiles: Vec<CachedTile>,
}

impl CachedSeries {
    /// Lays out stale tiles for events at these instants, ascending.
    pub(crate) fn new(series: &Series, ats: impl Iterator<Item = Micros>) -> Self {
        let mut tiles: Vec<CachedTile> = Vec::new();
        for at in ats {
            let start = at.floor(series.hop_us).0;
            match tiles.last_mut().filter(|t| t.start == start) {
                Some(tile) => tile.greatest_at = at.0,
                None => tiles.push(CachedTile { start, greatest_at: at.0, partial: None }),
            }
        }
        Self { tiles }
    }

    /// Marks the tile of an event that comes, goes or changes stale.
    pub(crate) fn touch(&mut self, series: &Series, at: Micros) {
        let start = at.floor(series.hop_us).0;
        let index = self.tiles.partition_point(|t| t.start < start);
        if self.tiles.get(index).is_none_or(|t| t.start != start) {
            self.tiles.insert(index, CachedTile { start, greatest_at: at.0, partial: None });
        }
        let tile = &mut self.tiles[index];
        // An event that goes may leave the bound too great: the tile is then folded from facts
        // where it could have been taken whole, with the same result.
        tile.greatest_at = tile.greatest_at.max(at.0);
        tile.partial = None;
    }

    /// Marks the tiles that hold instants in `[from, to)` stale.
    pub(crate) fn stale_between(&mut self, series: &Series, from: Micros, to: Micros) {
        let first = self.tiles.partition_point(|t| t.start < from.floor(series.hop_us).0);
        for tile in &mut self.tiles[first..] {
            if tile.start >= to.0 {
                break;
            }
            tile.partial = None;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let partials = self.tiles.iter().filter_map(|t| t.partial.as_ref());
        self.tiles.capacity() * size_of::<CachedTile>()
            + partials.map(Partial::heap_bytes).sum::<usize>()
    }
}
