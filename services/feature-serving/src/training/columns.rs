//! Values of training sets: row by row while they are made, as Arrow columns when they go out.
//!
//! Rows are made entity by entity and go out in the order of the spine. A row that stands together is
//! fetched from memory once, where one spread over columns would be fetched once for each of them.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use millrace_catalog::{Aggregate, Feature};
use millrace_kernel::training::{Cell, Sink, Texts};
use millrace_types::{FieldType, Status, ValueRef};

use super::lists::ListColumn;

/// Bytes of values after which a part of a view's rows ends.
const PART_BYTES: usize = 4 << 20;

/// The Arrow type of a feature's values.
pub(crate) fn feature_type(feature: &Feature) -> DataType {
    let argument = feature.argument.map_or(DataType::Int64, |a| value_type(a.ty));
    match feature.aggregate {
        Aggregate::Count | Aggregate::CountDistinct { .. } => DataType::Int64,
        Aggregate::Mean
        | Aggregate::Variance
        | Aggregate::Stddev
        | Aggregate::ApproxPercentile { .. } => DataType::Float64,
        Aggregate::Sum
        | Aggregate::Min
        | Aggregate::Max
        | Aggregate::First
        | Aggregate::Last
        | Aggregate::Latest => argument,
        Aggregate::FirstN { .. } | Aggregate::LastN { .. } => {
            DataType::List(Arc::new(Field::new_list_field(argument, true)))
        }
        Aggregate::TopK { .. } => {
            let counted = DataType::Struct(counted_fields(argument));
            DataType::List(Arc::new(Field::new_list_field(counted, false)))
        }
    }
}

/// The Arrow type of a field's values.
pub(crate) fn value_type(ty: FieldType) -> DataType {
    match ty {
        FieldType::Bool => DataType::Boolean,
        FieldType::Int64 => DataType::Int64,
        FieldType::Double => DataType::Float64,
        FieldType::String => DataType::Utf8,
        FieldType::Bytes => DataType::Binary,
        FieldType::Timestamp => instant_type(),
    }
}

/// The type of the values that an Arrow type of [`value_type`] holds.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
pub(super) fn field_type(ty: &DataType) -> FieldType {
    match ty {
        DataType::Boolean => FieldType::Bool,
        DataType::Float64 => FieldType::Double,
        DataType::Utf8 => FieldType::String,
        DataType::Binary => FieldType::Bytes,
        DataType::Timestamp(..) => FieldType::Timestamp,
        _ => FieldType::Int64,
    }
}

/// Microseconds since the epoch, UTC.
pub(crate) fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn counted_fields(value: DataType) -> Fields {
    let value = Field::new("value", value, false);
    Fields::from(vec![value, Field::new("count", DataType::Int64, false)])
}

/// Where the values of a feature stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// In a word of each row, with this number, as a value of this type.
    Word(usize, FieldType),
    /// In the column of lists with this number.
    List(usize),
}

/// How the rows of a view are laid out.
#[derive(Debug)]
pub(super) struct Layout {
    /// By feature.
    pub(super) features: Vec<Stands>,
    /// The first words of a row say which of the others are NULL, a bit each.
    pub(super) null_words: usize,
    /// Words of a row.
    pub(super) width: usize,
    /// The items of each column of lists.
    lists: Vec<FieldRef>,
}

impl Layout {
    /// The layout of rows with features of these types.
    pub(super) fn new(types: &[DataType]) -> Self {
        let (mut words, mut lists) = (0, Vec::new());
        let mut features = Vec::with_capacity(types.len());
        for ty in types {
            if let DataType::List(item) = ty {
                features.push(Stands::List(lists.len()));
                lists.push(Arc::clone(item));
            } else {
                features.push(Stands::Word(words, field_type(ty)));
                words += 1;
            }
        }
        let null_words = words.div_ceil(64);
        Self { features, null_words, width: null_words + words, lists }
    }

    /// Bytes that a row takes, about, without its texts and the items of its lists.
    pub(super) fn row_bytes(&self) -> usize {
        8 * (self.width + self.lists.len())
    }
}

