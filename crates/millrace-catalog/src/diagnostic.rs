//! What is wrong with a catalog: where, which rule, and the way out.

use std::fmt;

use crate::limits::DIAGNOSTICS_MAX;

/// One error of a catalog's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// The rule that is broken.
    pub rule: Rule,
    /// Where in the catalog's structure, e.g. `streams.clicks.keys.user`; empty for the whole text.
    pub path: String,
    /// What is wrong, naming the value and the rule.
    pub message: String,
    /// The way out, where one can be named, e.g. "did you mean `user_id`?".
    pub suggestion: Option<String>,
}

/// `line:column: rule: path: message (help: suggestion)`
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: ", self.line, self.column, self.rule)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(help) => write!(f, " (help: {help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

impl Diagnostic {
    /// Adds the way out.
    pub(crate) fn help(&mut self, help: impl Into<String>) {
        self.suggestion = Some(help.into());
    }

    /// Adds the way out if there is one.
    pub(crate) fn help_if(&mut self, help: Option<String>) {
        if help.is_some() {
            self.suggestion = help;
        }
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The closed set of rules a catalog can break. Names are stable: scripts may rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Rule {
            /// Its stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

rules! {
    /// The text is not YAML. Nothing after this point was read.
    YamlSyntax = "yaml-syntax",
    /// YAML that catalogs do not use: aliases, tags, several documents, keys that are not text.
    YamlFeature = "yaml-feature",
    /// Something is larger, longer or more than `limits` allows.
    Limit = "limit",
    /// A key stands twice in one mapping.
    DuplicateKey = "duplicate-key",
    /// A key that has no meaning here.
    UnknownKey = "unknown-key",
    /// A key that must be there is not.
    MissingKey = "missing-key",
    /// A mapping, a list or a single value stands where another of them must.
    Shape = "shape",
    /// A name is empty or holds other characters than letters, digits and `_`.
    Name = "name",
    /// A name that means something else.
    ReservedName = "reserved-name",
    /// A value that is none of those allowed here.
    Value = "value",
    /// Not a duration.
    Duration = "duration",
    /// No such type.
    UnknownType = "unknown-type",
    /// No such entity kind.
    UnknownEntity = "unknown-entity",
    /// No such stream.
    UnknownStream = "unknown-stream",
    /// No such field.
    UnknownField = "unknown-field",
    /// A key mapping does not fit its entity kind.
    KeyMapping = "key-mapping",
    /// The field of a role (`at`, `id`, `seq`, `revision`, `retracts`) has a type it cannot have.
    RoleType = "role-type",
    /// `op` does not say clearly what a record does.
    OpMapping = "op-mapping",
    /// An event stream stands where a changelog must, or the reverse.
    StreamKind = "stream-kind",
    /// A stream of a view has no key of the view's entity kind.
    NotKeyed = "not-keyed",
    /// A stream is referred to that the view does not join.
    NotJoined = "not-joined",
    /// A retention that the stream, or a window over it, cannot have.
    Retention = "retention",
    /// A feature names no aggregate, or several.
    Aggregate = "aggregate",
    /// The argument is none the aggregate takes.
    Argument = "argument",
    /// A parameter is out of its range or belongs to another aggregate.
    Parameter = "parameter",
    /// `window`, `hop` and `exact` do not fit together.
    Window = "window",
    /// `where` is not CEL.
    WhereSyntax = "where-syntax",
    /// `where` is mistyped.
    WhereType = "where-type",
    /// `where` uses a part of CEL that is not supported.
    WhereUnsupported = "where-unsupported",
    /// Something that stored facts rest on was taken out.
    Removed = "removed",
    /// Something that stored facts rest on was changed.
    Changed = "changed",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in the text; both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pos {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Pos {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// From a line counted from 1 and a column counted from 0.
    pub(crate) fn new(line: usize, column0: usize) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: clamp(line), column: clamp(column0.saturating_add(1)) }
    }
}

/// Collects the errors of one text.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    found: Vec<Diagnostic>,
    count: usize,
}

impl Sink {
    /// Reports an error; the caller may add the way out to what is returned.
    pub(crate) fn report(
        &mut self,
        at: Pos,
        rule: Rule,
        path: &str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.count += 1;
        let diagnostic = Diagnostic {
            line: at.line,
            column: at.column,
            rule,
            path: path.to_owned(),
            message: message.into(),
            suggestion: None,
        };
        // One place beyond the limit is kept for whatever comes too late, and overwritten.
        self.found.truncate(DIAGNOSTICS_MAX);
        let index = self.found.len();
        self.found.push(diagnostic);
        &mut self.found[index]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All errors in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.truncate(DIAGNOSTICS_MAX);
        self.found.sort_by_key(|d| (d.line, d.column));
        if self.count > DIAGNOSTICS_MAX {
            let more = self.count - DIAGNOSTICS_MAX;
            let last =
                self.found.last().map_or(Pos::START, |d| Pos { line: d.line, column: d.column });
            self.found.push(Diagnostic {
                line: last.line,
                column: last.column,
                rule: Rule::Limit,
                path: String::new(),
                message: format!("{more} more errors are not shown"),
                suggestion: Some("correct the ones above first".to_owned()),
            });
        }
        self.found
    }
}

/// "did you mean …?" for the candidate that is closest to `name`, if one is close.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let lower = name.to_lowercase();
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        // Names of one letter are all one step apart: something must be common to both.
        .filter(|(distance, c)| {
            *distance <= allowed && *distance < lower.len().max(c.len()) && *c != name
        })
        .min()
        .map(|(_, c)| format!("did you mean `{c}`?"))
}

/// `a`, `b` and `c`: the things one may choose from.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_suggested_and_far_ones_are_not() {
        let names = ["user_id", "event_id", "ts"];
        assert_eq!(did_you_mean("userid", names), Some("did you mean `user_id`?".to_owned()));
        assert_eq!(did_you_mean("TS", names), Some("did you mean `ts`?".to_owned()));
        assert_eq!(did_you_mean("price", names), None);
        assert_eq!(did_you_mean("a", ["b"]), None);
    }

    #[test]
    fn a_flood_of_errors_is_cut_and_says_so() {
        let mut sink = Sink::default();
        for line in 1..=DIAGNOSTICS_MAX + 5 {
            sink.report(Pos::new(line, 0), Rule::Value, "x", "bad");
        }
        let all = sink.finish();
        assert_eq!(all.len(), DIAGNOSTICS_MAX + 1);
        assert_eq!(all.last().unwrap().message, "5 more errors are not shown");
    }
}
