//! Which entities are compared, and the spine that asks for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millrace_catalog::{Catalog, View};
use millrace_client::{Client, TrainingSpine};
use millrace_proto::v1;
use millrace_types::{EntityKey, KeyPart, KeyType, Micros};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::commands::Failure;

/// So many entities of a view, drawn from all that have events: those whose hashes under this seed are
/// the least. Reads the view's events through once.
pub(super) async fn keys(
    client: &Client,
    catalog: &Catalog,
    view: &View,
    count: usize,
    seed: u64,
) -> Result<Vec<EntityKey>, Failure> {
    let cheapest = view.features.first().map(|feature| feature.name.clone());
    let start = v1::TrainingSetStart {
        views: vec![v1::TrainingView {
            view: view.name.clone(),
            features: cheapest.into_iter().collect(),
        }],
        rows: Some(v1::training_set_start::Rows::Events(v1::EventRows::default())),
        known_at: Some(v1::training_set_start::KnownAt::Latest(v1::AsKnownLatest {})),
        ..Default::default()
    };
    let parts = catalog.kind(view.entity).map_or(0, |kind| kind.parts.len());
    let mut least: BTreeSet<(u64, EntityKey)> = BTreeSet::new();
    let mut last: Option<EntityKey> = None;
    let mut set = client.training_set(start, None);
    while let Some(rows) = set.next().await? {
        let columns: Vec<Part<'_>> =
            rows.features.columns().iter().take(parts).map(Part::of).collect();
        for row in 0..rows.features.num_rows() {
            let key: Vec<KeyPart<'_>> = columns.iter().map(|column| column.get(row)).collect();
            let Ok(key) = EntityKey::try_new(&key) else { continue };
            // An entity's events come together.
            if last.as_ref() == Some(&key) {
                continue;
            }
            last = Some(key.clone());
            least.insert((xxh3_64_with_seed(key.as_bytes(), seed), key));
            if least.len() > count {
                least.pop_last();
            }
        }
    }
    Ok(least.into_iter().map(|(_, key)| key).collect())
}

/// A column of keys.
enum Part<'a> {
    Int64(&'a [i64]),
    Text(&'a StringArray),
}

impl<'a> Part<'a> {
    fn of(column: &'a ArrayRef) -> Self {
        match column.as_primitive_opt::<Int64Type>() {
            Some(numbers) => Self::Int64(numbers.values()),
            None => Self::Text(column.as_string()),
        }
    }

    fn get(&self, row: usize) -> KeyPart<'a> {
        match self {
            Self::Int64(numbers) => KeyPart::Int64(numbers[row]),
            Self::Text(texts) => KeyPart::String(texts.value(row)),
        }
    }
}

/// The rows of these entities at an instant.
pub(super) fn spine(
    catalog: &Catalog,
    view: &View,
    keys: &[&EntityKey],
    at: Micros,
) -> Result<TrainingSpine, Failure> {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (_, parts) in catalog.key_columns(&[view]) {
        for (place, part) in parts.iter().enumerate() {
            let values = keys.iter().map(|key| key.parts().nth(place));
            let column: ArrayRef = match part.ty {
                KeyType::Int64 => Arc::new(Int64Array::from_iter(values.map(number))),
                KeyType::String => Arc::new(StringArray::from_iter(values.map(text))),
            };
            columns.push((part.names.first().cloned().unwrap_or_default(), column));
        }
    }
    let ats = Int64Array::from_value(at.0, keys.len());
    columns.push(("at".to_owned(), Arc::new(ats)));
    let named_by = columns.iter().map(|(name, _)| name.clone()).collect();
    let batch = RecordBatch::try_from_iter(columns);
    let batch = batch.map_err(|e| Failure::Runtime(e.to_string()))?;
    let (to, rows) = mpsc::channel(1);
    // There is room for one, and it is the only one.
    let _ = to.try_send(batch);
    Ok(TrainingSpine { rows, named_by })
}

fn number(part: Option<KeyPart<'_>>) -> Option<i64> {
    match part? {
        KeyPart::Int64(value) => Some(value),
        KeyPart::String(_) => None,
    }
}

fn text(part: Option<KeyPart<'_>>) -> Option<String> {
    match part? {
        KeyPart::Int64(_) => None,
        KeyPart::String(value) => Some(value.to_owned()),
    }
}