/// Rows of a view that grow, in parts of bounded size.
#[derive(Debug)]
pub(crate) struct ViewRows {
    layout: Arc<Layout>,
    /// Rows that are still to come, about.
    left: usize,
    /// Rows of the part that is under way, and how many it has room for; none before its first.
    rows: usize,
    room: usize,
    /// Its words: zeros behind its rows.
    words: Vec<u64>,
    /// Where the row that is under way begins among them.
    row: usize,
    texts: Texts,
    lists: Vec<ListColumn>,
    /// Bytes of the values in lists, about.
    list_bytes: usize,
    parts: Vec<Part>,
    /// Bytes of the parts that ended, about.
    ended: usize,
}

/// A part of a view's rows.
#[derive(Debug)]
pub(crate) struct Part {
    pub(super) layout: Arc<Layout>,
    /// Row after row.
    pub(super) words: Vec<u64>,
    pub(super) texts: Texts,
    pub(super) lists: Vec<ArrayRef>,
    pub(crate) rows: usize,
}

impl ViewRows {
    /// Rows of features of these types, about so many.
    pub(crate) fn new(types: &[DataType], rows: usize) -> Self {
        let layout = Arc::new(Layout::new(types));
        let lists = layout.lists.iter().map(|item| ListColumn::new(Arc::clone(item))).collect();
        Self {
            layout,
            left: rows,
            rows: 0,
            room: 0,
            words: Vec::new(),
            row: 0,
            texts: Texts::default(),
            lists,
            list_bytes: 0,
            parts: Vec::new(),
            ended: 0,
        }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.ended + self.part_bytes()
    }

    fn part_bytes(&self) -> usize {
        8 * self.row + self.texts.heap_bytes() + self.list_bytes
    }

    #[inline]
    fn word(&mut self, place: usize, ty: FieldType, value: ValueRef<'_>) {
        match self.texts.word(ty, value) {
            Some(word) => self.words[self.row + self.layout.null_words + place] = word,
            None => self.words[self.row + place / 64] |= 1 << (place % 64),
        }
    }

    #[inline]
    fn end_row(&mut self) {
        self.row += self.layout.width;
        self.rows += 1;
        if self.rows == self.room || self.part_bytes() >= PART_BYTES {
            self.end_part();
        }
    }

    /// Makes room for the rows that are still to come, as far as they fit a part.
    #[cold]
    fn begin_part(&mut self) {
        let most = PART_BYTES / self.layout.row_bytes().max(1);
        self.room = if self.left == 0 { most } else { self.left.min(most) };
        self.words = vec![0; self.room * self.layout.width];
    }

    fn end_part(&mut self) {
        if self.rows == 0 {
            return;
        }
        self.ended += self.part_bytes();
        self.left = self.left.saturating_sub(self.rows);
        let mut words = std::mem::take(&mut self.words);
        words.truncate(self.row);
        self.parts.push(Part {
            layout: Arc::clone(&self.layout),
            words,
            texts: std::mem::take(&mut self.texts),
            lists: self.lists.iter_mut().map(ListColumn::finish).collect(),
            rows: self.rows,
        });
        (self.rows, self.room, self.row, self.list_bytes) = (0, 0, 0, 0);
    }

    /// The parts.
    pub(crate) fn finish(mut self) -> Vec<Part> {
        self.end_part();
        self.parts
    }
}

impl Sink for ViewRows {
    #[inline]
    fn cell(&mut self, feature: usize, cell: Cell<'_>, _status: Status) {
        if self.room == 0 {
            self.begin_part();
        }
        match (self.layout.features[feature], cell) {
            (Stands::Word(place, ty), Cell::Scalar(value)) => self.word(place, ty, value),
            (Stands::List(list), cell) => self.list_bytes += 9 + self.lists[list].push(cell),
            (Stands::Word(place, ty), Cell::List(_) | Cell::Counted(_)) => {
                debug_assert!(false, "a list is no {ty}");
                self.word(place, ty, ValueRef::Null);
            }
        }
        if feature + 1 == self.layout.features.len() {
            self.end_row();
        }
    }
}
