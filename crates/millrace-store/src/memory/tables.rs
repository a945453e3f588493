//! What the in-memory store holds, and every write as a step on it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use millrace_types::{Entity, KnownAt, Position, SlotId};

use crate::audit::AuditSample;
use crate::erasure::{Erasure, Receipt};
use crate::port::{
    Append, Applied, Incarnation, LogPage, Mark, Member, NodeId, NodeLease, Part, Put, SlotEpoch,
    StoreError,
};
use crate::rules::{self, LogCursor, NodeRow, RunRow};
use crate::window::ProducerWindow;

#[derive(Debug, Default)]
pub(super) struct Tables {
    nodes: HashMap<NodeId, NodeRow>,
    runs: HashMap<(NodeId, Incarnation), RunRow>,
    epochs: BTreeMap<(SlotId, u64), SlotEpoch>,
    log: BTreeMap<(SlotId, Position), (KnownAt, Bytes)>,
    parts: HashMap<(Entity, Part), (KnownAt, Bytes)>,
    marks: HashMap<SlotId, (KnownAt, Mark)>,
    members: BTreeMap<NodeId, (KnownAt, Member)>,
    samples: HashMap<NodeId, BTreeMap<u32, AuditSample>>,
    pub(super) catalogs: BTreeMap<u32, String>,
    pub(super) erasures: BTreeMap<u64, Erasure>,
    pub(super) receipts: BTreeMap<(u64, SlotId), (KnownAt, Receipt)>,
    pub(super) windows: HashMap<String, ProducerWindow>,
}

impl Tables {
    pub(super) fn renew_node(
        &mut self,
        node: &NodeId,
        incarnation: Incarnation,
        ceiling: KnownAt,
    ) -> Applied<NodeLease> {
        let key = (node.clone(), incarnation);
        let (row, run) = (self.nodes.get(node).copied(), self.runs.get(&key).copied());
        match rules::renewed(row, run, incarnation, ceiling) {
            Some((row, run)) => {
                self.nodes.insert(node.clone(), row);
                self.runs.insert(key, run);
                Applied::Yes
            }
            None => {
                let ceiling = row.map_or(KnownAt(0), |row| row.ceiling);
                Applied::No(run.map(|run| run.lease(incarnation, ceiling)))
            }
        }
    }

    pub(super) fn read_node(&self, node: &NodeId) -> Option<NodeLease> {
        let row = self.nodes.get(node)?;
        let run = self.runs.get(&(node.clone(), row.newest))?;
        Some(run.lease(row.newest, row.ceiling))
    }

