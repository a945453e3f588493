//! Erasures: afterwards everything is as if the facts that name an erased entity had never come.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_catalog::Catalog;
use millrace_kernel::erase::Erasures;
use millrace_kernel::{EmittedRow, ViewChange, ViewFollower};
use millrace_types::{
    Chunk, Entity, EntityKey, Fact, Judged, KeyPart, KnownAt, Micros, RejectReason, Value, Verdict,
};

use super::{Check, Failure};

type Rows = BTreeMap<(Entity, Box<[u8]>), EmittedRow>;

/// The entities that a fact names: that of the slot, and those of the other keys of its stream.
fn named(catalog: &Catalog, fact: &Fact) -> Vec<Entity> {
    let stream = &catalog.streams[usize::from(fact.stream.0)];
    let values: Vec<Value> = fact.body.row.view().values().map(|v| v.to_value()).collect();
    let mut named = vec![fact.entity.clone()];
    for mapping in stream.keys.iter().filter(|m| m.kind != fact.entity.kind) {
        let parts: Option<Vec<KeyPart<'_>>> = mapping
            .fields
            .iter()
            .map(|field| match values.get(*field) {
                Some(Value::Int64(v)) => Some(KeyPart::Int64(*v)),
                Some(Value::String(v)) => Some(KeyPart::String(v)),
                _ => None,
            })
            .collect();
        let key = parts.and_then(|parts| EntityKey::try_new(&parts).ok());
        named.extend(key.map(|key| Entity { kind: mapping.kind, key }));
    }
    named
}

impl Check<'_> {
    pub(super) fn names_erased(&self, fact: &Fact) -> bool {
        named(self.oracle.catalog(), fact).iter().any(|entity| self.erased.contains(entity))
    }

    /// The verdict of a fact that names an erased entity.
    pub(super) fn refused() -> Judged {
        Verdict::Rejected(RejectReason::ErasedEntity).into()
    }

    /// Erases an entity or two that some fact names.
    pub(super) fn erase_some(&mut self) -> Result<(), Failure> {
        let catalog = self.oracle.catalog().clone();
        let mut candidates: Vec<Entity> =
            self.in_effect.iter().flat_map(|(_, fact)| named(&catalog, fact)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|entity| !self.erased.contains(entity));
        if candidates.is_empty() {
            return Ok(());
        }
        let mut tails = self.tails(&catalog)?;
        for _ in 0..self.rng.between(1, 2) {
            let entity = self.rng.pick(&candidates).clone();
            self.erased.push(entity);
        }
        let numbered = self.erased.iter().cloned().enumerate();
        let list = Erasures::default().with(numbered.map(|(n, e)| (n as u64 + 1, e)));
        let bodies = self.forget_erased();
        if bodies.iter().any(|body| self.sim.holds(body)) {
            self.sim.reach("bytes to erase");
        }
        self.sim.erase(Arc::new(list), &mut self.rng);
        self.known_ats.push(self.sim.last_known_at());
        if let Some(body) = bodies.iter().find(|body| self.sim.holds(body)) {
            return Err(Failure(format!("bytes of an erased fact are left: {body:?}")));
        }
        for (view, (follower, rows)) in &mut tails {
            let events = catalog.view(view).map(|v| v.events);
            let boundary = events.map_or(Micros::MIN, |events| self.oracle.boundary(events));
            follow(follower, rows, &self.sim.log, boundary)?;
            self.compare_rows(view, rows)?;
        }
        self.erased_are_empty()
    }

    /// Takes what names an erased entity out of what is expected; gives the encoded facts that were in
    /// effect.
    fn forget_erased(&mut self) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        let all = std::mem::take(&mut self.in_effect);
        let (gone, left): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, fact)| self.names_erased(fact));
        for (_, fact) in gone {
            let mut body = Vec::new();
            fact.body.encode(&mut body);
            bodies.push(body);
        }
        let mut oracle = self.empty_oracle(self.oracle.catalog());
        left.iter().for_each(|(known_at, fact)| oracle.insert(*known_at, fact.clone()));
        self.forget_in(&mut oracle, KnownAt::MAX);
        // The same bytes may stand in a fact that stays.
        let stays = |body: &Vec<u8>| {
            left.iter().any(|(_, fact)| {
                let mut other = Vec::new();
                fact.body.encode(&mut other);
                other.windows(body.len()).any(|w| w == body.as_slice())
            })
        };
        bodies.retain(|body| body.len() >= 8 && !stays(body));
        self.in_effect = left;
        self.oracle = oracle;
        let late = std::mem::take(&mut self.late);
        self.late = late.into_iter().filter(|fact| !self.names_erased(fact)).collect();
        let late = std::mem::take(&mut self.judged_late);
        self.judged_late = late.into_iter().filter(|(_, f)| !self.names_erased(f)).collect();
        bodies
    }

    /// A follower of each view, as far as the log goes, and the rows it has told of.
    fn tails(&self, catalog: &Catalog) -> Result<BTreeMap<String, (ViewFollower, Rows)>, Failure> {
        let mut tails = BTreeMap::new();
        for view in &catalog.views {
            let Some(mut follower) = ViewFollower::new(&self.sim.plan, &view.name) else {
                return Err(Failure(format!("view {} cannot be followed", view.name)));
            };
            let mut rows = Rows::new();
            let boundary = self.oracle.boundary(view.events);
            follow(&mut follower, &mut rows, &self.sim.log, boundary)?;
            tails.insert(view.name.clone(), (follower, rows));
        }
        Ok(tails)
    }

    /// An erased entity reads like one that never was.
    fn erased_are_empty(&mut self) -> Result<(), Failure> {
        let catalog = self.oracle.catalog().clone();
        for entity in self.erased.clone() {
            for view in catalog.views.iter().filter(|v| v.entity == entity.kind) {
                let at = Micros(*self.rng.pick(&[0, 1_000_000, i64::MAX / 4]));
                let read = millrace_test_support::generate::Read {
                    view: view.name.clone(),
                    entity: entity.clone(),
                    at,
                    known_at: KnownAt::MAX,
                };
                self.compare_read(&read)?;
            }
        }
        Ok(())
    }
}

/// Follows the rest of a log. Rows before the boundary are left as they were once they are forgotten, and
/// their ids may come anew.
pub(super) fn follow(
    follower: &mut ViewFollower,
    rows: &mut Rows,
    log: &[(millrace_types::Position, Vec<u8>)],
    boundary: Micros,
) -> Result<(), Failure> {
    let from = follower.position();
    for (position, bytes) in log.iter().filter(|(position, _)| *position > from) {
        let chunk = Chunk::decode(bytes.as_slice()).map_err(|e| Failure(e.to_string()))?;
        let changes = follower.chunk(*position, &chunk);
        for (entity, change) in changes.map_err(|e| Failure(e.to_string()))? {
            let change = match change {
                ViewChange::Row(change) => change,
                ViewChange::Erased => {
                    rows.retain(|(of, _), _| *of != entity);
                    continue;
                }
            };
            let key = (entity, change.id.clone());
            let undone = match change.plus {
                true => rows.insert(key, change.row).is_none_or(|before| before.at < boundary),
                false => rows.remove(&key) == Some(change.row),
            };
            if !undone {
                return Err(Failure("a change of a view undoes nothing".to_owned()));
            }
        }
    }
    Ok(())
}
