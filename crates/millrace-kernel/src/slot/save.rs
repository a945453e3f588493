//! What leaves memory: heads to put, marks, facts beyond the budget at hand, cold entities.

use std::collections::BTreeMap;

use millrace_types::{
    Entity, Filled, IncarnationWatermarks, KnownAt, Micros, Position, Retained, StreamId,
};

use super::SlotCore;
use super::resident::{Fill, Renewal, Resident, Residents, Slab};
use crate::page::PageName;
use crate::snapshot::SnapshotParts;

/// A head to put, with its new pages and id parts before it.
#[derive(Debug)]
pub struct HeadPut {
    /// The entity.
    pub entity: Entity,
    /// The version of everything put.
    pub ver: KnownAt,
    /// Up to where the head covers the log.
    pub position: Position,
    /// The parts.
    pub parts: SnapshotParts,
    /// Pages the store holds that this head no longer lists; to be deleted only after the head is
    /// known and a later confirmation, plus a grace period.
    pub dropped_pages: Vec<PageName>,
    /// Id parts likewise.
    pub dropped_ids: Vec<PageName>,
    /// Rebuilt heads that this head replaces; likewise.
    pub dropped_rebuilt: Vec<KnownAt>,
}

/// What a slot has at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtHand {
    /// Memory of all residents, in bytes.
    pub resident_bytes: usize,
    /// Memory of the facts at hand among it, in bytes.
    pub fact_bytes: usize,
}

/// What a mark states; see `slot-log.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkState {
    /// Every chunk up to here is confirmed and in stored heads, waiting facts apart.
    pub position: Position,
    /// The known_at of the chunk at `position`: no later chunk has a smaller one.
    pub closed: KnownAt,
    /// The slot's watermarks.
    pub watermarks: Vec<(StreamId, Micros)>,
    /// The views' watermarks.
    pub views: Vec<(u64, Micros)>,
    /// What each incarnation stated last.
    pub incarnations: Vec<IncarnationWatermarks>,
    /// The greatest `at` of each stream.
    pub latest: Vec<(StreamId, Micros)>,
    /// The oldest position with a waiting fact.
    pub oldest_waiting: Option<Position>,
    /// The last erasure in effect at the position.
    pub erasures: u64,
    /// How far stored heads know every feature.
    pub filled: Filled,
    /// What was forgotten at the position, and what of it was taken out of the log.
    pub retained: Retained,
}

/// Which heads are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Those that were put last before this version: an entity that changes all the time is not put all
    /// the time.
    pub rested: KnownAt,
    /// Those that lack facts of this chunk or one before it.
    pub up_to: Position,
}

impl Due {
    /// All that lack facts.
    pub const ALL: Self = Self { rested: KnownAt::MAX, up_to: Position::END };
}

impl SlotCore {
    /// Snapshots of entities whose stored head lacks confirmed facts and is due, those unsaved longest
    /// first, until about `budget_bytes` of parts, all at version `ver`. Each must be put, then reported
    /// by [`SlotCore::head_saved`].
    pub fn heads_to_put(&mut self, budget_bytes: usize, ver: KnownAt, due: Due) -> Vec<HeadPut> {
        let confirmed = self.confirmed;
        let savable = |since: Position, slab: Slab| {
            let resident = self.residents.get(slab);
            let rests = resident.put_at.is_some_and(|put_at| put_at >= due.rested);
            // Somebody waits for what is filled in or forgotten.
            let hurries = resident.fill != Fill::No || resident.renewal != Renewal::No;
            let is_free = resident.saving.is_none() && resident.state.applied() <= confirmed;
            is_free && (hurries || (!rests && since <= due.up_to))
        };
        let unsaved = self.residents.unsaved().filter(|(since, slab)| savable(*since, *slab));
        let unsaved: Vec<Slab> = unsaved.map(|(_, slab)| slab).collect();
        let mut puts = Vec::new();
        let mut bytes = 0;
        for slab in unsaved {
            if bytes >= budget_bytes {
                break;
            }
            let put = Self::head_put(self.residents.get_mut(slab), ver);
            // A snapshot leaves partials beside the pages.
            self.residents.recount(slab);
            bytes += put.parts.bytes();
            puts.push(put);
        }
        puts
    }

    fn head_put(resident: &mut Resident, ver: KnownAt) -> HeadPut {
        let parts = resident.state.snapshot(ver);
        let position = resident.state.applied();
        resident.saving = Some(position);
        resident.put_at = Some(ver);
        resident.saved_horizon = resident.state.horizon();
        if resident.fill == Fill::Unsaved {
            resident.fill = Fill::Saving;
        }
        if resident.renewal == Renewal::Unsaved {
            resident.renewal = Renewal::Saving;
        }
        let now = resident.state.stored_parts();
        let before = std::mem::replace(&mut resident.listed, now);
        let gone = |old: Vec<PageName>, new: &[PageName]| {
            old.into_iter().filter(|name| !new.contains(name)).collect()
        };
        HeadPut {
            entity: resident.entity.clone(),
            ver,
            position,
            parts,
            dropped_pages: gone(before.0, &resident.listed.0),
            dropped_ids: gone(before.1, &resident.listed.1),
            dropped_rebuilt: std::mem::take(&mut resident.rebuilt_parts),
        }
    }

