//! Which buffers of a record batch belong to which column, and whether they can hold what its type
//! says. What decodes the columns reinterprets offsets and views without looking at their size, and
//! panics when that is no multiple of an element's.

use arrow_ipc::{MetadataVersion, RecordBatch};
use arrow_schema::{DataType, Schema, UnionMode};

/// Checks the columns with these indexes.
///
/// # Errors
/// What is wrong, for a person.
pub(crate) fn check(
    schema: &Schema,
    projection: &[usize],
    batch: &RecordBatch<'_>,
    version: MetadataVersion,
) -> Result<(), String> {
    let buffers = batch.buffers().unwrap_or_default();
    let mut variadic = batch.variadicBufferCounts().unwrap_or_default().iter();
    let mut first = 0usize;
    for (index, field) in schema.fields().iter().enumerate() {
        let count = buffers_of(field.data_type(), version, &mut variadic);
        if first.saturating_add(count) > buffers.len() {
            return Err(format!("there are too few buffers for column {:?}", field.name()));
        }
        if let Some(element) = element_bytes(field.data_type())
            && projection.contains(&index)
            && buffers.get(first + 1).length() % element != 0
        {
            return Err(format!("a buffer of column {:?} ends inside an element", field.name()));
        }
        first += count;
    }
    Ok(())
}

/// The size of the elements of a column's second buffer, its offsets or views, in bytes.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn element_bytes(ty: &DataType) -> Option<i64> {
    match ty {
        DataType::Utf8 | DataType::Binary => Some(4),
        DataType::LargeUtf8 | DataType::LargeBinary => Some(8),
        DataType::Utf8View | DataType::BinaryView => Some(16),
        _ => None,
    }
}

/// How many buffers a column takes, its children's included.
#[expect(clippy::wildcard_enum_match_arm, reason = "the types of Arrow are not ours")]
fn buffers_of(
    ty: &DataType,
    version: MetadataVersion,
    variadic: &mut dyn Iterator<Item = i64>,
) -> usize {
    let mut of = |ty: &DataType| buffers_of(ty, version, variadic);
    match ty {
        DataType::Null => 0,
        DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => 3,
        DataType::List(child) | DataType::LargeList(child) | DataType::Map(child, _) => {
            2 + of(child.data_type())
        }
        DataType::ListView(child) | DataType::LargeListView(child) => 3 + of(child.data_type()),
        DataType::FixedSizeList(child, _) => 1 + of(child.data_type()),
        DataType::Struct(children) => {
            1 + children.iter().map(|child| of(child.data_type())).sum::<usize>()
        }
        DataType::RunEndEncoded(ends, values) => of(ends.data_type()) + of(values.data_type()),
        DataType::Union(children, mode) => {
            // Before version 5 a union had a validity bitmap.
            let bitmap = usize::from(version < MetadataVersion::V5);
            let offsets = usize::from(*mode == UnionMode::Dense);
            let children = children.iter().map(|(_, child)| of(child.data_type()));
            1 + bitmap + offsets + children.sum::<usize>()
        }
        DataType::Utf8View | DataType::BinaryView => {
            let count = variadic.next().and_then(|count| usize::try_from(count).ok());
            2 + count.unwrap_or(0)
        }
        _ => 2,
    }
}
