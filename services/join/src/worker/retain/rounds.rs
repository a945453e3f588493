//! The passes of a round over the chunks before a base chunk, no faster than the pace that is set.

use bytes::Bytes;
use millrace_client::port::StorePort;
use millrace_kernel::RetentionScrub;
use millrace_store::{Append, StoreError};
use millrace_types::{Chunk, DecodeError, KnownAt, Position, SlotId};
use tokio::time::Instant;

use crate::worker::recover::{damaged, decode};
use crate::worker::scan_rate::ScanRate;

/// Looks through the chunks before a base chunk twice, at this rate.
pub(super) async fn find(
    store: &dyn StorePort,
    slot: SlotId,
    base: Position,
    rate: ScanRate,
    mut scrub: RetentionScrub,
) -> Result<RetentionScrub, StoreError> {
    let mut passes = Passes { store, slot, base, rate, ver: None };
    passes.each(|chunk| scrub.find(chunk).map(|()| None)).await?;
    passes.each(|chunk| scrub.keep(chunk).map(|()| None)).await?;
    Ok(scrub)
}

/// Rewrites the chunks before a base chunk without what was found, at this rate.
pub(super) async fn rewrite(
    store: &dyn StorePort,
    (slot, ver): (SlotId, KnownAt),
    base: Position,
    rate: ScanRate,
    mut scrub: RetentionScrub,
) -> Result<RetentionScrub, StoreError> {
    let mut passes = Passes { store, slot, base, rate, ver: Some(ver) };
    passes.each(|chunk| scrub.rest(chunk)).await?;
    Ok(scrub)
}

struct Passes<'a> {
    store: &'a dyn StorePort,
    slot: SlotId,
    /// Chunks before it are looked at.
    base: Position,
    rate: ScanRate,
    /// The version of what is rewritten.
    ver: Option<KnownAt>,
}

impl Passes<'_> {
    /// Hands every chunk to `look`, and replaces those of which it gives what is left.
    async fn each(
        &mut self,
        mut look: impl FnMut(&Chunk<&[u8]>) -> Result<Option<Vec<u8>>, DecodeError>,
    ) -> Result<(), StoreError> {
        let page_bytes = self.rate.page_bytes();
        let mut after = Position::START;
        loop {
            let begun = Instant::now();
            let page = self.store.read_log(self.slot, after, self.base, page_bytes).await?;
            let (mut left, mut bytes) = (Vec::new(), 0);
            for (position, chunk) in page.chunks.iter().filter(|(at, _)| *at < self.base) {
                bytes += chunk.as_ref().len();
                let chunk = decode(self.slot, *position, chunk.as_ref())?;
                let rest = look(&chunk).map_err(|e| damaged(self.slot, *position, &e))?;
                left.extend(rest.map(|bytes| Append {
                    slot: self.slot,
                    position: *position,
                    known_at: chunk.header.known_at,
                    bytes: Bytes::from(bytes),
                }));
            }
            if let Some(ver) = self.ver.filter(|_| !left.is_empty()) {
                self.store.rewrite(ver, left).await?;
            }
            self.rate.keep(begun, bytes).await;
            match page.chunks.last() {
                Some((last, _)) if !page.complete => after = *last,
                Some(_) | None => return Ok(()),
            }
        }
    }
}
