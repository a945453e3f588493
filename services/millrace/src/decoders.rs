//! Decoders of arguments and settings, which are private otherwise, for the fuzz targets.

use std::path::Path;

use millrace_catalog::{Catalog, Kind, View};
use millrace_types::EntityKey;

use crate::commands::get::keys;
use crate::commands::training::spine;
use crate::serve::ServeKeys;

/// Reads an entity key as `get` takes it.
#[must_use]
pub fn entity_key(text: &str, kind: &Kind) -> Option<EntityKey> {
    keys::parse(text, kind).ok()
}

/// Reads the configuration file of a service; true when it was taken.
#[must_use]
pub fn settings(text: &str) -> bool {
    toml::from_str::<ServeKeys>(text).is_ok()
}

/// Reads a file of a spine for a view, in the form that its name tells, until it has given so many rows.
/// True when it has rows and no fault.
#[must_use]
pub fn spine(path: &Path, catalog: &Catalog, view: &View, rows_max: usize) -> bool {
    let Ok(mut reader) = spine::open(path, &catalog.key_columns(&[view])) else { return false };
    let mut rows = 0;
    while rows < rows_max {
        match reader.next_batch() {
            Ok(Some(batch)) => rows += batch.num_rows(),
            Ok(None) => return rows > 0,
            Err(_) => return false,
        }
    }
    true
}
