//! Which facts count, and which version an event meets.

use millrace_catalog::Aggregate;
use millrace_types::{FeatureValue, KnownAt, Micros, Op, Status, Value, Verdict};

use super::fixture::*;

fn count_events(facts: Vec<millrace_types::Fact>) -> (FeatureValue, Status) {
    value(feature(Aggregate::Count, None), facts)
}

fn sum_of(facts: Vec<millrace_types::Fact>) -> (FeatureValue, Status) {
    value(feature(Aggregate::Sum, of_event(I)), facts)
}

#[test]
fn a_fact_counts_once_however_often_it_comes() {
    let one = event("a", 1, I, Value::Int64(5));
    assert_eq!(sum_of(vec![one.clone(), one.clone(), one]), count(5));
}

#[test]
fn the_greatest_revision_counts_whatever_the_order() {
    let first = event("a", 10, I, Value::Int64(5));
    let second = revised(event("a", 20, I, Value::Int64(7)), 1);
    let third = revised(event("a", 5, I, Value::Int64(9)), 2);
    assert_eq!(sum_of(vec![third.clone(), first.clone(), second.clone()]), count(9));
    // Of one revision the greatest (at, seq, op, row) counts.
    let conflict = revised(event("a", 5, I, Value::Int64(8)), 2);
    assert_eq!(sum_of(vec![third.clone(), conflict.clone()]), count(9));
    assert_eq!(sum_of(vec![conflict, third]), count(9));
    assert_eq!(sum_of(vec![first, second]), count(7));
}

#[test]
fn a_retraction_works_before_and_after_what_it_retracts_up_to_its_revision() {
    let fact = event("a", 10, I, Value::Int64(5));
    let other = event("b", 10, I, Value::Int64(1));
    let gone = with_op(event("a", 999, I, Value::Null), Op::Retract);
    assert_eq!(count_events(vec![fact.clone(), gone.clone(), other.clone()]), count(1));
    assert_eq!(count_events(vec![gone.clone(), fact.clone(), other.clone()]), count(1));
    let correction = revised(event("a", 10, I, Value::Int64(6)), 1);
    assert_eq!(sum_of(vec![gone.clone(), fact.clone(), correction.clone()]), count(6));
    let all = revised(gone, u64::MAX);
    assert_eq!(sum_of(vec![all, fact, correction, other]), count(1));
}

#[test]
fn events_meet_the_version_at_their_own_instant() {
    let tier = feature(Aggregate::Last, of_profile(0));
    let oracle = |facts| oracle(vec![tier.clone()], facts);
    // "≤" at the same microsecond; ties of versions go by seq, then id.
    let mut second = profile("p2", 10, 2);
    second.body.seq = 1;
    let facts = vec![second, profile("p1", 10, 1), fact(0, "e", 10, &[])];
    assert_eq!(read(&oracle(facts.clone()), 11), count(2));
    let mut same_seq = facts;
    same_seq[1].body.seq = 1;
    assert_eq!(read(&oracle(same_seq), 11), count(2));
    // A microsecond before the version there is none.
    let early = vec![profile("p1", 10, 1), fact(0, "e", 9, &[])];
    assert_eq!(read(&oracle(early), 11), NULL);
}

#[test]
fn after_an_end_there_is_no_version_until_the_next() {
    let latest = feature(Aggregate::Latest, of_profile(0));
    let end = with_op(profile("p2", 20, 7), Op::End);
    let facts = vec![profile("p1", 10, 1), end.clone(), profile("p3", 30, 3)];
    let oracle = oracle(vec![latest], facts.clone());
    assert_eq!(read(&oracle, 9), (FeatureValue::NULL, Status::MissingEntity));
    assert_eq!(read(&oracle, 10), count(1));
    assert_eq!(read(&oracle, 19), count(1));
    assert_eq!(read(&oracle, 20), NULL);
    assert_eq!(read(&oracle, 30), count(3));
    let mut corrected = oracle.clone();
    corrected.insert(KnownAt(1), revised(profile("p2", 20, 8), 1));
    assert_eq!(read(&corrected, 20), count(8));
    let mut retracted = oracle;
    retracted.insert(KnownAt(1), with_op(end, Op::Retract));
    assert_eq!(read(&retracted, 20), count(1));
    // Of one revision, instant and seq the END counts.
    let mut tie = super::fixture::oracle(vec![feature(Aggregate::Latest, of_profile(0))], facts);
    tie.insert(KnownAt(1), profile("p2", 20, 100));
    assert_eq!(read(&tie, 20), NULL);
}

