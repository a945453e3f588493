//! What a training set is made of: checked, and resolved against a catalog.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_catalog::View;
use millrace_kernel::Plan;
use millrace_kernel::training::AsKnown;
use millrace_proto::convert::from_timestamp;
use millrace_proto::v1;
use millrace_types::{KeyType, KindId, KnownAt, Micros, StreamId};

use super::columns::{feature_type, instant_type};
use super::spine::SpineKind;
use crate::error::ReadError;
use crate::read::{find_features, find_view};

/// Views of one training set at most.
const VIEWS_MAX: usize = 16;
/// Rows of a spine before those of a call at most: far more than anybody reads, and still counted on from.
const ROWS_BEFORE_MAX: u64 = 1 << 60;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Views with the features wanted; none for all.
    pub(crate) views: Vec<(String, Vec<String>)>,
    pub(crate) rows: RowsFrom,
    pub(crate) known: KnownAsked,
    pub(crate) include_late: bool,
    /// The token of a version, and where to go on.
    pub(crate) version: Option<String>,
    pub(crate) cursor: Option<String>,
}

/// Where the rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowsFrom {
    /// A spine of which so many rows were answered before.
    Spine { before: u64 },
    /// Events with `from ≤ at < to`.
    Events { from: Micros, to: Micros },
}

/// What counts as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownAsked {
    AtEvent,
    Instant(Micros),
    Latest,
}

fn invalid(field: &str, rule: impl Into<String>) -> ReadError {
    ReadError::Invalid { field: field.to_owned(), rule: rule.into() }
}

impl TryFrom<v1::TrainingSetStart> for Question {
    type Error = ReadError;

    fn try_from(start: v1::TrainingSetStart) -> Result<Self, ReadError> {
        use v1::training_set_start::{KnownAt as Known, Rows};

        let instant = |field: &str, at: &prost_types::Timestamp| {
            from_timestamp(at).map_err(|e| invalid(field, e.rule().to_string()))
        };
        let rows = match start.rows {
            Some(Rows::Spine(spine)) => RowsFrom::Spine { before: spine.rows_before },
            Some(Rows::Events(events)) => {
                let from = events.from.map(|at| instant("events.from", &at)).transpose()?;
                let to = events.to.map(|at| instant("events.to", &at)).transpose()?;
                let (from, to) = (from.unwrap_or(Micros::MIN), to.unwrap_or(Micros::MAX));
                RowsFrom::Events { from, to }
            }
            None => return Err(invalid("start.rows", "a spine or events")),
        };
        let known = match start.known_at {
            Some(Known::AtEvent(_)) => KnownAsked::AtEvent,
            Some(Known::Instant(at)) => KnownAsked::Instant(instant("start.instant", &at)?),
            Some(Known::Latest(_)) => KnownAsked::Latest,
            None => return Err(invalid("start.known_at", "at_event, an instant or latest")),
        };
        let views: Vec<_> = start.views.into_iter().map(|v| (v.view, v.features)).collect();
        if views.is_empty() || views.len() > VIEWS_MAX {
            let rule = format!("between 1 and {VIEWS_MAX} views, not {}", views.len());
            return Err(invalid("start.views", rule));
        }
        if matches!(rows, RowsFrom::Spine { before } if before > ROWS_BEFORE_MAX) {
            let rule = format!("at most {ROWS_BEFORE_MAX} rows");
            return Err(invalid("start.spine.rows_before", rule));
        }
        let is_spine = matches!(rows, RowsFrom::Spine { .. });
        if !is_spine && views.len() > 1 {
            return Err(invalid("start.views", "one view, where the rows are its events"));
        }
        let set = |text: String| (!text.is_empty()).then_some(text);
        let (version, cursor) = (set(start.version), set(start.cursor));
        if cursor.is_some() && (version.is_none() || is_spine) {
            return Err(invalid("start.cursor", "only with a version, where the rows are events"));
        }
        Ok(Self { views, rows, known, include_late: start.include_late, version, cursor })
    }
}

/// A view of the set.
#[derive(Debug, Clone)]
pub(crate) struct AskedView {
    pub(crate) name: String,
    /// Indexes of the features in the view.
    pub(crate) features: Vec<usize>,
    pub(crate) types: Vec<DataType>,
}

/// A kind whose entities are gathered, with the views that read them.
#[derive(Debug, Clone)]
pub(crate) struct AskedKind {
    pub(crate) kind: KindId,
    pub(crate) streams: Vec<StreamId>,
    /// Places among the views.
    pub(crate) views: Vec<usize>,
}

/// A question resolved against a catalog.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) plan: Arc<Plan>,
    pub(crate) views: Vec<AskedView>,
    pub(crate) kinds: Vec<AskedKind>,
    pub(crate) spine_kinds: Vec<SpineKind>,
    pub(crate) known: AsKnown,
    pub(crate) include_late: bool,
    pub(crate) schema: SchemaRef,
}

impl Resolved {
    /// Resolves a question.
    ///
    /// # Errors
    /// [`ReadError::ViewNotFound`], [`ReadError::FeatureNotFound`] and [`ReadError::Invalid`].
    pub(crate) fn new(plan: Arc<Plan>, question: &Question) -> Result<Self, ReadError> {
        let catalog = plan.catalog.clone();
        let mut found: Vec<&View> = Vec::new();
        let (mut views, mut kinds) = (Vec::new(), Vec::<AskedKind>::new());
        for (place, (name, features)) in question.views.iter().enumerate() {
            let (_, view) = find_view(&catalog, name)?;
            let features = find_features(view, features)?;
            if features.is_empty() {
                let rule = format!("view {name:?} has no features, so there is nothing to read");
                return Err(invalid("start.views", rule));
            }
            let types = features.iter().map(|f| feature_type(&view.features[*f])).collect();
            views.push(AskedView { name: name.clone(), features, types });
            let at = kinds.iter().position(|k| k.kind == view.entity).unwrap_or_else(|| {
                let (kind, streams, views) = (view.entity, Vec::new(), Vec::new());
                kinds.push(AskedKind { kind, streams, views });
                kinds.len() - 1
            });
            kinds[at].views.push(place);
            kinds[at].streams.extend(view.streams());
            found.push(view);
        }
        let spine_kinds = SpineKind::of(&catalog, &found);
        let known = match question.known {
            KnownAsked::AtEvent => AsKnown::AtEvent,
            KnownAsked::Instant(at) => AsKnown::At(KnownAt(at.0)),
            KnownAsked::Latest => AsKnown::At(KnownAt::MAX),
        };
        let mut fields = Vec::new();
        if let (RowsFrom::Events { .. }, Some(kind)) = (question.rows, spine_kinds.first()) {
            fields.extend(kind.columns().map(|(name, ty)| {
                let ty = match ty {
                    KeyType::Int64 => DataType::Int64,
                    KeyType::String => DataType::Utf8,
                };
                Field::new(name, ty, false)
            }));
            fields.push(Field::new("at", instant_type(), false));
            fields.push(Field::new("id", DataType::Utf8, false));
        }
        let several = views.len() > 1;
        for (asked, view) in views.iter().zip(&found) {
            for (feature, ty) in asked.features.iter().zip(&asked.types) {
                let feature = &view.features[*feature].name;
                let name =
                    if several { format!("{}.{feature}", asked.name) } else { feature.clone() };
                fields.push(Field::new(name, ty.clone(), true));
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let include_late = question.include_late;
        Ok(Self { plan, views, kinds, spine_kinds, known, include_late, schema })
    }
}
