//! The streams an expression or an argument may refer to.

use crate::diagnostic::{Rule, did_you_mean, listed};
use crate::model::{Field, FieldRef, Source};

/// A stream in scope, as far as the file tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeStream<'a> {
    pub(crate) name: &'a str,
    pub(crate) fields: &'a [Field],
    /// By field: false where the file gives no readable type.
    pub(crate) type_known: &'a [bool],
    /// False when the fields as a whole could not be read.
    pub(crate) fields_known: bool,
}

/// What a view may refer to.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    /// The event stream; `None` when it was reported as unknown.
    pub(crate) events: Option<ScopeStream<'a>>,
    /// The changelogs by their index in the view.
    pub(crate) joins: Vec<Option<ScopeStream<'a>>>,
    /// The names of all streams of the catalog.
    pub(crate) all: Vec<&'a str>,
}

/// What a reference stands for.
#[derive(Debug)]
pub(crate) enum Resolved {
    Field(FieldRef),
    /// Something it rests on was reported already.
    Silent,
    /// It stands for nothing.
    Wrong {
        rule: Rule,
        message: String,
        help: Option<String>,
    },
}

impl<'a> Scope<'a> {
    /// The streams in scope with where their fields are read from.
    fn streams(&self) -> impl Iterator<Item = (Source, &ScopeStream<'a>)> {
        let events = self.events.iter().map(|s| (Source::Event, s));
        let joins = self.joins.iter().enumerate();
        events.chain(joins.filter_map(|(i, s)| Some((Source::Join(i), s.as_ref()?))))
    }

    /// True when a stream of the view was reported as wrong, so that names may be missing here.
    fn is_partial(&self) -> bool {
        self.events.is_none() || self.joins.iter().any(Option::is_none)
    }

    /// Resolves `stream.field`.
    pub(crate) fn qualified(&self, stream: &str, field: &str) -> Resolved {
        let Some((source, found)) = self.streams().find(|(_, s)| s.name == stream) else {
            if self.is_partial() {
                return Resolved::Silent;
            }
            if self.all.contains(&stream) {
                return Resolved::Wrong {
                    rule: Rule::NotJoined,
                    message: format!("the view does not join the stream `{stream}`"),
                    help: Some(format!("add `{stream}` to the view's `join`")),
                };
            }
            let names = self.streams().map(|(_, s)| s.name);
            return Resolved::Wrong {
                rule: Rule::UnknownStream,
                message: format!("there is no stream `{stream}`"),
                help: did_you_mean(stream, names)
                    .or_else(|| Some(format!("the view reads {}", listed(self.names())))),
            };
        };
        match found.fields.iter().position(|f| f.name == field) {
            Some(index) if found.type_known[index] => {
                Resolved::Field(FieldRef { source, field: index, ty: found.fields[index].ty })
            }
            Some(_) => Resolved::Silent,
            None if !found.fields_known => Resolved::Silent,
            None => Resolved::Wrong {
                rule: Rule::UnknownField,
                message: format!("the stream `{stream}` has no field `{field}`"),
                help: did_you_mean(field, found.fields.iter().map(|f| f.name.as_str())),
            },
        }
    }

    /// Resolves a field of the event stream given by its name alone.
    pub(crate) fn bare(&self, field: &str) -> Resolved {
        let Some(events) = &self.events else { return Resolved::Silent };
        match self.qualified(events.name, field) {
            Resolved::Wrong { rule, message, help } => {
                let help = self.elsewhere(field).or(help);
                Resolved::Wrong { rule, message, help }
            }
            found @ (Resolved::Field(_) | Resolved::Silent) => found,
        }
    }

    /// "did you mean `stream.field`?" for the first stream in scope that has this field.
    pub(crate) fn elsewhere(&self, field: &str) -> Option<String> {
        self.streams()
            .find(|(_, s)| s.fields.iter().any(|f| f.name == field))
            .map(|(_, s)| format!("did you mean `{}.{field}`?", s.name))
    }

    /// "did you mean `changelog.field`?" for the first changelog that has this field.
    pub(crate) fn in_changelogs(&self, field: &str) -> Option<String> {
        let mut joins = self.joins.iter().flatten();
        joins
            .find(|s| s.fields.iter().any(|f| f.name == field))
            .map(|s| format!("did you mean `{}.{field}`?", s.name))
    }

    /// The names of the streams in scope.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.streams().map(|(_, s)| s.name)
    }
}
