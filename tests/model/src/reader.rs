//! Reading as an owner or a follower does: the log page by page, a head and its page.

use std::sync::Arc;

use bytes::Bytes;
use millrace_client::port::StorePort;
use millrace_store::memory::SplitMix64;
use millrace_store::{Part, StoreError};
use millrace_types::{KnownAt, Position, SlotId};

use crate::history::SLOTS;
use crate::node::Stopped;
use crate::server::Server;
use crate::snapshot::{Head, entity};
use crate::world::{Log, View, World};

/// Bytes of a log page: one or two chunks, so that a read spans several calls.
const PAGE_BYTES: usize = 64;
/// How often a head is read again whose page is gone.
const ATTEMPTS: u32 = 8;

/// Reads the log of a slot from its start to `up_to`, and takes it for everything before `taken_for`.
///
/// # Errors
/// [`Stopped`].
pub async fn log(
    world: &World,
    store: &dyn StorePort,
    slot: SlotId,
    up_to: Position,
    taken_for: Position,
) -> Result<Log, Stopped> {
    let mut chunks: Log = Vec::new();
    loop {
        let after = chunks.last().map_or(Position::START, |(position, _)| *position);
        let page = match store.read_log(slot, after, up_to, PAGE_BYTES).await {
            Err(error @ StoreError::Damaged { .. }) => {
                world.blame(format!("ACK: {error}"));
                return Err(Stopped);
            }
            page => page?,
        };
        let empty = page.chunks.is_empty();
        chunks.extend(page.chunks);
        if page.complete || empty {
            world.seen().views.push(View { slot, up_to: taken_for, chunks: chunks.clone() });
            return Ok(chunks);
        }
    }
}

/// Reads the head of a slot's entity and the page it stands on. Whoever misses a page reads the
/// head again: it may have been replaced meanwhile, and its page deleted.
///
/// # Errors
/// [`Stopped`].
pub async fn head(
    world: &World,
    store: &dyn StorePort,
    slot: SlotId,
) -> Result<Option<Head>, Stopped> {
    let mut missed: Option<(KnownAt, Head)> = None;
    for _ in 0..ATTEMPTS {
        let found = load(store, slot, Part::Head).await?;
        let Some((ver, bytes)) = found else { return Ok(None) };
        let head = Head::decode(&bytes);
        if missed == Some((ver, head)) {
            world.blame(format!("PAGE: the head of {} stands on a page that is gone", slot.0));
            return Err(Stopped);
        }
        match load(store, slot, head.part()).await? {
            Some((_, page)) if page == head.page_hash.to_le_bytes()[..] => return Ok(Some(head)),
            Some(_) => {
                world.blame(format!("PAGE: the head of {} stands on another page", slot.0));
                return Err(Stopped);
            }
            None => missed = Some((ver, head)),
        }
    }
    Err(Stopped)
}

async fn load(
    store: &dyn StorePort,
    slot: SlotId,
    part: Part,
) -> Result<Option<(KnownAt, Bytes)>, StoreError> {
    Ok(store.load(vec![(entity(slot), part)]).await?.pop().flatten())
}

/// The last chunk that stands in the log right now, confirmed or not: what a careless taker
/// remembers as the end.
///
/// # Errors
/// [`StoreError`].
pub async fn last_seen(store: &dyn StorePort, slot: SlotId) -> Result<Position, StoreError> {
    let page = store.read_log(slot, Position::START, Position::END, usize::MAX).await?;
    Ok(page.chunks.last().map_or(Position::START, |(position, _)| *position))
}

/// Follows slots without owning them: the log only up to a mark, then the head.
pub async fn follow(world: World, server: Arc<Server>, mut random: SplitMix64) {
    for _ in 0..random.below(8) {
        let slot = SLOTS[random.below(SLOTS.len() as u64) as usize];
        if look(&world, &server, slot).await.is_err() {
            return;
        }
    }
}

async fn look(world: &World, server: &Server, slot: SlotId) -> Result<(), Stopped> {
    let writer = server.writer();
    if let Some((_, mark)) = writer.load_mark(slot).await? {
        log(world, &*writer, slot, mark.position, mark.position).await?;
    }
    head(world, &*writer, slot).await?;
    Ok(())
}
