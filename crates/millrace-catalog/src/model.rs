//! The checked catalog. Numbers ([`KindId`], [`StreamId`], field indexes) are given once and never
//! change, so that chunks and snapshots of every version stay readable.

use std::sync::Arc;

use millrace_types::{FieldType, KeyType, KindId, Micros, StreamId, Value};

use crate::program::Program;

/// A checked catalog of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Counts from 1; the empty catalog before the first `apply` is version 0.
    pub version: u32,
    /// Entity kinds; the index is the [`KindId`].
    pub kinds: Vec<Kind>,
    /// Streams; the index is the [`StreamId`].
    pub streams: Vec<Stream>,
    /// Views in the order of the file.
    pub views: Vec<View>,
    /// The text it was read from.
    pub source: Arc<str>,
}

/// An entity kind, e.g. `user: int64`.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Its number.
    pub id: KindId,
    /// Its name.
    pub name: String,
    /// The types of its key's parts; one for a plain key.
    pub parts: Vec<KeyType>,
}

/// A column that names a part of an entity's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// The type of the part.
    pub ty: KeyType,
    /// The names that it may have, the preferred one first.
    pub names: Vec<String>,
}

/// Whether a stream's facts happen at an instant or hold from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Happens at an instant.
    Event,
    /// Holds from an instant until the next version.
    Changelog,
}

/// What becomes of a fact more than `repair` behind the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeyondRepair {
    /// It is repaired by a rebuild (the default).
    Rebuild,
    /// It is held as LATE and changes nothing online.
    Hold,
}

/// The unit of an integer that stands for a timestamp in files and typed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// `timestamp(s)`
    Seconds,
    /// `timestamp(ms)`
    Millis,
    /// `timestamp` or `timestamp(us)`
    Micros,
}

impl TimeUnit {
    /// The instant that `count` units after the epoch make, or `None` when 64 bits do not hold it.
    #[must_use]
    pub fn instant(self, count: i64) -> Option<Micros> {
        let factor = match self {
            Self::Seconds => 1_000_000,
            Self::Millis => 1_000,
            Self::Micros => 1,
        };
        count.checked_mul(factor).map(Micros)
    }
}

/// A field of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: FieldType,
    /// For timestamps, what a bare integer counts; otherwise [`TimeUnit::Micros`] and unused.
    pub unit: TimeUnit,
}

/// How facts of a stream are routed to one entity kind.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyMapping {
    /// The kind.
    pub kind: KindId,
    /// The indexes of the fields that make the key, in the order of the kind's parts.
    pub fields: Vec<usize>,
    /// True when a fact without this key is simply not routed to this kind.
    pub optional: bool,
}

/// Which values of a field mean RETRACT or END.
#[derive(Debug, Clone, PartialEq)]
pub struct OpMapping {
    /// The field.
    pub field: usize,
    /// Values that mean RETRACT.
    pub retract: Vec<Value>,
    /// Values that mean END (changelogs only).
    pub end: Vec<Value>,
}

/// A stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Events or a changelog.
    pub kind: StreamKind,
    /// One mapping for each entity kind; the first is the primary one.
    pub keys: Vec<KeyMapping>,
    /// The field that is the event time or valid-from; always a timestamp.
    pub at: usize,
    /// The field that is the id; without it the id is `producer/sequence` in 20 digits.
    pub id_field: Option<usize>,
    /// The int64 field that is the source's order.
    pub seq: Option<usize>,
    /// The int64 field that is the revision.
    pub revision: Option<usize>,
    /// The field that says what the record does.
    pub op: Option<OpMapping>,
    /// The field whose value, when not empty, names the id that the record retracts.
    pub retracts: Option<usize>,
    /// How far behind the greatest `at` seen a producer's watermark stays, in microseconds.
    pub out_of_orderness_us: i64,
    /// R: how far behind the watermark facts are kept at hand with preference, in microseconds.
    pub repair_us: i64,
    /// What becomes of facts beyond it.
    pub beyond_repair: BeyondRepair,
    /// How far behind the slot's watermark facts are kept, in microseconds; `None` keeps everything.
    pub retention_us: Option<i64>,
    /// This version or an earlier one has a `retention`: facts may be gone for good.
    pub forgets: bool,
    /// The fields in the order in which they were added; rows are encoded and compared so.
    pub fields: Vec<Field>,
}

/// Which row of a joined row a field is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The event.
    Event,
    /// The version of the view's changelog with this index in [`View::joins`].
    Join(usize),
}

/// A field of a joined row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldRef {
    /// Which row.
    pub source: Source,
    /// The index of the field in that stream.
    pub field: usize,
    /// Its type.
    pub ty: FieldType,
}

/// How a feature aggregates (semantics §2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aggregate {
    /// Rows, or rows whose field is not NULL.
    Count,
    /// Exact sum.
    Sum,
    /// Exact sum over count.
    Mean,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Sample variance.
    Variance,
    /// Its square root.
    Stddev,
    /// Value of the least row in `(at, seq, id)`.
    First,
    /// Value of the greatest row in `(at, seq, id)`.
    Last,
    /// Values of the `n` least rows, oldest first.
    FirstN {
        /// How many.
        n: usize,
    },
    /// Values of the `n` greatest rows, newest first.
    LastN {
        /// How many.
        n: usize,
    },
    /// Distinct values, exact up to `limit`.
    CountDistinct {
        /// Up to how many.
        limit: usize,
    },
    /// The `k` most frequent values.
    TopK {
        /// How many.
        k: usize,
        /// Up to how many distinct values in the window.
        limit: usize,
    },
    /// A percentile of bucketed doubles.
    ApproxPercentile {
        /// In (0, 1].
        p: f64,
    },
    /// A field of the version of a changelog at the read's instant. Has no window.
    Latest,
}

