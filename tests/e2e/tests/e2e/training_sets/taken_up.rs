//! Calls for training sets that are taken up again where one broke off, by the protocol itself.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use millrace_e2e_tests::wait_until;
use millrace_proto::v1;
use millrace_proto::v1::feature_service_client::FeatureServiceClient;
use millrace_proto::v1::get_training_set_request::Part as Ask;
use millrace_proto::v1::get_training_set_response::Part;
use millrace_proto::v1::training_set_start::{KnownAt, Rows};
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::Status;

use super::{LATEST, VIEW, apply, made};
use crate::fixture::{CLICKS, Site, Topology, on_all, on_both_overnight};

/// What a call gave.
struct Call {
    version: String,
    /// The ids of the rows, one list a message, with the cursor behind it.
    messages: Vec<(Vec<String>, String)>,
    summary: Option<v1::TrainingSetSummary>,
}

/// The question of the tests: some features of the view for its own events, as of a version, from a cursor on.
fn events(features: &[&str], version: &str, cursor: &str) -> v1::TrainingSetStart {
    let features = features.iter().map(|name| (*name).to_owned()).collect();
    v1::TrainingSetStart {
        views: vec![v1::TrainingView { view: VIEW.to_owned(), features }],
        rows: Some(Rows::Events(v1::EventRows::default())),
        known_at: Some(KnownAt::Latest(v1::AsKnownLatest {})),
        version: version.to_owned(),
        cursor: cursor.to_owned(),
        ..Default::default()
    }
}

/// Asks, and breaks the call off after so many messages with rows.
fn ask(site: &Site, asks: Vec<Ask>, messages: usize) -> Result<Call, Status> {
    let endpoint = site.endpoint("feature-serving");
    let requests = asks.into_iter().map(|part| v1::GetTrainingSetRequest { part: Some(part) });
    let requests: Vec<_> = requests.collect();
    Runtime::new().expect("a runtime").block_on(async {
        let mut client = FeatureServiceClient::connect(endpoint).await.expect("it is reached");
        let answers = client.get_training_set(tokio_stream::iter(requests)).await?;
        let mut answers = answers.into_inner();
        let mut call = Call { version: String::new(), messages: Vec::new(), summary: None };
        let mut decoder = StreamDecoder::new();
        let mut decode =
            |bytes: &[u8]| decoder.decode(&mut bytes.to_vec().into()).expect("an Arrow stream");
        while let Some(answer) = answers.message().await? {
            match answer.part.expect("a part") {
                Part::Header(header) => {
                    assert!(decode(&header.schema_arrow_ipc).is_none());
                    call.version = header.version;
                }
                Part::Rows(rows) => {
                    let batch = decode(&rows.arrow_ipc).expect("rows");
                    assert_eq!(rows.rows, batch.num_rows() as u64);
                    let before: usize = call.messages.iter().map(|(ids, _)| ids.len()).sum();
                    assert_eq!(rows.first_row, before as u64, "the rows of this call");
                    let ids = batch.column_by_name("id").expect("a column").as_string::<i32>();
                    let ids = ids.iter().map(|id| id.expect("an id").to_owned()).collect();
                    call.messages.push((ids, rows.cursor));
                    if call.messages.len() == messages {
                        break;
                    }
                }
                Part::Summary(summary) => call.summary = Some(summary),
            }
        }
        Ok(call)
    })
}

fn ids(call: &Call) -> Vec<String> {
    call.messages.iter().flat_map(|(ids, _)| ids.clone()).collect()
}

on_both_overnight!(events_go_on_behind_the_last_row_whatever_was_erased_before_it);
/// What was sent is not sent again and what was not is, although rows before it are gone.
fn events_go_on_behind_the_last_row_whatever_was_erased_before_it(on: Topology) {
    const ROWS: usize = 20_000;
    const USERS: usize = 40;
    let site = on.site_with(|options| options.slots = Some(1));
    let click = |n: usize| {
        let (hour, minute, second) = (n / 3_600, n / 60 % 60, n % 60);
        format!("e{n},{},2026-03-01T{hour:02}:{minute:02}:{second:02}Z,,,,1.5,a", n % USERS)
    };
    let clicks: Vec<String> = (0..ROWS).map(click).collect();
    let clicks: Vec<&str> =
        std::iter::once(CLICKS).chain(clicks.iter().map(String::as_str)).collect();
    assert_eq!(site.publish("clicks", &clicks).accepted, ROWS as u64);
    let question = |version: &str, cursor: &str| Ask::Start(events(&["clicks"], version, cursor));

    let begun = ask(&site, vec![question("", "")], 1).expect("it begins");
    let [(first, cursor)] = begun.messages.as_slice() else { panic!("one message") };
    let whole = ids(&ask(&site, vec![question(&begun.version, "")], 99).expect("all"));
    assert_eq!((whole.len(), &whole[..first.len()]), (ROWS, first.as_slice()));
    let rest = ask(&site, vec![question(&begun.version, cursor)], 99).expect("the rest");
    assert_eq!(ids(&rest), whole[first.len()..]);
    let counted = rest.summary.expect("it ended");
    assert_eq!(counted.rows as usize, ROWS - first.len(), "what was counted is what was sent");

    // Users of whom all, some and none was sent.
    let user = |id: &String| id[1..].parse::<usize>().expect("a number") % USERS;
    let erased = [&whole[0], &whole[first.len()], &whole[ROWS - 1]].map(user);
    for user in erased {
        let receipt = site.cli().json(["erase", "user", &user.to_string()]).expect("erased");
        assert_eq!(receipt["done"], true, "{receipt}");
    }
    let rest = ask(&site, vec![question(&begun.version, cursor)], 99).expect("the rest");
    let expected = whole[first.len()..].iter().filter(|id| !erased.contains(&user(id)));
    assert!(ids(&rest).iter().eq(expected), "rows were left out or came twice");
}

