//! The oracle: the batch answer to every read, computed from semantics §1 and §2 by brute force.
//!
//! It is the judge of the product, so it is as plain as it can be: facts are kept by entity as they
//! came; each read starts from all of them. Nothing is folded ahead, cached or shared with the
//! kernel; the catalog only says which streams, views, features, windows and limits there are.

mod aggregate;
mod as_known;
mod instants;
mod judge;
mod live;
mod retention;
mod watermarks;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use millrace_catalog::{Catalog, Stream, View};
use millrace_types::{Entity, Fact, FactBody, FeatureValue, KnownAt, Micros, Status, StreamId};

pub use as_known::AsKnown;
pub use watermarks::StatedWatermarks;

use crate::condition::{Condition, ConditionError, Scope};
use crate::joined_row::JoinedRow;
use crate::wheres::Wheres;

/// A fact and when it was learned.
#[derive(Debug, Clone)]
struct Known {
    /// Of its chunk.
    chunk: KnownAt,
    known_at: KnownAt,
    stream: StreamId,
    body: FactBody,
}

/// All facts, by entity, and the catalog they are read through.
#[derive(Debug, Clone)]
pub struct Oracle {
    catalog: Catalog,
    /// Per view, in the catalog's order, the condition of each of its features.
    conditions: Vec<Vec<Option<Condition>>>,
    facts: HashMap<Entity, Vec<Known>>,
    /// Base chunks in the order of the log: what each forgets.
    bases: Vec<(KnownAt, StreamId, Micros)>,
}

impl Oracle {
    /// An oracle without facts. `wheres` holds the `where` texts as the catalog file has them.
    ///
    /// # Errors
    /// [`ConditionError`] when one of them is not an expression of semantics §1.7.
    pub fn new(catalog: &Catalog, wheres: &Wheres) -> Result<Self, ConditionError> {
        let mut conditions = Vec::new();
        for view in &catalog.views {
            let joins: Vec<&Stream> = view.joins.iter().map(|id| stream(catalog, *id)).collect();
            let scope = Scope::new(stream(catalog, view.events), &joins);
            let parsed: Result<_, _> = view
                .features
                .iter()
                .map(|f| wheres.get(&view.name, &f.name).map(|t| Condition::parse(t, &scope)))
                .map(Option::transpose)
                .collect();
            conditions.push(parsed?);
        }
        let catalog = catalog.clone();
        Ok(Self { catalog, conditions, facts: HashMap::new(), bases: Vec::new() })
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes a fact of a chunk with this known_at; the known_at an import states goes before it,
    /// unless it lies after the chunk's. Facts that were REJECTED or LATE are not to be inserted.
    pub fn insert(&mut self, known_at: KnownAt, fact: Fact) {
        let chunk = known_at;
        let known_at = fact.body.known_at.map_or(known_at, |stated| stated.min(known_at));
        let Fact { stream, entity, body } = fact;
        self.facts.entry(entity).or_default().push(Known { chunk, known_at, stream, body });
    }

    /// The entities with facts, in the order of their keys.
    #[must_use]
    pub fn entities(&self) -> Vec<&Entity> {
        let mut entities: Vec<&Entity> = self.facts.keys().collect();
        entities.sort();
        entities
    }

    /// The number of facts of an entity, repeated ones included.
    #[must_use]
    pub fn fact_count(&self, entity: &Entity) -> usize {
        self.facts.get(entity).map_or(0, Vec::len)
    }

    /// The number of facts of an entity and stream that say different things.
    #[must_use]
    pub fn distinct_facts(&self, entity: &Entity, stream: StreamId) -> usize {
        let mut distinct: Vec<&FactBody> = Vec::new();
        let facts = self.facts.get(entity).into_iter().flatten().filter(|f| f.stream == stream);
        for fact in facts {
            let known = |b: &&&FactBody| b.id == fact.body.id && judge::same(b, &fact.body);
            if !distinct.iter().any(|b| known(&b)) {
                distinct.push(&fact.body);
            }
        }
        distinct.len()
    }

    /// The value and status of every feature of a view, in the catalog's order.
    ///
    /// # Panics
    /// When the catalog has no view of this name.
    #[must_use]
    pub fn read(
        &self,
        view: &str,
        entity: &Entity,
        at: Micros,
        known_at: KnownAt,
    ) -> Vec<(FeatureValue, Status)> {
        self.as_known(view, entity, known_at).read(at)
    }

    /// The joined rows of a view as known at an instant, in the order `(at, seq, id)`: what the
    /// changes of a `tail` must sum up to.
    ///
    /// # Panics
    /// When the catalog has no view of this name.
    #[must_use]
    pub fn joined_rows(&self, view: &str, entity: &Entity, known_at: KnownAt) -> Vec<JoinedRow> {
        self.as_known(view, entity, known_at).into_rows()
    }

    /// What was known of an entity at an instant. For many reads of one entity this spares joining
    /// its facts each time.
    ///
    /// # Panics
    /// When the catalog has no view of this name.
    #[must_use]
    pub fn as_known(&self, view: &str, entity: &Entity, known_at: KnownAt) -> AsKnown<'_> {
        let (index, view) = self.view(view);
        let facts = self.counted(entity, known_at);
        let forgets = stream(&self.catalog, view.events).forgets;
        AsKnown::new(view, &self.conditions[index], forgets, |id| {
            let bodies: Vec<&FactBody> =
                facts.iter().filter(|f| f.stream == id).map(|f| &f.body).collect();
            live::live_facts(&bodies, stream(&self.catalog, id).fields.len())
        })
    }

    fn view(&self, name: &str) -> (usize, &View) {
        self.catalog
            .views
            .iter()
            .enumerate()
            .find(|(_, v)| v.name == name)
            .unwrap_or_else(|| panic!("the catalog has no view {name}"))
    }
}

fn stream(catalog: &Catalog, id: StreamId) -> &Stream {
    catalog.stream_by_id(id).expect("a checked catalog names streams it has")
}

/// Readable lists of statuses and values, for messages of failed checks.
#[must_use]
pub fn describe(view: &View, features: &[(FeatureValue, Status)]) -> BTreeMap<String, String> {
    let line = |(value, status): &(FeatureValue, Status)| format!("{} {value:?}", status.name());
    view.features.iter().map(|f| f.name.clone()).zip(features.iter().map(line)).collect()
}
