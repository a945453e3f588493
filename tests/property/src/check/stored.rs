//! Reads from stored heads and the pages they need, against all that the head lists.

use millrace_test_support::generate::Read;

use super::{Check, Failure};
use crate::sim::PartName;

impl Check<'_> {
    /// The stored head of the entity answers as with all its pages, from those alone that it asks for.
    pub(super) fn compare_stored(&mut self, read: &Read) -> Result<(), Failure> {
        let plan = self.sim.plan.clone();
        let kind = plan.kind(read.entity.kind).ok_or_else(|| Failure("no such kind".to_owned()))?;
        let view = kind.view_index(&read.view).ok_or_else(|| Failure("no such view".to_owned()))?;
        let features = kind.feature_indexes(view, &[]).map_err(Failure)?;
        let head = (read.entity.clone(), PartName::Head);
        let Some(bytes) = self.sim.parts.get(&head).cloned() else { return Ok(()) };
        let whole = self.sim.assemble(&read.entity, &bytes).evaluate(view, &features, read.at);
        let Some(mut opened) = self.sim.open(&read.entity, view, &features) else { return Ok(()) };
        let needed = opened.needed(read.at).map_err(damaged)?;
        self.sim.reach(if needed.is_empty() { "stored, head alone" } else { "stored, with pages" });
        let without = needed.get(self.rng.below(needed.len().max(1))).copied();
        for name in &needed {
            if Some(*name) != without {
                opened.insert(*name, &self.sim.page(&read.entity, *name)).map_err(damaged)?;
            }
        }
        if let Some(name) = without {
            match opened.clone().evaluate(read.at) {
                Err(missing) if missing.0 == name => self.sim.reach("stored, a page missing"),
                // It may do without, if the answer is the same.
                Ok(found) if found == whole => {}
                other => {
                    return Err(Failure(format!("{read:?} without {name:?}: {other:?}")));
                }
            }
            opened.insert(name, &self.sim.page(&read.entity, name)).map_err(damaged)?;
        }
        match opened.evaluate(read.at) {
            Ok(found) if found == whole => Ok(()),
            other => Err(Failure(format!(
                "{read:?} from {needed:?}: {other:?} instead of {whole:?}\n  steps: {}",
                self.sim.steps.join(", ")
            ))),
        }
    }
}

fn damaged(error: millrace_types::DecodeError) -> Failure {
    Failure(error.to_string())
}
