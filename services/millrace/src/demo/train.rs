//! The demo's training set: every click as a row, written by the command, read back and checked.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use millrace_client::Client;
use millrace_types::Micros;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::history::History;
use super::{DemoError, batch, same, shown};
use crate::cli::{TrainingArgs, TrainingKnownAt};
use crate::commands::training;
use crate::output::arrow::feature_value;

fn failed(why: impl ToString) -> DemoError {
    DemoError::Training(why.to_string())
}

/// Writes the set and compares every value with the batch computation. Gives how many rows and values.
pub(super) async fn check(
    client: &Client,
    history: &History,
    folder: &Path,
) -> Result<(u64, u64), DemoError> {
    let out = folder.join("train.parquet");
    let args = TrainingArgs {
        views: vec!["user_activity".to_owned()],
        spine: None,
        events: true,
        from: None,
        to: None,
        known_at: TrainingKnownAt::Latest,
        out: out.clone(),
        features: Vec::new(),
        include_late: false,
        set_version: None,
    };
    let report = training::make(client, &args).await.map_err(failed)?;
    let file = File::open(&out).map_err(failed)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build());
    let mut checked = 0;
    for rows in reader.map_err(failed)? {
        checked += compare(&rows.map_err(failed)?, history)?;
    }
    Ok((report.rows, checked))
}

fn compare(rows: &RecordBatch, history: &History) -> Result<u64, DemoError> {
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| failed(format!("no {name}")));
    let (users, ats) = (column("user")?, column("at")?);
    let mut checked = 0;
    for row in 0..rows.num_rows() {
        let user = users.as_primitive::<Int64Type>().value(row);
        let at = Micros(ats.as_primitive::<TimestampMicrosecondType>().value(row));
        for (feature, expected) in batch::features(history, user, at) {
            let offline = feature_value(column(feature)?.as_ref(), row);
            if !same(&offline, &expected) {
                return Err(DemoError::Differs {
                    user,
                    feature,
                    online: shown(&offline),
                    batch: shown(&expected),
                });
            }
            checked += 1;
        }
    }
    Ok(checked)
}
