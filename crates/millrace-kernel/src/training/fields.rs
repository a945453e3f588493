//! Which fields of the streams are read: only these are decoded.

use millrace_catalog::{Aggregate, FieldRef, Source};
use millrace_types::FieldType;

use super::slide::slides;
use crate::plan::{FeaturePlan, KindPlan, ViewPlan};

/// The fields of a stream that are read, each with the number of its column.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    /// By field of the stream; it ends with the last that is read.
    columns: Vec<Option<u16>>,
    /// By column.
    types: Vec<FieldType>,
}

impl Fields {
    /// By field of the stream: the number of its column, if it is read.
    pub(super) fn wanted(&self) -> &[Option<u16>] {
        &self.columns
    }

    /// The column of a field that is read.
    #[inline]
    pub(super) fn column(&self, field: usize) -> Option<usize> {
        self.columns.get(field).copied().flatten().map(usize::from)
    }

    /// The types of the columns.
    pub(super) fn types(&self) -> &[FieldType] {
        &self.types
    }

    /// Whether all these fields are read.
    fn has(&self, other: &Self) -> bool {
        let mut wanted = other.columns.iter().enumerate().filter(|(_, column)| column.is_some());
        wanted.all(|(field, _)| self.column(field).is_some())
    }

    fn read(&mut self, field: FieldRef) {
        if self.columns.len() <= field.field {
            self.columns.resize(field.field + 1, None);
        }
        let column = &mut self.columns[field.field];
        if column.is_none() {
            *column = Some(self.types.len() as u16);
            self.types.push(field.ty);
        }
    }
}

/// By stream of the kind: the fields that a sweep of these features reads as columns. Features that are
/// evaluated take whole facts instead.
pub(super) fn fields_of<'p>(
    plan: &KindPlan,
    features: impl Iterator<Item = (&'p ViewPlan, &'p FeaturePlan)>,
) -> Vec<Fields> {
    let mut streams = vec![Fields::default(); plan.streams.len()];
    for (view, FeaturePlan { feature, .. }) in features {
        if !slides(feature) && feature.aggregate != Aggregate::Latest {
            continue;
        }
        let filter = feature.filter.iter().flat_map(|filter| filter.reads());
        for field in feature.argument.iter().chain(filter) {
            let stream = match field.source {
                Source::Event => view.events,
                Source::Join(join) => view.joins[join],
            };
            streams[stream].read(*field);
        }
    }
    streams
}

/// Whether all that these features read as columns is among what is read.
pub(super) fn read_all<'p, 'f>(
    plan: &KindPlan,
    features: impl Iterator<Item = (&'p ViewPlan, &'p FeaturePlan)>,
    mut read: impl Iterator<Item = &'f Fields>,
) -> bool {
    let wanted = fields_of(plan, features);
    wanted.iter().all(|wanted| read.next().is_some_and(|read| read.has(wanted)))
}