    pub(super) fn fence_node(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Applied<NodeLease> {
        let run = self.runs.entry((node, incarnation)).or_default();
        *run = rules::fenced(Some(*run));
        Applied::Yes
    }

    pub(super) fn confirm(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.runs.get(&(node, incarnation)).is_some_and(|run| run.confirms())
    }

    pub(super) fn last_epoch(&self, slot: SlotId) -> Option<&SlotEpoch> {
        self.epochs.range((slot, 0)..=(slot, u64::MAX)).next_back().map(|(_, row)| row)
    }

    pub(super) fn epochs(&self, slot: SlotId) -> Vec<SlotEpoch> {
        self.epochs.range((slot, 0)..=(slot, u64::MAX)).map(|(_, row)| row.clone()).collect()
    }

    pub(super) fn insert_epoch(&mut self, slot: SlotId, epoch: SlotEpoch) -> Applied<SlotEpoch> {
        if let Some(standing) = self.epochs.get(&(slot, epoch.epoch)) {
            return Applied::No(Some(standing.clone()));
        }
        self.epochs.insert((slot, epoch.epoch), epoch);
        Applied::Yes
    }

    pub(super) fn release_epoch(
        &mut self,
        slot: SlotId,
        epoch: u64,
        incarnation: Incarnation,
        (end, last_ver): (u64, KnownAt),
    ) -> Applied<SlotEpoch> {
        let last = self.last_epoch(slot).map_or(0, |row| row.epoch);
        let row = self.epochs.get(&(slot, epoch)).cloned();
        match rules::released(row, last, incarnation, end, last_ver) {
            Ok(row) => {
                self.epochs.insert((slot, epoch), row);
                Applied::Yes
            }
            Err(not) => not,
        }
    }

    pub(super) fn append(&mut self, chunk: Append) {
        let place = (chunk.slot, chunk.position);
        // As `USING TIMESTAMP known_at`: an older write that lands late loses.
        if self.log.get(&place).is_none_or(|(known_at, _)| *known_at <= chunk.known_at) {
            self.log.insert(place, (chunk.known_at, chunk.bytes));
        }
    }

    pub(super) fn rewrite(&mut self, ver: KnownAt, chunk: Append) {
        if let Some(row) = self.log.get_mut(&(chunk.slot, chunk.position))
            && row.0 < ver
        {
            *row = (ver, chunk.bytes);
        }
    }

    pub(super) fn parts(&self, entity: &Entity) -> Vec<Part> {
        let mut parts: Vec<Part> =
            self.parts.keys().filter(|(of, _)| of == entity).map(|(_, part)| *part).collect();
        parts.sort_unstable();
        parts
    }

    pub(super) fn last_chunk(&self, slot: SlotId, epoch: u64) -> Option<(Position, Bytes)> {
        let at = |sequence| (slot, Position { epoch, sequence });
        let (place, (_, bytes)) = self.log.range(at(0)..=at(u64::MAX)).next_back()?;
        Some((place.1, bytes.clone()))
    }

    pub(super) fn read_log(
        &self,
        slot: SlotId,
        after: Position,
        up_to: Position,
        max_bytes: usize,
    ) -> Result<LogPage, StoreError> {
        let mut cursor = LogCursor::new(slot, &self.epochs(slot), after, up_to);
        let mut page = LogPage::default();
        if after >= up_to {
            return Ok(LogPage { complete: true, ..page });
        }
        let mut bytes_left = max_bytes;
        for ((_, position), (_, bytes)) in self.log.range((slot, after)..=(slot, up_to)) {
            if *position == after || !cursor.admit(*position)? {
                continue;
            }
            page.chunks.push((*position, bytes.clone()));
            bytes_left = bytes_left.saturating_sub(bytes.len());
            if bytes_left == 0 {
                page.complete = cursor.is_done();
                return Ok(page);
            }
        }
        page.complete = cursor.finish()?;
        Ok(page)
    }

    pub(super) fn put(&mut self, put: Put) {
        let key = (put.entity, put.part);
        if self.parts.get(&key).is_some_and(|(ver, _)| *ver >= put.ver) {
            return;
        }
        let deletes = put.bytes.is_empty() && put.part != Part::Head;
        if deletes {
            self.parts.remove(&key);
        } else {
            self.parts.insert(key, (put.ver, put.bytes));
        }
    }

    pub(super) fn load(&self, part: &(Entity, Part)) -> Option<(KnownAt, Bytes)> {
        self.parts.get(part).cloned()
    }

    pub(super) fn put_mark(&mut self, slot: SlotId, ver: KnownAt, mark: Mark) {
        if self.marks.get(&slot).is_none_or(|(standing, _)| *standing < ver) {
            self.marks.insert(slot, (ver, mark));
        }
    }

    pub(super) fn put_member(&mut self, ver: KnownAt, member: Member) {
        if self.members.get(&member.node).is_none_or(|(standing, _)| *standing < ver) {
            self.members.insert(member.node.clone(), (ver, member));
        }
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.members.values().map(|(_, member)| member.clone()).collect()
    }

    pub(super) fn put_samples(&mut self, node: &NodeId, samples: Vec<AuditSample>) {
        let ring = self.samples.entry(node.clone()).or_default();
        for sample in samples {
            if ring.get(&sample.place).is_none_or(|standing| standing.ver < sample.ver) {
                ring.insert(sample.place, sample);
            }
        }
    }

    pub(super) fn samples(&self, node: &NodeId) -> Vec<AuditSample> {
        self.samples.get(node).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(super) fn forget_samples(&mut self, up_to: KnownAt) {
        self.samples.values_mut().for_each(|ring| ring.retain(|_, sample| sample.ver > up_to));
    }

    pub(super) fn load_mark(&self, slot: SlotId) -> Option<(KnownAt, Mark)> {
        self.marks.get(&slot).cloned()
    }
}