#[test]
fn an_entity_is_missing_before_its_first_live_fact() {
    let features =
        vec![feature(Aggregate::Count, None), feature(Aggregate::FirstN { n: 2 }, of_event(I))];
    let gone = event("gone", 1, I, Value::Int64(1));
    let retract = with_op(gone.clone(), Op::Retract);
    let facts = vec![gone, retract, with_op(profile("p", 10, 1), Op::End)];
    let oracle = oracle(features, facts);
    let at = |at| oracle.read("v", &user(), Micros(at), KnownAt::MAX);
    let missing = Status::MissingEntity;
    let zero = FeatureValue::Scalar(Value::Int64(0));
    let empty = FeatureValue::List(vec![]);
    assert_eq!(at(9), vec![(zero.clone(), missing), (empty.clone(), missing)]);
    // An END is a live fact, also at the very instant.
    assert_eq!(at(10), vec![(zero, Status::Present), (empty, Status::Present)]);
}

#[test]
fn a_read_sees_what_was_known() {
    let mut oracle = oracle(vec![feature(Aggregate::Sum, of_event(I))], vec![]);
    oracle.insert(KnownAt(100), event("a", 1, I, Value::Int64(5)));
    oracle.insert(KnownAt(200), revised(event("a", 1, I, Value::Int64(6)), 1));
    // A copy does not make the fact younger; an import states when it was known.
    oracle.insert(KnownAt(300), event("a", 1, I, Value::Int64(5)));
    let mut imported = event("b", 1, I, Value::Int64(10));
    imported.body.known_at = Some(KnownAt(150));
    oracle.insert(KnownAt(400), imported);
    let known = |k| oracle.read("v", &user(), Micros(9), KnownAt(k)).remove(0);
    assert_eq!(known(99).1, Status::MissingEntity);
    assert_eq!(known(100), count(5));
    assert_eq!(known(150), count(15));
    assert_eq!(known(200), count(16));
}

#[test]
fn joined_rows_come_in_order_with_their_versions() {
    let end = with_op(profile("p2", 30, 0), Op::End);
    let facts = vec![fact(0, "z", 20, &[]), fact(0, "y", 20, &[]), fact(0, "x", 30, &[]), end];
    let oracle =
        oracle(vec![feature(Aggregate::Count, None)], [facts, vec![profile("p1", 20, 3)]].concat());
    let rows = oracle.joined_rows("v", &user(), KnownAt::MAX);
    let ids: Vec<&[u8]> = rows.iter().map(|r| r.id.as_slice()).collect();
    assert_eq!(ids, [b"y", b"z", b"x"]);
    assert_eq!(rows[0].event, vec![Value::Null; 5]);
    assert_eq!(rows[0].joined, vec![Some(vec![Value::Int64(3), Value::Null])]);
    assert_eq!(rows[2].joined, vec![None]);
}

#[test]
fn verdicts_count_the_rows_that_change() {
    let mut oracle = oracle(vec![feature(Aggregate::Count, None)], vec![]);
    let mut verdict = |fact: &millrace_types::Fact| {
        let judged = oracle.insert_judged(KnownAt(1), fact.clone());
        (judged.verdict, judged.conflict)
    };
    let repaired = |rows| (Verdict::Repaired { rows }, false);
    let accepted = (Verdict::Accepted, false);
    let a = event("a", 10, I, Value::Int64(1));
    assert_eq!(verdict(&a), accepted);
    assert_eq!(verdict(&a), (Verdict::Duplicate, false));
    assert_eq!(verdict(&event("b", 20, I, Value::Int64(1))), accepted);
    // Late, but no row was there before.
    assert_eq!(verdict(&event("c", 5, I, Value::Int64(1))), accepted);
    // A version from 10 on concerns a and b, one from 15 on only b.
    assert_eq!(verdict(&profile("p", 10, 1)), repaired(2));
    assert_eq!(verdict(&profile("q", 15, 2)), repaired(1));
    // The same values again change no row.
    assert_eq!(verdict(&profile("r", 16, 2)), accepted);
    // A conflict that loses changes nothing; one that wins replaces a row.
    let less = event("a", 10, I, Value::Int64(0));
    assert_eq!(verdict(&less), (Verdict::Accepted, true));
    let more = event("a", 10, I, Value::Int64(2));
    assert_eq!(verdict(&more), (Verdict::Repaired { rows: 1 }, true));
    let retract = with_op(event("a", 0, I, Value::Null), Op::Retract);
    assert_eq!(verdict(&retract), repaired(1));
    // Of a RETRACT only the revision matters.
    assert_eq!(verdict(&with_op(event("a", 7, D, Value::Null), Op::Retract)).0, Verdict::Duplicate);
}
