//! What changes from one catalog to the next, for the preview of `apply`.

use std::fmt;

use crate::model::{Catalog, Feature, Stream, View};
use crate::render;

/// One difference between two catalogs. Texts are as the catalog writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An entity kind is new.
    EntityAdded {
        /// Its name.
        entity: String,
        /// The type of its key.
        key: String,
    },
    /// An entity kind is gone. [`Catalog::compile`] refuses it.
    EntityRemoved {
        /// Its name.
        entity: String,
    },
    /// A stream is new.
    StreamAdded {
        /// Its name.
        stream: String,
        /// Its kind, keys and fields in short.
        summary: String,
    },
    /// A stream is gone. [`Catalog::compile`] refuses it.
    StreamRemoved {
        /// Its name.
        stream: String,
    },
    /// A role or setting of a stream is another. Of these, [`Catalog::compile`] allows
    /// `out_of_orderness`, `repair`, `beyond_repair` and `retention`.
    StreamChanged {
        /// The stream's name.
        stream: String,
        /// The key in the catalog.
        setting: &'static str,
        /// As it was.
        old: String,
        /// As it will be.
        new: String,
    },
    /// A field is new.
    FieldAdded {
        /// The stream's name.
        stream: String,
        /// The field's name.
        field: String,
        /// The field's type.
        ty: String,
    },
    /// A field is gone. [`Catalog::compile`] refuses it.
    FieldRemoved {
        /// The stream's name.
        stream: String,
        /// The field's name.
        field: String,
    },
    /// A field has another type. [`Catalog::compile`] refuses it.
    FieldChanged {
        /// The stream's name.
        stream: String,
        /// The field's name.
        field: String,
        /// The type it had.
        old: String,
        /// The type it will have.
        new: String,
    },
    /// A view is new, with all its features.
    ViewAdded {
        /// Its name.
        view: String,
        /// Its entity and streams in short.
        summary: String,
        /// The names of its features.
        features: Vec<String>,
    },
    /// A view is gone, with all its features.
    ViewRemoved {
        /// Its name.
        view: String,
    },
    /// A view has another entity or reads other streams. All its features are to be rebuilt,
    /// though those whose text stays are not listed.
    ViewChanged {
        /// Its name.
        view: String,
        /// As it was.
        old: String,
        /// As it will be.
        new: String,
    },
    /// A feature is new.
    FeatureAdded {
        /// The view's name.
        view: String,
        /// The feature's name.
        feature: String,
        /// What it is.
        definition: String,
    },
    /// A feature is gone.
    FeatureRemoved {
        /// The view's name.
        view: String,
        /// The feature's name.
        feature: String,
    },
    /// A feature is defined otherwise.
    FeatureChanged {
        /// The view's name.
        view: String,
        /// The feature's name.
        feature: String,
        /// As it was.
        old: String,
        /// As it will be.
        new: String,
    },
}

/// Everything that changes from `old` to `new`: entities, streams, then views, each in the order
/// of `new`, what is gone after what is there. Empty when they mean the same.
#[must_use]
pub fn diff(old: &Catalog, new: &Catalog) -> Vec<Change> {
    let mut changes = Vec::new();
    for kind in &new.kinds {
        if old.kind_named(&kind.name).is_none() {
            let key = render::key_type(&kind.parts);
            changes.push(Change::EntityAdded { entity: kind.name.clone(), key });
        }
    }
    for kind in &old.kinds {
        if new.kind_named(&kind.name).is_none() {
            changes.push(Change::EntityRemoved { entity: kind.name.clone() });
        }
    }
    for stream in &new.streams {
        match old.stream(&stream.name) {
            Some(before) => diff_stream(old, before, new, stream, &mut changes),
            None => changes.push(Change::StreamAdded {
                stream: stream.name.clone(),
                summary: stream_summary(new, stream),
            }),
        }
    }
    for stream in &old.streams {
        if new.stream(&stream.name).is_none() {
            changes.push(Change::StreamRemoved { stream: stream.name.clone() });
        }
    }
    for view in &new.views {
        match old.view(&view.name) {
            Some(before) => diff_view(old, before, new, view, &mut changes),
            None => changes.push(Change::ViewAdded {
                view: view.name.clone(),
                summary: render::view(new, view),
                features: view.features.iter().map(|f| f.name.clone()).collect(),
            }),
        }
    }
    for view in &old.views {
        if new.view(&view.name).is_none() {
            changes.push(Change::ViewRemoved { view: view.name.clone() });
        }
    }
    changes
}

