//! Following a slot's log for one view: what `Subscribe` emits (design §7).
//!
//! The follower replays chunks from the beginning of the log with everything at hand, re-judging
//! nothing: facts of a dirty entity wait, as their headers say, and take effect at the marker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_types::codec::Reader;
use millrace_types::fact::RecordView;
use millrace_types::{
    Boundaries, Chunk, ChunkHeader, DecodeError, Entity, EntityKey, FactView, Micros, Op, Position,
    StreamId, Verdict,
};

use crate::changes::{ChangeSet, ViewChange};
use crate::entity::{EntityState, Outcome};
use crate::erase::ErasedSet;
use crate::plan::{KindPlan, Plan};
use crate::watermark::SlotWatermarks;

/// The state of a view's joined rows in one slot.
#[derive(Debug)]
pub struct ViewFollower {
    plan: Plan,
    kind: Arc<KindPlan>,
    kind_id: millrace_types::KindId,
    view: usize,
    name: String,
    entities: BTreeMap<EntityKey, Followed>,
    watermarks: SlotWatermarks,
    position: Position,
    facts: u64,
    /// Entities that had facts of one whose erasure comes next.
    touched: BTreeSet<EntityKey>,
}

/// What takes effect once its entity is rebuilt.
#[derive(Debug)]
enum Waiting {
    /// A fact of a stream, as it stands in the log.
    Fact(StreamId, Box<[u8]>),
    /// A base chunk: what lies before it is forgotten.
    Base(Arc<Boundaries>),
}

#[derive(Debug)]
struct Followed {
    state: EntityState,
    /// What waits for a rebuild, in the order of the log; `None` when not dirty.
    waiting: Option<Vec<Waiting>>,
    /// RETRACTs that came again, as they stand in the log: only id and revision of one matter, so that
    /// they may name other entities than the first copy. Should one of these be erased, they count.
    repeats: BTreeSet<(StreamId, Box<[u8]>)>,
}

impl ViewFollower {
    /// Starts before the first chunk; `None` when the plan has no such view.
    #[must_use]
    pub fn new(plan: &Plan, view: &str) -> Option<Self> {
        let kind_id = plan.catalog.view(view)?.entity;
        let kind = plan.kind(kind_id)?.clone();
        Some(Self {
            plan: plan.clone(),
            view: kind.view_index(view)?,
            kind,
            kind_id,
            name: view.to_owned(),
            entities: BTreeMap::new(),
            watermarks: SlotWatermarks::default(),
            position: Position::START,
            facts: 0,
            touched: BTreeSet::new(),
        })
    }

    /// The last chunk followed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The view's watermark after it.
    #[must_use]
    pub fn watermark(&self) -> Option<Micros> {
        self.watermarks.of_view(&self.name)
    }

    /// Facts held, for budgets.
    #[must_use]
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Follows a chunk and gives what it changes, entity by entity, `-` before the `+` that
    /// replaces it.
    ///
    /// # Errors
    /// [`DecodeError`] when the chunk's facts do not decode.
    pub fn chunk<B: AsRef<[u8]>>(
        &mut self,
        position: Position,
        chunk: &Chunk<B>,
    ) -> Result<Vec<(Entity, ViewChange)>, DecodeError> {
        let mut changed: BTreeMap<EntityKey, ChangeSet> = BTreeMap::new();
        for marker in chunk.header.rebuilt.iter().filter(|r| r.entity.kind == self.kind_id) {
            let Some(followed) = self.entities.get_mut(&marker.entity.key) else { continue };
            let set = changed.entry(marker.entity.key.clone()).or_default();
            for waiting in followed.waiting.take().into_iter().flatten() {
                match waiting {
                    Waiting::Fact(stream, body) => {
                        let fact = FactView::read(&mut Reader::new(&body))?;
                        apply(&self.kind, self.view, set, followed, stream, &fact);
                    }
                    Waiting::Base(base) => {
                        set.forget(&followed.state, self.view, &base);
                        followed.state.forget(&base);
                    }
                }
            }
        }
        let kind = self.kind_id;
        for entity in chunk.header.dirtied.iter().filter(|e| e.kind == kind) {
            self.followed(entity.key.clone()).waiting.get_or_insert_default();
        }
        for (record, verdict) in chunk.records().zip(chunk.header.all_verdicts()) {
            let record = record?;
            if record.kind != self.kind_id {
                continue;
            }
            match verdict {
                Verdict::Late | Verdict::Rejected(_) => continue,
                Verdict::Duplicate if record.body.op != Op::Retract => continue,
                Verdict::Accepted
                | Verdict::Repaired { .. }
                | Verdict::Queued
                | Verdict::Duplicate => {}
            }
            let key = EntityKey::from_canonical(record.key);
            let (kind, view) = (self.kind.clone(), self.view);
            self.facts += 1;
            let followed = self.followed(key.clone());
            match &mut followed.waiting {
                Some(waiting) => {
                    waiting.push(Waiting::Fact(record.stream, record.body.bytes.into()));
                }
                None => {
                    let set = changed.entry(key).or_default();
                    apply(&kind, view, set, followed, record.stream, &record.body);
                }
            }
        }
        self.watermarks.replay(&chunk.header);
        self.position = position;
        self.forget(&chunk.header);
        let mut changes = self.erase(&chunk.header)?;
        for (key, set) in changed {
            if let Some(followed) = self.entities.get(&key) {
                let entity = Entity { kind: self.kind_id, key };
                changes.extend(
                    set.finish(&followed.state, self.view)
                        .into_iter()
                        .map(|change| (entity.clone(), ViewChange::Row(change))),
                );
            }
        }
        Ok(changes)
    }

