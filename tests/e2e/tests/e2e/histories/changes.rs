//! The sum of a `tail` against the oracle's joined rows.

use millrace_catalog::{Stream, View};
use millrace_e2e_tests::{Cli, JoinedRows};
use millrace_test_support::{JoinedRow, Oracle};
use millrace_types::{KnownAt, Value};
use serde_json::Value as Json;

use crate::answer::is_value;

/// Compares what a view's `tail` sums up to with the join of everything known.
pub(crate) fn compare(cli: &Cli, oracle: &Oracle, view: &View) -> Result<(), String> {
    let args = ["tail", view.name.as_str(), "--from", "start", "--until-idle"];
    let tail = cli.run(args).and_then(|done| done.expect_code(0)).map_err(|e| e.to_string())?;
    let sum = JoinedRows::sum(&tail.stdout).map_err(|error| error.to_string())?;

    let mut left: Vec<&Json> = sum.rows.values().collect();
    for entity in oracle.entities().into_iter().filter(|entity| entity.kind == view.entity) {
        for expected in oracle.joined_rows(&view.name, entity, KnownAt::MAX) {
            let found = left.iter().position(|told| is_row(oracle, view, told, &expected));
            match found {
                Some(index) => drop(left.swap_remove(index)),
                None => {
                    return Err(format!("tail {} has no {expected:?} of {entity:?}", view.name));
                }
            }
        }
    }
    match left.first() {
        None => Ok(()),
        Some(more) => Err(format!("tail {} also has {more}", view.name)),
    }
}

fn is_row(oracle: &Oracle, view: &View, told: &Json, expected: &JoinedRow) -> bool {
    let stream = |id| oracle.catalog().stream_by_id(id).expect("a checked catalog");
    let joined = view.joins.iter().zip(&expected.joined).all(|(id, version)| {
        let stream = stream(*id);
        let told = &told["joined"][&stream.name];
        match version {
            None => told.is_null(),
            Some(values) => is_values(told, stream, values),
        }
    });
    joined
        && told["id"] == id_text(&expected.id)
        && told["at"] == expected.at.to_rfc3339()
        && is_values(&told["row"], stream(view.events), &expected.event)
}

fn is_values(told: &Json, stream: &Stream, values: &[Value]) -> bool {
    stream.fields.iter().zip(values).all(|(field, value)| is_value(&told[&field.name], value))
}

/// An id that is not UTF-8 is written as `\x` and hex.
fn id_text(id: &[u8]) -> String {
    match std::str::from_utf8(id) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("\\x{}", id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}
