//! Names of streams and views as labels: those of the catalog, so many of them, and no others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use opentelemetry::Value;

/// Names that become labels, of a process and a set of names: as many as a catalog has at a time.
/// With five verdicts each they stay below the bound of series an instrument has.
pub const NAMES_MAX: usize = 256;
/// Stands for every name beyond the first [`NAMES_MAX`].
pub const OTHER: &str = "_other";
/// Stands for every name the catalog does not have.
pub const UNKNOWN: &str = "_unknown";

/// The names that are labels. Only names of the catalog belong here: they are an administrator's,
/// while anybody may ask for others.
#[derive(Debug, Default)]
pub struct Names(RwLock<HashMap<Arc<str>, Value>>);

impl Names {
    /// The label of a name of the catalog: itself, for the first [`NAMES_MAX`] of them, else
    /// [`OTHER`], under which counts add up.
    #[must_use]
    pub fn label(&self, name: &str) -> Value {
        self.own_label(name).unwrap_or_else(|| OTHER.into())
    }

    /// The same for gauges, which do not add up: none beyond the first [`NAMES_MAX`].
    #[must_use]
    pub fn own_label(&self, name: &str) -> Option<Value> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = known.get(name) {
            return Some(label.clone());
        }
        if known.len() >= NAMES_MAX {
            return None;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Others may have come meanwhile.
        if known.len() >= NAMES_MAX && !known.contains_key(name) {
            return None;
        }
        let name: Arc<str> = name.into();
        Some(known.entry(name.clone()).or_insert_with(|| Value::from(name)).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ten_thousand_names_are_so_many_labels() {
        let names = Names::default();
        let label = |n: usize| names.label(&format!("stream{n}")).to_string();
        let labels: BTreeSet<String> = (0..10_000).map(label).collect();
        assert_eq!(labels.len(), NAMES_MAX + 1);
        assert!(labels.contains(OTHER));
        assert_eq!(label(0), "stream0", "who came first keeps its label");
    }
}