fn stream_summary(catalog: &Catalog, stream: &Stream) -> String {
    let roles = render::roles(stream, &|id| render::kind_name(catalog, id));
    let role = |name: &str| roles.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v.as_str());
    format!("{}, keys {}, {} fields", role("kind"), role("keys"), stream.fields.len())
}

fn diff_stream(
    old: &Catalog,
    before: &Stream,
    new: &Catalog,
    after: &Stream,
    changes: &mut Vec<Change>,
) {
    let mut was = render::roles(before, &|id| render::kind_name(old, id));
    was.extend(render::settings(before));
    let mut is = render::roles(after, &|id| render::kind_name(new, id));
    is.extend(render::settings(after));
    let keeps_less =
        after.retention_us.unwrap_or(i64::MAX) < before.retention_us.unwrap_or(i64::MAX);
    for ((setting, old), (_, mut new)) in was.into_iter().zip(is) {
        if old != new {
            if setting == "retention" && keeps_less {
                new.push_str("; facts that are older are deleted for good");
            }
            let stream = after.name.clone();
            changes.push(Change::StreamChanged { stream, setting, old, new });
        }
    }
    for field in &after.fields {
        let (stream, name) = (after.name.clone(), field.name.clone());
        let ty = render::field_type(field).to_owned();
        match before.fields.iter().find(|f| f.name == field.name) {
            None => changes.push(Change::FieldAdded { stream, field: name, ty }),
            Some(was) if was != field => changes.push(Change::FieldChanged {
                stream,
                field: name,
                old: render::field_type(was).to_owned(),
                new: ty,
            }),
            Some(_) => {}
        }
    }
    for field in &before.fields {
        if after.field(&field.name).is_none() {
            let (stream, field) = (after.name.clone(), field.name.clone());
            changes.push(Change::FieldRemoved { stream, field });
        }
    }
}

fn diff_view(old: &Catalog, before: &View, new: &Catalog, after: &View, changes: &mut Vec<Change>) {
    let (was, is) = (render::view(old, before), render::view(new, after));
    if was != is {
        changes.push(Change::ViewChanged { view: after.name.clone(), old: was, new: is });
    }
    for feature in &after.features {
        let (view, name) = (after.name.clone(), feature.name.clone());
        let definition = render::feature(new, after, feature);
        match before.feature(&feature.name) {
            None => changes.push(Change::FeatureAdded { view, feature: name, definition }),
            Some(was) => {
                let text = render::feature(old, before, was);
                if text != definition && !same(before, was, after, feature) {
                    let (old, new) = (text, definition);
                    changes.push(Change::FeatureChanged { view, feature: name, old, new });
                }
            }
        }
    }
    for feature in &before.features {
        if after.feature(&feature.name).is_none() {
            let (view, feature) = (after.name.clone(), feature.name.clone());
            changes.push(Change::FeatureRemoved { view, feature });
        }
    }
}

/// True when two features do the same though their texts differ, e.g. in the blanks of `where`.
/// Over other streams their fields cannot be compared, so their texts decide.
fn same(before: &View, was: &Feature, after: &View, is: &Feature) -> bool {
    before.events == after.events && before.joins == after.joins && was == is
}

/// One line: `+` for what is new, `-` for what is gone, `~` for what is another.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EntityAdded { entity, key } => write!(f, "+ entity {entity}: {key}"),
            Self::EntityRemoved { entity } => write!(f, "- entity {entity}"),
            Self::StreamAdded { stream, summary } => write!(f, "+ stream {stream}: {summary}"),
            Self::StreamRemoved { stream } => write!(f, "- stream {stream}"),
            Self::StreamChanged { stream, setting, old, new } => {
                write!(f, "~ stream {stream}: {setting}: {old} -> {new}")
            }
            Self::FieldAdded { stream, field, ty } => write!(f, "+ field {stream}.{field}: {ty}"),
            Self::FieldRemoved { stream, field } => write!(f, "- field {stream}.{field}"),
            Self::FieldChanged { stream, field, old, new } => {
                write!(f, "~ field {stream}.{field}: {old} -> {new}")
            }
            Self::ViewAdded { view, summary, features } => {
                write!(f, "+ view {view}: {summary}; features: {}", features.join(", "))
            }
            Self::ViewRemoved { view } => write!(f, "- view {view}"),
            Self::ViewChanged { view, old, new } => write!(f, "~ view {view}: {old} -> {new}"),
            Self::FeatureAdded { view, feature, definition } => {
                write!(f, "+ feature {view}.{feature}: {definition}")
            }
            Self::FeatureRemoved { view, feature } => write!(f, "- feature {view}.{feature}"),
            Self::FeatureChanged { view, feature, old, new } => {
                write!(f, "~ feature {view}.{feature}: {old} -> {new}")
            }
        }
    }
}
