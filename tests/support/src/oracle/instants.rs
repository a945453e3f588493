//! Instants at which a mistake by one microsecond, tile or hop would show.

use std::collections::BTreeSet;

use millrace_catalog::Window;
use millrace_types::{Entity, Micros, Op};

use super::Oracle;

/// A day, in microseconds.
const DAY_US: i128 = 86_400_000_000;

impl Oracle {
    /// The edges of an entity's facts, windows, tiles and hops, each with its neighbours one
    /// microsecond before and after; an instant before everything, and ones after everything.
    /// Sorted, without repetition. Grows with facts times features: callers choose among them.
    ///
    /// # Panics
    /// When the catalog has no view of this name.
    #[must_use]
    pub fn interesting_instants(&self, view: &str, entity: &Entity) -> Vec<Micros> {
        let (_, view) = self.view(view);
        let ats: BTreeSet<i128> = self
            .facts
            .get(entity)
            .into_iter()
            .flatten()
            .filter(|fact| fact.body.op != Op::Retract)
            .filter(|fact| view.streams().any(|stream| stream == fact.stream))
            .map(|fact| i128::from(fact.body.at.0))
            .collect();
        let windows: Vec<Window> = view.features.iter().map(|f| f.window).collect();
        let mut edges = ats.clone();
        for at in &ats {
            edges.extend(windows.iter().flat_map(|window| window_edges(*window, *at)));
        }
        let mut instants: BTreeSet<i128> =
            edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]).collect();
        let (first, last) = (edges.first().copied(), edges.last().copied());
        instants.insert(first.unwrap_or(0) - DAY_US);
        instants.insert(last.unwrap_or(0) + DAY_US);
        instants.insert(last.unwrap_or(0) + 4_000 * DAY_US);
        instants.into_iter().filter_map(|us| i64::try_from(us).ok()).map(Micros).collect()
    }
}

/// Where a fact at `at` enters and leaves a window, and the edges of its tile.
fn window_edges(window: Window, at: i128) -> Vec<i128> {
    match window {
        Window::Unbounded => Vec::new(),
        Window::Exact { width_us } => vec![at + i128::from(width_us)],
        Window::Sliding { width_us, hop_us } => {
            let (width, hop) = (i128::from(width_us), i128::from(hop_us));
            let tile = at - at.rem_euclid(hop);
            // The fact leaves the window when the start reaches the tile after its own.
            vec![at + width, tile, tile + hop, tile + width, tile + hop + width]
        }
    }
}