    /// The store holds this head now.
    pub fn head_saved(&mut self, entity: &Entity) {
        let Some(slab) = self.slab_of(entity) else { return };
        let resident = self.residents.get_mut(slab);
        let Some(saved) = resident.saving.take() else { return };
        let is_old = resident.renewal == Renewal::Unsaved;
        if resident.renewal == Renewal::Saving {
            resident.renewal = Renewal::No;
        }
        let since = (is_old || resident.state.applied() > saved).then(|| {
            // Chunks between the two touched it; the first after the saved one is a safe bound.
            Position { epoch: saved.epoch, sequence: saved.sequence + 1 }
        });
        let since = since.or_else(|| self.fill_saved(slab));
        self.residents.set_unsaved(slab, since);
    }

    pub(super) fn slab_of(&self, entity: &Entity) -> Option<Slab> {
        let kind = self.plan.kind(entity.kind)?;
        let key = entity.key.as_bytes();
        let hash = millrace_types::entity::entity_hash(&kind.kind_name, key);
        self.residents.find(hash, entity.kind, key)
    }

    /// The mark of the slot as of what is confirmed and saved now: everything it states is as of its
    /// position. `None` before the slot is open.
    #[must_use]
    pub fn mark(&mut self) -> Option<MarkState> {
        let unsaved = self.residents.unsaved().next().map(|(position, _)| position);
        let saved = unsaved.map(|p| Position { epoch: p.epoch, sequence: p.sequence - 1 });
        let position = saved.unwrap_or(self.confirmed).min(self.confirmed);
        let named = self.history.partition_point(|b| b.position <= position).checked_sub(1)?;
        // A later mark names this chunk or a later one.
        self.history.drain(..named);
        let erasures = self.erased_at(self.history.front()?.position);
        let retained = self.retained_at(self.history.front()?.position);
        let at = self.history.front()?;
        // As of the mark's position an entity still waits whose marker stands beyond it.
        self.rebuilt.retain(|(marker, _)| *marker > at.position);
        let waiting = self.dirty.values().map(|w| w.since);
        let rebuilt = self.rebuilt.iter().map(|(_, since)| *since);
        let oldest_waiting = waiting.chain(rebuilt).chain(self.oldest_scrub()).min();
        Some(MarkState {
            position: at.position,
            closed: at.known_at,
            watermarks: at.watermarks.own(),
            views: at.watermarks.views(),
            incarnations: at.watermarks.by_incarnation(),
            latest: self.latest(),
            oldest_waiting,
            erasures,
            filled: self.filled,
            retained,
        })
    }

    /// Memory held by the residents.
    #[must_use]
    pub fn at_hand(&self) -> AtHand {
        self.residents.at_hand()
    }

    /// Lets the oldest facts leave until the facts at hand take about four fifths of the budget, if
    /// they exceed it. Entities with an unconfirmed chunk, a head that is being put or waiting facts are
    /// left as they are.
    pub fn enforce_budget(&mut self, budget_bytes: usize) {
        let have = self.at_hand().fact_bytes;
        if have <= budget_bytes {
            return;
        }
        let target = budget_bytes / 5 * 4;
        if let Some(horizon) = self.horizon_for(have - target)
            && horizon > self.horizon
        {
            self.horizon = horizon;
        }
        self.let_leave();
    }

    /// Lets the facts before the horizon leave, of entities that are at rest.
    pub(crate) fn let_leave(&mut self) {
        let (horizon, confirmed) = (self.horizon, self.confirmed);
        let quiet = |r: &Resident| r.state.applied() <= confirmed && r.saving.is_none();
        let evictable: Vec<Slab> = self
            .residents
            .iter()
            .filter(|(_, r)| quiet(r) && !r.waiting && r.fill != Fill::Pinned)
            .filter(|(_, r)| r.state.horizon() < horizon)
            .map(|(slab, _)| slab)
            .collect();
        for slab in evictable {
            let resident = self.residents.get_mut(slab);
            // What leaves is folded for the features of today.
            if let Some(kind) = self.plan.kind(resident.entity.kind) {
                resident.state.replan(kind);
            }
            resident.state.evict(horizon);
            self.residents.recount(slab);
        }
    }

    /// The earliest instant before which about `excess` bytes of facts lie; the end of all where there
    /// are not so many.
    fn horizon_for(&self, excess: usize) -> Option<Micros> {
        let mut by_second: BTreeMap<i64, usize> = BTreeMap::new();
        for (_, resident) in self.residents.iter() {
            resident.state.weigh(|at, bytes| {
                *by_second.entry(at.0.div_euclid(1_000_000)).or_default() += bytes;
            });
        }
        let mut gone = 0;
        let enough = by_second.iter().find(|(_, bytes)| {
            gone += **bytes;
            gone >= excess
        });
        // The bytes of a page are rounded down to its facts.
        let (second, _) = enough.or_else(|| by_second.last_key_value())?;
        Some(Micros(second.saturating_add(1).saturating_mul(1_000_000)))
    }

    /// Drops cold entities that are saved, least recently used first, until about `bytes` of
    /// memory are freed. Gives the number dropped.
    pub fn unload(&mut self, bytes: usize) -> usize {
        let confirmed = self.confirmed;
        let mut idle: Vec<(u64, Slab)> = self
            .residents
            .iter()
            .filter(|(_, r)| r.unsaved_since().is_none() && r.saving.is_none())
            .filter(|(_, r)| r.state.applied() <= confirmed && r.fill == Fill::No)
            .map(|(slab, r)| (Residents::used(r), slab))
            .collect();
        idle.sort_unstable();
        let mut freed = 0;
        let mut dropped = 0;
        for (_, slab) in idle {
            if freed >= bytes {
                break;
            }
            freed += self.residents.get(slab).state.heap_bytes() + size_of::<Resident>();
            self.residents.remove(slab);
            self.complete = false;
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests;
