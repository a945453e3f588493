//! Random reads of what a history left.

use millrace_types::{Entity, EntityKey, KeyPart, KeyType, KnownAt, Micros};

use super::rng::Rng;
use crate::oracle::Oracle;

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The view.
    pub view: String,
    /// The entity.
    pub entity: Entity,
    /// At.
    pub at: Micros,
    /// As known at.
    pub known_at: KnownAt,
}

/// `each` reads of every view and entity with facts, and of an entity without: mostly at edges of
/// facts, windows, tiles and hops, mostly of everything known. `known_ats` are those of the chunks.
///
/// # Panics
/// Never: a checked catalog has the kinds its views name.
#[must_use]
pub fn reads(oracle: &Oracle, known_ats: &[KnownAt], each: usize, rng: &mut Rng) -> Vec<Read> {
    let mut reads = Vec::new();
    for view in &oracle.catalog().views {
        let kind = oracle.catalog().kind(view.entity).expect("a checked view names its kind");
        let parts: Vec<KeyPart<'_>> = kind
            .parts
            .iter()
            .map(|part| match part {
                KeyType::Int64 => KeyPart::Int64(i64::MIN),
                KeyType::String => KeyPart::String("nobody"),
            })
            .collect();
        let nobody = EntityKey::try_new(&parts).expect("the parts are short and not empty");
        let nobody = Entity { kind: view.entity, key: nobody };
        let known = oracle.entities().into_iter().filter(|e| e.kind == view.entity);
        for entity in known.chain([&nobody]) {
            let instants = oracle.interesting_instants(&view.name, entity);
            for _ in 0..each {
                let at = *rng.pick(&instants);
                let other = *rng.pick(&instants);
                let at = if rng.percent(80) { at } else { between(rng, at, other) };
                let known_at = match known_ats {
                    [] => KnownAt::MAX,
                    _ if rng.percent(65) => KnownAt::MAX,
                    some => KnownAt(rng.pick(some).0.saturating_sub(i64::from(rng.percent(30)))),
                };
                reads.push(Read { view: view.name.clone(), entity: entity.clone(), at, known_at });
            }
        }
    }
    reads
}

/// An instant between two.
fn between(rng: &mut Rng, a: Micros, b: Micros) -> Micros {
    let (low, high) = (a.0.min(b.0), a.0.max(b.0));
    let span = usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX - 1);
    Micros(low.saturating_add(rng.below(span + 1) as i64))
}
