//! Training sets with fixed rows: users 13 and 42 have clicks, and a value of user 13 is off by a bit.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use millrace_proto::v1;
use millrace_proto::v1::get_training_set_request::Part as Ask;
use millrace_proto::v1::get_training_set_response::Part;
use tonic::{Status, Streaming};

/// What `get_features` of this server answers.
const SPEND: f64 = 12.5;

pub(super) type Answers = Vec<Result<v1::GetTrainingSetResponse, Status>>;

/// The answer to a call.
pub(super) async fn answer(
    mut requests: Streaming<v1::GetTrainingSetRequest>,
) -> Result<Answers, Status> {
    let mut rows = None;
    while let Some(message) = requests.message().await? {
        match message.part {
            Some(Ask::Start(start)) => {
                if let Some(v1::training_set_start::Rows::Events(_)) = start.rows {
                    rows = Some(events());
                }
            }
            Some(Ask::SpineArrowIpc(spine)) => rows = Some(features(&users(&spine))),
            None => {}
        }
    }
    let rows = rows.ok_or_else(|| Status::invalid_argument("neither events nor a spine"))?;
    let (schema, arrow_ipc) = encoded(&rows);
    let header = v1::TrainingSetHeader { schema_arrow_ipc: schema, ..Default::default() };
    let count = rows.num_rows() as u64;
    let of_rows = v1::TrainingSetRows { arrow_ipc, rows: count, ..Default::default() };
    let summary = v1::TrainingSetSummary { rows: count, ..Default::default() };
    let parts = [Part::Header(header), Part::Rows(of_rows), Part::Summary(summary)];
    Ok(parts.map(|part| Ok(v1::GetTrainingSetResponse { part: Some(part) })).into())
}

fn users(spine: &Bytes) -> Vec<i64> {
    let reader = StreamReader::try_new(spine.as_ref(), None).expect("a schema first");
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("batches");
    let users = |batch: &RecordBatch| {
        let column = batch.column_by_name("user").expect("named after the kind");
        column.as_any().downcast_ref::<Int64Array>().expect("int64").values().to_vec()
    };
    batches.iter().flat_map(users).collect()
}

fn events() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("user", Arc::new(Int64Array::from(vec![13, 13, 42]))),
        ("at", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("id", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("clicks_1h", Arc::new(Int64Array::from(vec![0, 1, 0]))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of three rows")
}

fn features(users: &[i64]) -> RecordBatch {
    let off = f64::from_bits(SPEND.to_bits() + 1);
    let spend = users.iter().map(|user| if *user == 13 { off } else { SPEND });
    let columns: [(&str, ArrayRef); 2] = [
        ("clicks_1h", Arc::new(Int64Array::from(vec![2; users.len()]))),
        ("spend_24h", Arc::new(Float64Array::from_iter_values(spend))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of as many rows")
}

/// The schema, and the rows.
fn encoded(rows: &RecordBatch) -> (Bytes, Bytes) {
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref()).expect("a schema");
    let before = writer.get_ref().len();
    writer.write(rows).expect("rows of it");
    let mut bytes = Bytes::from(std::mem::take(writer.get_mut()));
    let batch = bytes.split_off(before);
    (bytes, batch)
}
