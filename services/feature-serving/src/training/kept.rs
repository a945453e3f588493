//! Which rows of a set can be answered where streams have a retention: those whose windows hold nothing that
//! is forgotten. What is known of slots ahead names the first row that cannot; the log that is read settles it.

use millrace_kernel::TooEarly;
use millrace_types::{Boundaries, Micros, SlotId};

use super::question::{AskedView, Resolved};
use super::spine::Section;
use crate::error::ReadError;

/// The instants before which facts are forgotten, by slot.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<Boundaries>);

impl Kept {
    /// What slots said, by slot.
    pub(super) fn new(forgotten: Vec<Boundaries>) -> Self {
        let is_all = forgotten.iter().all(Boundaries::is_empty);
        Self(if is_all { Vec::new() } else { forgotten })
    }

    /// The first row of a section that cannot be answered, and why; `first` is the number of its first row.
    pub(super) fn check(
        &self,
        resolved: &Resolved,
        placement: millrace_placement::Slots,
        section: &Section,
        first: u64,
    ) -> Result<(), ReadError> {
        if self.0.is_empty() {
            return Ok(());
        }
        // By view and slot, since a section has many rows.
        let of_view = |view: &AskedView| -> Vec<Micros> {
            self.0.iter().map(|slot| earliest(resolved, view, slot)).collect()
        };
        let earliest: Vec<Vec<Micros>> = resolved.views.iter().map(of_view).collect();
        for (row, at) in section.ats.iter().enumerate() {
            for (kind, named) in resolved.kinds.iter().zip(&section.kinds) {
                let (hash, _) = named.entities.get(named.rows[row]);
                let slot = placement.slot_of(hash).0 as usize;
                let at = Micros(*at);
                for place in kind.views.iter().filter(|place| at < earliest[**place][slot]) {
                    let view = &resolved.views[*place];
                    if let Some(early) = too_early(resolved, view, at, &self.0[slot]) {
                        let row = Some(first + row as u64);
                        return Err(ReadError::TooEarly { early, row });
                    }
                }
            }
        }
        Ok(())
    }

    /// The first instant at which every slot can answer events of the first view.
    ///
    /// # Errors
    /// [`ReadError::TooEarly`] where a feature needs every fact.
    pub(super) fn events_from(&self, resolved: &Resolved) -> Result<Micros, ReadError> {
        let Some(view) = resolved.views.first() else { return Ok(Micros::MIN) };
        let mut from = Micros::MIN;
        for slot in &self.0 {
            let earliest = earliest(resolved, view, slot);
            if earliest == Micros::MAX
                && let Some(early) = too_early(resolved, view, Micros::MAX, slot)
            {
                return Err(ReadError::TooEarly { early, row: None });
            }
            from = from.max(earliest);
        }
        Ok(from)
    }

    /// Refuses to go on with events of the first view from an instant on, in this slot and those behind it,
    /// where they were forgotten since the set was begun.
    ///
    /// # Errors
    /// [`ReadError::TooEarly`].
    pub(super) fn check_events(
        &self,
        resolved: &Resolved,
        from: Micros,
        slot: u32,
    ) -> Result<(), ReadError> {
        let Some(view) = resolved.views.first() else { return Ok(()) };
        let mut slots = self.0.iter().skip(slot as usize);
        match slots.find_map(|slot| too_early(resolved, view, from, slot)) {
            Some(early) => Err(ReadError::TooEarly { early, row: None }),
            None => Ok(()),
        }
    }
}

/// Refuses rows of a view that need what the chunks that were read may lack; `least` is the earliest of
/// their instants.
pub(super) fn check_read(
    resolved: &Resolved,
    view: &AskedView,
    slot: SlotId,
    least: Option<Micros>,
    boundaries: &Boundaries,
) -> Result<(), ReadError> {
    let Some(at) = least.filter(|_| !boundaries.is_empty()) else { return Ok(()) };
    match too_early(resolved, view, at, boundaries) {
        Some(early) => {
            tracing::debug!(slot = slot.0, %early, "facts were forgotten while a set was made");
            Err(ReadError::TooEarly { early, row: None })
        }
        None => Ok(()),
    }
}

/// The earliest instant that a view can be read at; the latest one where it never can.
fn earliest(resolved: &Resolved, view: &AskedView, boundaries: &Boundaries) -> Micros {
    let earliest = kind_of(resolved, view)
        .and_then(|(kind, index)| kind.earliest(index, &view.features, boundaries));
    earliest.map_or(Micros::MIN, |(at, _)| at.unwrap_or(Micros::MAX))
}

fn too_early(
    resolved: &Resolved,
    view: &AskedView,
    at: Micros,
    boundaries: &Boundaries,
) -> Option<TooEarly> {
    let (kind, index) = kind_of(resolved, view)?;
    kind.too_early(index, &view.features, at, boundaries)
}

fn kind_of<'a>(
    resolved: &'a Resolved,
    view: &AskedView,
) -> Option<(&'a millrace_kernel::KindPlan, usize)> {
    let entity = resolved.plan.catalog.view(&view.name)?.entity;
    let kind = resolved.plan.kind(entity)?;
    Some((kind, kind.view_index(&view.name)?))
}