/// Which rows a feature counts, relative to the read's instant t.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Everything with `at < t`.
    Unbounded,
    /// `floor(t − width, hop) ≤ at < t`.
    Sliding {
        /// W, in microseconds; positive.
        width_us: i64,
        /// The hop, in microseconds; positive and at most the width.
        hop_us: i64,
    },
    /// `t − width ≤ at < t`.
    Exact {
        /// W, in microseconds; positive.
        width_us: i64,
    },
}

impl Window {
    /// The first instant the window at `t` holds.
    #[must_use]
    pub fn start(self, t: Micros) -> Micros {
        match self {
            Self::Unbounded => Micros::MIN,
            Self::Sliding { width_us, hop_us } => t.minus(width_us).floor(hop_us),
            Self::Exact { width_us } => t.minus(width_us),
        }
    }

    /// The first instant at which the window reaches no further back than `from`; `None` where it
    /// reaches back to the beginning at every instant.
    #[must_use]
    pub fn earliest(self, from: Micros) -> Option<Micros> {
        match self {
            Self::Unbounded => None,
            Self::Sliding { width_us, hop_us } => {
                let down = from.floor(hop_us);
                let up = if down < from { down.plus(hop_us) } else { down };
                Some(up.plus(width_us))
            }
            Self::Exact { width_us } => Some(from.plus(width_us)),
        }
    }
}

/// A feature of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// How it aggregates.
    pub aggregate: Aggregate,
    /// What it aggregates; `None` only for `count: {}`.
    pub argument: Option<FieldRef>,
    /// Over which rows; [`Window::Unbounded`] for `latest`.
    pub window: Window,
    /// The rows it keeps.
    pub filter: Option<Program>,
}

/// A view: the features of an entity kind over one event stream joined with changelogs.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The kind of its entities.
    pub entity: KindId,
    /// Its event stream.
    pub events: StreamId,
    /// Its changelogs, in the order of the file.
    pub joins: Vec<StreamId>,
    /// Its features, in the order of the file.
    pub features: Vec<Feature>,
}

impl Catalog {
    /// The catalog before the first `apply`.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            version: 0,
            kinds: Vec::new(),
            streams: Vec::new(),
            views: Vec::new(),
            source: Arc::from(""),
        }
    }

    /// The stream with this name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|s| s.name == name)
    }

    /// The stream with this number, if this version has it.
    #[must_use]
    pub fn stream_by_id(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(usize::from(id.0))
    }

    /// The kind with this number, if this version has it.
    #[must_use]
    pub fn kind(&self, id: KindId) -> Option<&Kind> {
        self.kinds.get(usize::from(id.0))
    }

    /// The kind with this name.
    #[must_use]
    pub fn kind_named(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.name == name)
    }

    /// The view with this name.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|v| v.name == name)
    }

    /// The columns by which the rows of a training set of these views name their entities: by kind of
    /// the views, in the order of the views, one for each part of its key. A column may be named after
    /// the kind, if that has one part, or after the key field of a view's event stream.
    #[must_use]
    pub fn key_columns<'c>(&'c self, views: &[&'c View]) -> Vec<(&'c Kind, Vec<KeyColumn>)> {
        let mut kinds: Vec<(&Kind, Vec<KeyColumn>)> = Vec::new();
        for view in views {
            let Some(kind) = self.kind(view.entity) else { continue };
            let found = kinds.iter().position(|(have, _)| have.id == kind.id);
            let place = found.unwrap_or_else(|| {
                let alone = kind.parts.len() == 1;
                let names = || alone.then(|| kind.name.clone()).into_iter().collect();
                let column = |ty: &KeyType| KeyColumn { ty: *ty, names: names() };
                kinds.push((kind, kind.parts.iter().map(column).collect()));
                kinds.len() - 1
            });
            let Some(stream) = self.stream_by_id(view.events) else { continue };
            let Some(key) = stream.key_for(kind.id) else { continue };
            for (field, column) in key.fields.iter().zip(&mut kinds[place].1) {
                let name = &stream.fields[*field].name;
                if !column.names.contains(name) {
                    column.names.push(name.clone());
                }
            }
        }
        kinds
    }

    /// The views of this entity kind.
    pub fn views_of(&self, kind: KindId) -> impl Iterator<Item = &View> {
        self.views.iter().filter(move |v| v.entity == kind)
    }
}

impl Stream {
    /// The index of the field with this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The mapping to this entity kind, if its facts are routed there.
    #[must_use]
    pub fn key_for(&self, kind: KindId) -> Option<&KeyMapping> {
        self.keys.iter().find(|k| k.kind == kind)
    }
}

impl Feature {
    /// Every field it reads, as argument or in its condition; one may come twice.
    pub fn reads(&self) -> impl Iterator<Item = FieldRef> + '_ {
        let filter = self.filter.iter().flat_map(|p| p.reads().iter().copied());
        self.argument.into_iter().chain(filter)
    }

    /// True when its value can depend on the changelog with this index in [`View::joins`]: other
    /// features need no refold when a version of it comes late.
    #[must_use]
    pub fn reads_join(&self, join: usize) -> bool {
        self.reads().any(|f| f.source == Source::Join(join))
    }

    /// True when its value can depend on some joined changelog.
    #[must_use]
    pub fn reads_any_join(&self) -> bool {
        self.reads().any(|f| f.source != Source::Event)
    }
}

impl View {
    /// The feature with this name.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<&Feature> {
        self.features.iter().find(|f| f.name == name)
    }

    /// The streams it rests on: its events, then its changelogs.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        std::iter::once(self.events).chain(self.joins.iter().copied())
    }
}
