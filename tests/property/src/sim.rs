//! One slot with its log and its store in memory: what the join service does around the slot core,
//! step by step and without time.

mod backfill;
mod erase;
mod restart;
mod retention;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_kernel::erase::Erasures;
use millrace_kernel::slot::{Due, Fold, Input, MarkState, RebuiltPut, SlotCore, Suspected};
use millrace_kernel::{EntityState, Head, PageName, PartlyLoaded, Plan, SnapshotParts, StoredPage};
use millrace_test_support::generate::Rng;
use millrace_types::{
    Chunk, Entity, Fact, Judged, KnownAt, Position, Rebuilt, SlotId, StreamWatermark,
};

/// The name of a stored part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PartName {
    Head,
    Rebuilt(KnownAt),
    Page(PageName),
    Ids(PageName),
}

/// What comes beside the facts of a batch.
#[derive(Debug, Default)]
pub struct Beside {
    /// Who says it.
    pub incarnation: u64,
    /// Watermarks after the facts.
    pub watermarks: Vec<StreamWatermark>,
    /// The incarnation leaves.
    pub departs: bool,
    /// The facts were LATE before.
    pub replays_late: bool,
}

/// A slot, its log and its store.
pub struct Sim {
    pub(crate) plan: Arc<Plan>,
    pub(crate) core: SlotCore,
    pub(crate) log: Vec<(Position, Vec<u8>)>,
    pub(crate) parts: BTreeMap<(Entity, PartName), Vec<u8>>,
    pub(crate) mark: Option<MarkState>,
    /// Parts no stored head lists any more.
    garbage: Vec<(Entity, PartName)>,
    now: i64,
    epoch: u64,
    /// A backfill that folds.
    filling: Option<backfill::Filling>,
    /// Budget of bytes at hand.
    pub(crate) budget: usize,
    pub(crate) rows_max: u64,
    pub(crate) erasures: Arc<Erasures>,
    /// How often each interesting thing happened, to show that a run reached it.
    pub(crate) reached: BTreeMap<&'static str, u64>,
    /// What happened, for the message of a failure.
    pub(crate) steps: Vec<String>,
}

