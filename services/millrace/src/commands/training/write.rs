//! Writing a training set on a thread of its own.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use millrace_client::{TrainingRows, TrainingSet};
use millrace_proto::convert::from_timestamp;
use tokio::sync::mpsc;

use super::out::{OutFile, OutFormat, RowWriter};
use crate::cli::{TrainingArgs, TrainingKnownAt};
use crate::commands::Failure;
use crate::output::arrow::has_text_form;

/// What the file says of itself, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Metadata(pub(super) Vec<(String, String)>);

/// What is told to the writer.
pub(super) enum Told {
    /// Before any rows: what the set was made under, and the columns of features.
    Begin { metadata: Metadata, features: SchemaRef },
    /// Rows.
    Rows(TrainingRows),
    /// The set is whole.
    End,
}

impl Told {
    /// The beginning of a set whose header came.
    pub(super) fn of(args: &TrainingArgs, set: &TrainingSet) -> Self {
        let mut pairs = vec![("millrace.views", args.views.join(","))];
        pairs.push((
            "millrace.known_at",
            match args.known_at {
                TrainingKnownAt::AtEvent => "at-event".to_owned(),
                TrainingKnownAt::Latest => "latest".to_owned(),
                TrainingKnownAt::At(at) => at.to_string(),
            },
        ));
        pairs.push(("millrace.include_late", args.include_late.to_string()));
        if let Some(header) = set.header() {
            let instant = |at: &prost_types::Timestamp| {
                from_timestamp(at).map(|at| at.to_string()).unwrap_or_default()
            };
            pairs.push(("millrace.version", header.version.clone()));
            pairs.push(("millrace.catalog_version", header.catalog_version.to_string()));
            let known_at = header.known_at.as_ref().map(instant);
            pairs.push(("millrace.log_known_at", known_at.unwrap_or_default()));
            let watermark = header.watermark.as_ref().map(instant);
            pairs.push(("millrace.watermark", watermark.unwrap_or_default()));
        }
        let metadata = Metadata(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        let features = set.schema().unwrap_or_else(|| Arc::new(Schema::empty()));
        Self::Begin { metadata, features }
    }
}

/// Writes what comes, rows of a spine behind its columns. Without its end nothing is left.
///
/// # Errors
/// [`Failure::OutFile`], [`Failure::Spine`] where a column of the spine has the name of a feature.
pub(super) fn write(
    file: OutFile,
    format: OutFormat,
    spine: Option<SchemaRef>,
    mut from: mpsc::Receiver<Told>,
) -> Result<(), Failure> {
    let mut begun: Option<(SchemaRef, RowWriter, Metadata)> = None;
    while let Some(told) = from.blocking_recv() {
        match told {
            Told::Begin { metadata, features } => {
                let schema = joined(spine.as_ref(), &features)?;
                can_hold(format, &schema)?;
                let writer = file.writer(format, &schema, &metadata)?;
                begun = Some((schema, writer, metadata));
            }
            Told::Rows(rows) => {
                let Some((schema, writer, _)) = &mut begun else { break };
                writer.write(&beside(schema, rows)?).map_err(|e| file.failed(e))?;
            }
            Told::End => {
                let Some((_, writer, metadata)) = begun else { break };
                writer.finish().map_err(|e| file.failed(e))?;
                return file.finish(Some(&metadata).filter(|_| !format.tells_of_itself()));
            }
        }
    }
    Ok(())
}

/// The columns of the spine, then those of the features.
fn joined(spine: Option<&SchemaRef>, features: &SchemaRef) -> Result<SchemaRef, Failure> {
    let Some(spine) = spine else { return Ok(SchemaRef::clone(features)) };
    for field in features.fields() {
        if spine.field_with_name(field.name()).is_ok() {
            let reason =
                format!("its column {:?} has the name of a feature; give it another", field.name());
            return Err(Failure::Spine { path: "the spine".to_owned(), reason });
        }
    }
    let fields: Vec<Arc<Field>> = spine.fields().iter().chain(features.fields()).cloned().collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Text holds what it has a form for: the other columns of a spine may be anything.
fn can_hold(format: OutFormat, schema: &Schema) -> Result<(), Failure> {
    let lacks_form = |field: &&Arc<Field>| !has_text_form(field.data_type());
    let other = match format {
        OutFormat::Parquet | OutFormat::Arrow => None,
        OutFormat::Csv | OutFormat::Ndjson => schema.fields().iter().find(lacks_form),
    };
    let Some(field) = other else { return Ok(()) };
    Err(Failure::Spine {
        path: "the spine".to_owned(),
        reason: format!(
            "its column {:?} is of type {}, which has no form in text; write a .parquet or .arrow file, or \
             leave it out",
            field.name(),
            field.data_type()
        ),
    })
}

/// Rows of the spine with their features.
fn beside(schema: &SchemaRef, rows: TrainingRows) -> Result<RecordBatch, Failure> {
    let Some(spine) = rows.spine else { return Ok(rows.features) };
    let columns = spine.columns().iter().chain(rows.features.columns()).cloned().collect();
    RecordBatch::try_new(SchemaRef::clone(schema), columns)
        .map_err(|e| Failure::Runtime(e.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;

    use super::*;

    #[test]
    fn text_is_not_begun_for_what_has_no_form_in_it() {
        let field = |name: &str, ty| Field::new(name, ty, true);
        let days = field("day", DataType::Date32);
        let lists = field("days", DataType::List(Arc::new(field("item", DataType::Date32))));
        for other in [days, lists] {
            let schema = Schema::new(vec![field("user_id", DataType::Int64), other.clone()]);
            for format in [OutFormat::Csv, OutFormat::Ndjson] {
                let error = can_hold(format, &schema).unwrap_err().to_string();
                assert!(error.contains(&format!("{:?}", other.name())), "{error}");
                assert!(error.contains("Date32") && error.contains(".parquet"), "{error}");
            }
            assert!(can_hold(OutFormat::Parquet, &schema).is_ok());
            assert!(can_hold(OutFormat::Arrow, &schema).is_ok());
        }
        let schema =
            Schema::new(vec![field("user_id", DataType::Int64), field("x", DataType::Float32)]);
        assert!(can_hold(OutFormat::Csv, &schema).is_ok());
    }
}
