//! Heads, and the pages and ids they stand on.

use millrace_kernel::{Head, PageName, Plan};
use millrace_placement::Slots;
use millrace_store::{Part, SnapshotStore, StoreError};
use millrace_store_fjall::Inspection;
use millrace_types::entity::entity_hash;
use millrace_types::{Entity, Position};

use super::RESTORE;
use super::log::SlotLog;
use super::report::Check;

/// What to do about a head: the log still holds its facts.
const REBUILD: &str = "restore the snapshots from a copy that belongs to this log";

/// Reads every head with its parts.
pub(super) async fn heads(inspection: &Inspection, plan: &Plan, slots: &[SlotLog]) -> Check {
    let mut check = Check::new("heads");
    for found in inspection.heads() {
        let (entity, part, value) = match found {
            Ok(found) => found,
            Err(error) => {
                check.error(&error, RESTORE);
                continue;
            }
        };
        check.look();
        let applied = match value {
            Ok((_, bytes)) => head(inspection, plan, &entity, &bytes).await,
            Err(error) => Err(error),
        };
        let what = format!("{} of entity {}", name(part), entity.key);
        match applied {
            Ok(applied) => {
                if slot_of(inspection, plan, &entity)
                    .and_then(|slot| slots.get(slot))
                    .is_some_and(|log| !log.holds(applied))
                {
                    let problem = format!("covers {applied}, which is not in the log");
                    check.problem(&what, problem, REBUILD);
                }
            }
            Err(error) => check.error(&error, REBUILD),
        }
    }
    check
}

/// Decodes a head with everything it lists, and says what it covers.
async fn head(
    inspection: &Inspection,
    plan: &Plan,
    entity: &Entity,
    bytes: &[u8],
) -> Result<Position, StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        what: format!("head of entity {}", entity.key),
        reason,
    };
    let Some(kind) = plan.kind(entity.kind) else {
        return Err(damaged(format!("no catalog version has its kind, {}", entity.kind.0)));
    };
    let head = Head::decode(kind, bytes).map_err(|error| damaged(error.to_string()))?;
    let applied = head.applied;
    let (pages, ids) = head.part_names();
    let page = |name: &PageName| Part::Page(name.0, name.1);
    let id = |name: &PageName| Part::Ids(name.0, name.1);
    let names: Vec<Part> = pages.iter().map(page).chain(ids.iter().map(id)).collect();
    let wanted = names.iter().map(|part| (entity.clone(), *part)).collect();
    let mut parts = Vec::with_capacity(names.len());
    for (part, found) in names.iter().zip(inspection.store().load(wanted).await?) {
        let (_, bytes) =
            found.ok_or_else(|| damaged(format!("lists {}, which is gone", name(*part))))?;
        parts.push(bytes);
    }
    let ids = parts.split_off(pages.len());
    head.assemble(kind.clone(), &parts, &ids).map_err(|error| damaged(error.to_string()))?;
    Ok(applied)
}

fn slot_of(inspection: &Inspection, plan: &Plan, entity: &Entity) -> Option<usize> {
    let kind = plan.catalog.kinds.get(usize::from(entity.kind.0))?;
    let slots = Slots::try_new(inspection.store().slots()).ok()?;
    let slot = slots.slot_of(entity_hash(&kind.name, entity.key.as_bytes()));
    usize::try_from(slot.0).ok()
}

fn name(part: Part) -> String {
    match part {
        Part::Head => "head".to_owned(),
        Part::RebuiltHead(ver) => format!("rebuilt head {}", ver.0),
        Part::Page(ver, number) => format!("page {}.{number}", ver.0),
        Part::Ids(ver, number) => format!("ids {}.{number}", ver.0),
    }
}
