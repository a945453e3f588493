//! Entities from the store: a head, then the pages and id parts it lists.

use std::sync::Arc;

use bytes::Bytes;
use millrace_kernel::slot::Stamp;
use millrace_kernel::{EntityState, Evaluation, Head, KindPlan, Plan};
use millrace_store::{Part, StoreError};
use millrace_types::Entity;

use crate::port::{EntityOutcome, FeatureOutcome, StorePort};

/// Loads entities as their stored heads have them; `None` where the store has no head, or the plan
/// no such kind.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Damaged`] also when a part is missing that a head lists, which a
/// reader beside the owner may meet when the head was replaced meanwhile: it then reads again.
pub async fn load_states(
    store: &dyn StorePort,
    plan: &Plan,
    entities: Vec<Entity>,
) -> Result<Vec<(Entity, Option<EntityState>)>, StoreError> {
    let wanted = entities.iter().map(|e| (e.clone(), Part::Head)).collect();
    let heads = store.load(wanted).await?;
    let mut loaded = Vec::with_capacity(entities.len());
    for (entity, head) in entities.into_iter().zip(heads) {
        let state = match (head, plan.kind(entity.kind)) {
            (Some((_, bytes)), Some(kind)) => {
                Some(assemble(store, &entity, Part::Head, kind, bytes).await?)
            }
            _ => None,
        };
        loaded.push((entity, state));
    }
    Ok(loaded)
}

/// Puts a state together from a head's bytes and the parts it lists.
///
/// # Errors
/// As [`load_states`].
pub async fn assemble(
    store: &dyn StorePort,
    entity: &Entity,
    part: Part,
    kind: &Arc<KindPlan>,
    bytes: Bytes,
) -> Result<EntityState, StoreError> {
    let damaged = |error: millrace_types::DecodeError| StoreError::Damaged {
        what: format!("{part:?} of entity {}", entity.key),
        reason: error.to_string(),
    };
    let head = Head::decode(kind, &bytes).map_err(damaged)?;
    let (pages, ids) = head.part_names();
    let names: Vec<Part> = pages
        .iter()
        .map(|(ver, n)| Part::Page(*ver, *n))
        .chain(ids.iter().map(|(ver, n)| Part::Ids(*ver, *n)))
        .collect();
    let wanted = names.iter().map(|p| (entity.clone(), *p)).collect();
    let found = store.load(wanted).await?;
    let mut parts = Vec::with_capacity(names.len());
    for (name, bytes) in names.iter().zip(found) {
        let (_, bytes) = bytes.ok_or_else(|| StoreError::Damaged {
            what: format!("{part:?} of entity {}", entity.key),
            reason: format!("it lists {name:?}, which is not in the store"),
        })?;
        parts.push(bytes);
    }
    let ids = parts.split_off(pages.len());
    head.assemble(kind.clone(), &parts, &ids).map_err(damaged)
}

/// What an evaluation answers, with what the slot says beside it.
#[must_use]
pub fn outcome(evaluation: Evaluation, stamp: Stamp) -> EntityOutcome {
    EntityOutcome {
        features: evaluation
            .features
            .into_iter()
            .map(|f| FeatureOutcome {
                value: f.value,
                status: f.status,
                window_start: f.window_start,
            })
            .collect(),
        position: stamp.position,
        known_at: stamp.known_at,
        watermark: stamp.watermark,
        rebuilding: stamp.rebuilding,
        versions: evaluation.versions,
    }
}