impl Sim {
    /// An empty slot.
    #[must_use]
    pub fn new(plan: Arc<Plan>, budget: usize, rows_max: u64) -> Self {
        let mut core = SlotCore::new(SlotId(0), plan.clone());
        core.set_empty();
        core.open_epoch(1);
        core.set_rows_max(rows_max);
        Self {
            plan,
            core,
            log: Vec::new(),
            parts: BTreeMap::new(),
            mark: None,
            garbage: Vec::new(),
            now: 1_000,
            epoch: 1,
            filling: None,
            budget,
            rows_max,
            erasures: Arc::default(),
            reached: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    pub(crate) fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
        self.steps.push(what.to_owned());
    }

    fn next_ver(&mut self) -> KnownAt {
        self.now += 10;
        KnownAt(self.now)
    }

    /// Judges, appends and confirms a batch with what its ingest incarnation says beside it. Gives its
    /// known_at and the verdicts.
    ///
    /// # Panics
    /// When the kernel refuses facts it should take.
    pub fn publish(&mut self, facts: &[Fact], beside: &Beside) -> (KnownAt, Vec<Judged>) {
        let mut bytes = Vec::new();
        facts.iter().for_each(|fact| fact.encode(&mut bytes));
        for entity in self.core.missing(&bytes).expect("encoded facts decode") {
            let state = self.load(&entity);
            self.core.insert_loaded(&entity, state);
        }
        let known_at = self.next_ver();
        let input = Input {
            incarnation: beside.incarnation,
            facts: &bytes,
            watermarks: &beside.watermarks,
            departs: beside.departs,
            replays_late: beside.replays_late,
        };
        let draft = self.core.judge(&[input], known_at).expect("encoded facts decode");
        let Some(draft) = draft else { return (known_at, Vec::new()) };
        self.steps.push(format!("publish {}", draft.position));
        self.log.push((draft.position, draft.bytes));
        self.core.confirm(draft.position, draft.known_at);
        self.core.enforce_budget(self.budget);
        if self.core.dirty_len() > 0 {
            self.reach("dirty");
        }
        (known_at, draft.judged.concat())
    }

    /// Puts an entity under suspicion; without further facts it becomes dirty in a chunk of its own.
    pub(crate) fn suspect(&mut self, entity: Entity, alone: bool) {
        if self.core.suspect(entity) != Suspected::Noted {
            return;
        }
        self.reach("suspect");
        if alone {
            self.publish_suspects();
        }
    }

    fn publish_suspects(&mut self) {
        let known_at = self.next_ver();
        let draft = self.core.judge(&[], known_at).expect("there is nothing to decode");
        let draft = draft.expect("somebody is under suspicion");
        self.steps.push(format!("suspects {}", draft.position));
        self.log.push((draft.position, draft.bytes));
        self.core.confirm(draft.position, draft.known_at);
    }

    /// Reads an entity from the store.
    pub(crate) fn load(&mut self, entity: &Entity) -> Option<EntityState> {
        let bytes = self.parts.get(&(entity.clone(), PartName::Head))?.clone();
        self.reach("load");
        Some(self.assemble(entity, &bytes))
    }

    pub(crate) fn assemble(&self, entity: &Entity, bytes: &[u8]) -> EntityState {
        let kind = self.plan.kind(entity.kind).expect("the plan has the kind");
        let head = Head::decode(kind, bytes).expect("a stored head decodes");
        let (pages, ids) = head.part_names();
        let part = |name: PartName| {
            let found = self.parts.get(&(entity.clone(), name));
            found.unwrap_or_else(|| panic!("the head of {entity:?} lists {name:?}")).clone()
        };
        let pages: Vec<_> = pages.into_iter().map(|n| part(PartName::Page(n))).collect();
        let ids: Vec<_> = ids.into_iter().map(|n| part(PartName::Ids(n))).collect();
        head.assemble(kind.clone(), &pages, &ids).expect("stored parts decode")
    }

    /// Opens the stored head of an entity for a read, if there is one.
    pub(crate) fn open(
        &self,
        entity: &Entity,
        view: usize,
        features: &[usize],
    ) -> Option<PartlyLoaded> {
        let bytes = self.parts.get(&(entity.clone(), PartName::Head))?;
        let kind = self.plan.kind(entity.kind).expect("the plan has the kind");
        let head = Head::decode(kind, bytes).expect("a stored head decodes");
        Some(head.open(kind.clone(), view, features).expect("a stored head opens"))
    }

    pub(crate) fn page(&self, entity: &Entity, name: PageName) -> StoredPage {
        let bytes = &self.parts[&(entity.clone(), PartName::Page(name))];
        StoredPage::decode(bytes).expect("a stored page decodes")
    }

    fn put(&mut self, entity: &Entity, ver: KnownAt, parts: SnapshotParts, head: PartName) {
        for (number, bytes) in parts.pages {
            let name = PartName::Page((ver, number));
            let old = self.parts.insert((entity.clone(), name), bytes);
            assert!(old.is_none(), "page {name:?} of {entity:?} is written once");
        }
        for (number, bytes) in parts.ids {
            let name = PartName::Ids((ver, number));
            let old = self.parts.insert((entity.clone(), name), bytes);
            assert!(old.is_none(), "id part {name:?} of {entity:?} is written once");
        }
        self.parts.insert((entity.clone(), head), parts.head);
    }

    /// Puts some of the heads that are due, and perhaps forgets what they replace.
    pub(crate) fn save(&mut self, bytes: usize) {
        let ver = self.next_ver();
        for put in self.core.heads_to_put(bytes, ver, Due::ALL) {
            self.reach("put");
            self.steps.push(format!("{} as of {}", put.entity.key, put.position));
            self.put(&put.entity, put.ver, put.parts, PartName::Head);
            self.core.head_saved(&put.entity);
            let pages = put.dropped_pages.into_iter().map(PartName::Page);
            let ids = put.dropped_ids.into_iter().map(PartName::Ids);
            let rebuilt = put.dropped_rebuilt.into_iter().map(PartName::Rebuilt);
            let gone = pages.chain(ids).chain(rebuilt);
            self.garbage.extend(gone.map(|name| (put.entity.clone(), name)));
        }
    }

    /// Deletes what no stored head lists any more.
    pub(crate) fn collect_garbage(&mut self) {
        for (entity, name) in std::mem::take(&mut self.garbage) {
            self.parts.remove(&(entity, name));
        }
    }

    /// Writes the mark.
    pub(crate) fn write_mark(&mut self) {
        if let Some(mark) = self.core.mark() {
            let before = self.mark.as_ref().map(|m| m.position);
            assert!(before.is_none_or(|b| b <= mark.position), "a mark never goes back");
            self.steps.push(format!("mark {}", mark.position));
            self.mark = Some(mark);
        }
    }

    /// Drops cold entities from memory.
    pub(crate) fn unload(&mut self) {
        if self.core.unload(usize::MAX) > 0 {
            self.reach("unload");
        }
    }

    /// Rebuilds up to `max` dirty entities; the fold may stop short first, and go on.
    pub(crate) fn rebuild(&mut self, max: usize, rng: &mut Rng) {
        let Some((entities, up_to)) = self.core.start_rebuild(max) else { return };
        if rng.percent(10) {
            self.core.rebuild_failed(&entities);
            return;
        }
        let mut fold = Fold::new(self.plan.clone(), entities.clone(), KnownAt::MAX);
        for target in [up_to, self.core.confirmed().0] {
            for (position, bytes) in &self.log {
                if *position > fold.covered() && *position <= target {
                    let chunk = Chunk::decode(bytes.as_slice()).expect("the log decodes");
                    fold.chunk(*position, &chunk).expect("the log decodes");
                }
            }
        }
        assert!(self.core.rebuild_covers(&entities, fold.covered()), "the fold covers the log");
        let (ver, known_at) = (self.next_ver(), self.next_ver());
        let marker = (self.core.marker_position(), known_at);
        let mut puts: Vec<RebuiltPut> = Vec::new();
        for (entity, state) in fold.finish() {
            let put = self.core.prepare_rebuilt(entity, state, ver, marker);
            self.put(&put.entity, ver, put.parts.clone(), PartName::Rebuilt(ver));
            puts.push(put);
        }
        let rebuilt =
            puts.iter().map(|p| Rebuilt { entity: p.entity.clone(), part: p.ver }).collect();
        let draft = self.core.draft_marker(rebuilt, known_at);
        assert_eq!(draft.position, marker.0, "the marker stands where the heads say");
        self.log.push((draft.position, draft.bytes));
        self.core.confirm(draft.position, draft.known_at);
        self.core.install_rebuilt(puts);
        self.reach("rebuild");
    }
}