    /// What a chunk erases is gone, and what had facts of it begins anew without them: the same whether
    /// these facts were followed or scrubbed before.
    fn erase(&mut self, header: &ChunkHeader) -> Result<Vec<(Entity, ViewChange)>, DecodeError> {
        let Some(notes) = &header.erasures else { return Ok(Vec::new()) };
        let kind = self.kind_id;
        let of_kind = |entity: &&Entity| entity.kind == kind;
        if notes.dirties {
            self.touched.extend(header.dirtied.iter().filter(of_kind).map(|e| e.key.clone()));
        }
        if notes.erased.is_empty() {
            return Ok(Vec::new());
        }
        let entity = |key| Entity { kind, key };
        let mut changes = Vec::new();
        let here = notes.erased.iter().filter(|e| e.is_here).map(|e| &e.entity);
        for erased in here.filter(of_kind) {
            self.entities.remove(&erased.key);
            changes.push((erased.clone(), ViewChange::Erased));
        }
        let set = ErasedSet::new(&notes.erased);
        for key in std::mem::take(&mut self.touched) {
            let Some(followed) = self.entities.get_mut(&key) else { continue };
            followed.scrub(&self.plan, &set, &entity(key.clone()))?;
            changes.push((entity(key.clone()), ViewChange::Erased));
            let rows = followed.state.all_emitted(self.view);
            changes.extend(rows.into_iter().map(|r| (entity(key.clone()), ViewChange::Row(r))));
        }
        Ok(changes)
    }

    /// Rows of events that a base chunk forgets are not retracted: nothing changes them any more, and who
    /// reads the log from its beginning may not see them at all.
    fn forget(&mut self, header: &ChunkHeader) {
        let base = header.retention.as_ref().map(|notes| &notes.base);
        let Some(base) = base.filter(|base| !base.is_empty()) else { return };
        let base = Arc::new(base.clone());
        for followed in self.entities.values_mut() {
            match &mut followed.waiting {
                Some(waiting) => waiting.push(Waiting::Base(base.clone())),
                None => {
                    followed.state.forget(&base);
                }
            }
        }
    }

    fn followed(&mut self, key: EntityKey) -> &mut Followed {
        let kind = &self.kind;
        self.entities.entry(key).or_insert_with(|| Followed {
            state: EntityState::new(kind.clone()),
            waiting: None,
            repeats: BTreeSet::new(),
        })
    }
}

impl Followed {
    /// Lets go of the facts that name an erased entity.
    fn scrub(&mut self, plan: &Plan, set: &ErasedSet, of: &Entity) -> Result<(), DecodeError> {
        let is_named = |stream, fact: &FactView<'_>| {
            let key = of.key.as_bytes();
            set.is_named_by(plan, &RecordView { kind: of.kind, key, stream, body: *fact })
        };
        self.state.scrub(|stream, fact| !is_named(stream, fact));
        for (stream, body) in std::mem::take(&mut self.repeats) {
            let fact = FactView::read(&mut Reader::new(&body))?;
            if is_named(stream, &fact) {
                continue;
            }
            if let Some(index) = self.state.plan.stream_index(stream) {
                self.state.apply(index, &fact, u64::MAX);
            }
            self.repeats.insert((stream, body));
        }
        let mut kept = Vec::new();
        for waiting in self.waiting.take().into_iter().flatten() {
            let goes = match &waiting {
                Waiting::Fact(stream, body) => {
                    is_named(*stream, &FactView::read(&mut Reader::new(body))?)
                }
                Waiting::Base(_) => false,
            };
            if !goes {
                kept.push(waiting);
            }
        }
        // It waits for its rebuild.
        self.waiting = Some(kept);
        Ok(())
    }
}

fn apply(
    kind: &KindPlan,
    view: usize,
    set: &mut ChangeSet,
    followed: &mut Followed,
    stream: StreamId,
    fact: &FactView<'_>,
) {
    let Some(index) = kind.stream_index(stream) else { return };
    let outcome = set.apply(&mut followed.state, view, index, fact);
    if outcome == Outcome::Duplicate && fact.op == Op::Retract {
        followed.repeats.insert((stream, fact.bytes.into()));
    }
}