on_all!(events_that_were_forgotten_meanwhile_are_not_left_out_of_the_rest_alone);
/// Rows of the rest alone cannot be left out: that would be no set of any kind.
fn events_that_were_forgotten_meanwhile_are_not_left_out_of_the_rest_alone(on: Topology) {
    const CATALOG: &str = "\
entities: {user: int64}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    repair: 1h
    fields: {event_id: string, user_id: int64, ts: timestamp}
views:
  user_activity:
    entity: user
    events: clicks
    features: {clicks_1d: {count: {}, window: 1d}}
";
    let site = on.bare_site(|options| options.slots = Some(4));
    apply(&site, &site.file("all.yaml", &[CATALOG]));
    let hours = (0..30 * 24).flat_map(|hour| (0..20).map(move |user| (hour, user)));
    let click = |(hour, user): (usize, usize)| {
        format!("{user}-{hour},{user},2024-01-{:02}T{:02}:00:00Z", hour / 24 + 1, hour % 24)
    };
    let mut lines = vec!["event_id,user_id,ts".to_owned()];
    lines.extend(hours.map(click));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(site.publish("clicks", &lines).accepted, 30 * 24 * 20);
    let question = |version: &str, cursor: &str| Ask::Start(events(&[], version, cursor));
    let begun = ask(&site, vec![question("", "")], 1).expect("it begins");
    let cursor = &begun.messages[0].1;
    assert!(ask(&site, vec![question(&begun.version, cursor)], 99).is_ok());

    let keeps = CATALOG.replace("    repair: 1h\n", "    repair: 1h\n    retention: 10d\n");
    apply(&site, &site.file("keeps.yaml", &[&keeps]));
    wait_until("the boundary", Duration::from_secs(90), || {
        let status = site.cli().json(["status"]).ok()?;
        // It moves in steps, of which this is the last.
        (status["forgotten_before"]["clicks"] == "2024-01-19T21:00:00Z").then_some(())
    });
    let refused = ask(&site, vec![question(&begun.version, cursor)], 99).err().expect("refused");
    let message = refused.message();
    assert!(message.contains("the earliest instant that can be read is 2024-01-2"), "{message}");
    // A new set begins later, says so, and goes on as it began.
    let told = made(&site, &[&[VIEW, "--events"][..], &LATEST].concat(), "set.csv");
    assert!(told["rows_from"].as_str().is_some_and(|at| at.starts_with("2024-01-2")), "{told}");
    let rows = fs::read_to_string(site.path("set.csv")).expect("the set").lines().count() - 1;
    let begun = ask(&site, vec![question("", "")], 1).expect("it begins");
    let (first, cursor) = &begun.messages[0];
    let rest = ask(&site, vec![question(&begun.version, cursor)], 99).expect("the rest");
    assert_eq!(first.len() + ids(&rest).len(), rows);
    let from = rest.summary.and_then(|summary| summary.rows_from).expect("it says so");
    assert_eq!(json!(from.to_string()), told["rows_from"], "that of the whole set");
}

on_both_overnight!(what_is_wrong_with_a_row_is_told_by_its_number_in_the_whole_spine);
/// The rows that come before were answered by an earlier call.
fn what_is_wrong_with_a_row_is_told_by_its_number_in_the_whole_spine(on: Topology) {
    let site = on.site();
    let columns: [(&str, ArrayRef); 2] = [
        ("user", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("at", Arc::new(Int64Array::from(vec![5, 5]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("two columns");
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a schema");
    writer.write(&batch).expect("rows");
    let spine = writer.get_ref().clone();
    for (rows_before, named) in [(0, "spine[1].user"), (400_000, "spine[400001].user")] {
        let rows = Some(Rows::Spine(v1::SpineRows { rows_before }));
        let start = v1::TrainingSetStart { rows, ..events(&["clicks"], "", "") };
        let asks = vec![Ask::Start(start), Ask::SpineArrowIpc(spine.clone().into())];
        let refused = ask(&site, asks, 99).err().expect("refused");
        assert!(refused.message().contains(named), "{}", refused.message());
    }
}
