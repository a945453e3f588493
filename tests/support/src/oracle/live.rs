//! Which facts count (semantics §1.2).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use millrace_types::{FactBody, Micros, Op, Value};

use crate::order::compare_rows;

/// The live fact of an id.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) id: Vec<u8>,
    pub(super) at: Micros,
    pub(super) seq: u64,
    /// False for an END.
    pub(super) assert: bool,
    /// One value for each field of the stream.
    pub(super) row: Vec<Value>,
}

/// The live facts among those of one stream and entity, in the order `(at, seq, id)`.
pub(super) fn live_facts(facts: &[&FactBody], fields: usize) -> Vec<Live> {
    let mut by_id: BTreeMap<&[u8], Vec<&FactBody>> = BTreeMap::new();
    for fact in facts {
        by_id.entry(&fact.id).or_default().push(fact);
    }
    let mut live: Vec<Live> = by_id.into_values().filter_map(|f| live_fact(&f, fields)).collect();
    live.sort_by(|a, b| (a.at, a.seq, &a.id).cmp(&(b.at, b.seq, &b.id)));
    live
}

/// The live one among the facts of one id.
fn live_fact(facts: &[&FactBody], fields: usize) -> Option<Live> {
    // `None` stands for −1: it is less than every revision.
    let rho = facts.iter().filter(|f| f.op == Op::Retract).map(|f| f.revision).max();
    let greatest = facts
        .iter()
        .filter(|f| f.op != Op::Retract)
        .max_by(|a, b| compare(a, b, fields))
        .filter(|f| Some(f.revision) > rho)?;
    Some(Live {
        id: greatest.id.to_vec(),
        at: greatest.at,
        seq: greatest.seq,
        assert: greatest.op == Op::Assert,
        row: values(greatest, fields),
    })
}

/// `(revision, at, seq, op, row)`
fn compare(a: &FactBody, b: &FactBody, fields: usize) -> Ordering {
    a.revision
        .cmp(&b.revision)
        .then(a.at.cmp(&b.at))
        .then(a.seq.cmp(&b.seq))
        .then((a.op == Op::End).cmp(&(b.op == Op::End)))
        .then_with(|| compare_rows(&values(a, fields), &values(b, fields)))
}

/// The values of a row, with NULL for the fields it does not have.
fn values(fact: &FactBody, fields: usize) -> Vec<Value> {
    let mut values: Vec<Value> = fact.row.view().values().map(|v| v.to_value()).collect();
    values.resize(fields.max(values.len()), Value::Null);
    values
}
