//! Following a slot's log for one view: what `Subscribe` emits (design §7).
//!
//! The follower replays chunks from the beginning of the log with everything at hand, re-judging
//! nothing: facts of a dirty entity wait, as their headers say, and take effect at the marker.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_types::codec::Reader;
use millrace_types::{
    Chunk, DecodeError, Entity, EntityKey, FactView, Micros, Position, StreamId, Verdict,
};

use crate::changes::{ChangeSet, RowChange};
use crate::entity::EntityState;
use crate::plan::{KindPlan, Plan};
use crate::watermark::SlotWatermarks;

/// The state of a view's joined rows in one slot.
#[derive(Debug)]
pub struct ViewFollower {
    kind: Arc<KindPlan>,
    kind_id: millrace_types::KindId,
    view: usize,
    name: String,
    entities: BTreeMap<EntityKey, Followed>,
    watermarks: SlotWatermarks,
    position: Position,
    facts: u64,
}

#[derive(Debug)]
struct Followed {
    state: EntityState,
    /// Facts that wait for a rebuild, by stream, as they stand in the log; `None` when not dirty.
    waiting: Option<Vec<(StreamId, Box<[u8]>)>>,
}

impl ViewFollower {
    /// Starts before the first chunk; `None` when the plan has no such view.
    #[must_use]
    pub fn new(plan: &Plan, view: &str) -> Option<Self> {
        let kind_id = plan.catalog.view(view)?.entity;
        let kind = plan.kind(kind_id)?.clone();
        Some(Self {
            view: kind.view_index(view)?,
            kind,
            kind_id,
            name: view.to_owned(),
            entities: BTreeMap::new(),
            watermarks: SlotWatermarks::default(),
            position: Position::START,
            facts: 0,
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
    ) -> Result<Vec<(Entity, RowChange)>, DecodeError> {
        let mut changed: BTreeMap<EntityKey, ChangeSet> = BTreeMap::new();
        for marker in chunk.header.rebuilt.iter().filter(|r| r.entity.kind == self.kind_id) {
            let Some(followed) = self.entities.get_mut(&marker.entity.key) else { continue };
            let set = changed.entry(marker.entity.key.clone()).or_default();
            for (stream, body) in followed.waiting.take().into_iter().flatten() {
                let fact = FactView::read(&mut Reader::new(&body))?;
                apply(&self.kind, self.view, set, followed, stream, &fact);
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
            if matches!(verdict, Verdict::Late | Verdict::Rejected(_) | Verdict::Duplicate) {
                continue;
            }
            let key = EntityKey::from_canonical(record.key);
            let (kind, view) = (self.kind.clone(), self.view);
            self.facts += 1;
            let followed = self.followed(key.clone());
            match &mut followed.waiting {
                Some(waiting) => waiting.push((record.stream, record.body.bytes.into())),
                None => {
                    let set = changed.entry(key).or_default();
                    apply(&kind, view, set, followed, record.stream, &record.body);
                }
            }
        }
        self.watermarks.replay(&chunk.header);
        self.position = position;
        let mut changes = Vec::new();
        for (key, set) in changed {
            if let Some(followed) = self.entities.get(&key) {
                let entity = Entity { kind: self.kind_id, key };
                changes.extend(
                    set.finish(&followed.state, self.view)
                        .into_iter()
                        .map(|change| (entity.clone(), change)),
                );
            }
        }
        Ok(changes)
    }

    fn followed(&mut self, key: EntityKey) -> &mut Followed {
        let kind = &self.kind;
        self.entities
            .entry(key)
            .or_insert_with(|| Followed { state: EntityState::new(kind.clone()), waiting: None })
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
    if let Some(stream) = kind.stream_index(stream) {
        set.apply(&mut followed.state, view, stream, fact);
    }
}
