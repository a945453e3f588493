//! The columns by which rows of a spine name their entities.

use millrace_catalog::{Catalog, View};
use millrace_types::KeyType;

/// A column that names a part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// The kind of entity.
    pub(super) kind: String,
    /// The names that it may have.
    pub(super) names: Vec<String>,
    /// The type of the part.
    pub(super) ty: KeyType,
}

/// The columns for these views: one for each part of a kind's key, named after the kind, if it has one
/// part, or after the key field of a view's event stream.
pub(super) fn columns(catalog: &Catalog, views: &[&View]) -> Vec<KeyColumn> {
    let mut columns: Vec<KeyColumn> = Vec::new();
    for view in views {
        let Some(kind) = catalog.kind(view.entity) else { continue };
        let stream = catalog.stream_by_id(view.events);
        let key = stream.and_then(|s| s.key_for(view.entity).map(|k| (s, k)));
        let first = columns.iter().position(|c| c.kind == kind.name).unwrap_or_else(|| {
            for ty in &kind.parts {
                let names =
                    if kind.parts.len() == 1 { vec![kind.name.clone()] } else { Vec::new() };
                columns.push(KeyColumn { kind: kind.name.clone(), names, ty: *ty });
            }
            columns.len() - kind.parts.len()
        });
        let Some((stream, key)) = key else { continue };
        for (field, column) in key.fields.iter().zip(&mut columns[first..]) {
            let name = &stream.fields[*field].name;
            if !column.names.contains(name) {
                column.names.push(name.clone());
            }
        }
    }
    columns
}
