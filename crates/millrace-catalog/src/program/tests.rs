//! Conditions against a naive reference, and what is refused.

mod reference;
mod refused;

use millrace_types::{FieldType, Micros, Value, ValueRef};
use proptest::prelude::*;

use super::{FieldSource, Program, Scope, ScopeStream, compile};
use crate::limits::PATTERNS_MAX;
use crate::model::{Field, Source, TimeUnit};
use reference::truth;

/// The fields of both test streams, `e` (events) and `c` (a changelog).
const FIELDS: [(&str, FieldType); 8] = [
    ("i", FieldType::Int64),
    ("j", FieldType::Int64),
    ("d", FieldType::Double),
    ("x", FieldType::Double),
    ("s", FieldType::String),
    ("b", FieldType::Bool),
    ("y", FieldType::Bytes),
    ("t", FieldType::Timestamp),
];

/// A joined row: the values of `e` and of `c`, field by field.
#[derive(Debug, Clone)]
struct JoinedRow([Vec<Value>; 2]);

impl FieldSource for JoinedRow {
    fn field(&self, source: Source, field: usize) -> ValueRef<'_> {
        let side = match source {
            Source::Event => 0,
            Source::Join(join) => join + 1,
        };
        self.0[side][field].as_ref()
    }
}

/// Compiles over `e` and `c`; the errors as `column: rule: message (help)`.
fn program(text: &str) -> Result<Program, Vec<String>> {
    let fields: Vec<Field> = FIELDS
        .iter()
        .map(|(name, ty)| Field { name: (*name).to_owned(), ty: *ty, unit: TimeUnit::Micros })
        .collect();
    let known = vec![true; fields.len()];
    let stream =
        |name| ScopeStream { name, fields: &fields, type_known: &known, fields_known: true };
    let scope = Scope {
        events: Some(stream("e")),
        joins: vec![Some(stream("c"))],
        all: vec!["e", "c", "other"],
    };
    match compile(text, &scope, &mut PATTERNS_MAX.clone()) {
        Ok(program) => Ok(program.expect("nothing was reported elsewhere")),
        Err(problems) => Err(problems
            .into_iter()
            .map(|p| {
                let help = p.help.map(|h| format!(" ({h})")).unwrap_or_default();
                format!("{}: {}: {}{help}", p.at + 1, p.rule, p.message)
            })
            .collect()),
    }
}

fn row() -> impl Strategy<Value = JoinedRow> {
    let side = FIELDS.map(|(_, ty)| prop_oneof![1 => Just(Value::Null), 4 => reference::value(ty)]);
    let side = side.to_vec();
    // A version that is absent has all fields NULL.
    let absent = vec![Value::Null; FIELDS.len()];
    (side.clone(), prop_oneof![1 => Just(absent), 4 => side]).prop_map(|(e, c)| JoinedRow([e, c]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn programs_equal_the_reference(
        expr in reference::condition(),
        rows in prop::collection::vec(row(), 1..8),
    ) {
        let text = expr.to_string();
        let program = program(&text);
        prop_assert!(program.is_ok(), "{text}: {program:?}");
        let program = program.unwrap();
        for row in rows {
            let expected = truth(&expr, &row);
            prop_assert_eq!(program.evaluate(&row), expected, "{} over {:?}", text, row);
            prop_assert_eq!(program.matches(&row), expected == Some(true));
        }
        let again = super::tests::program(&format!(" ( {text} ) // the same")).unwrap();
        prop_assert_eq!(again, program);
    }

    #[test]
    fn any_text_is_a_program_or_refused(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "e.i", "e.s", "c.d", "e", ".", "i", "(", ")", "[", "]", "{", "}", "-", "--", "+",
                "*", "/", "%", "!", "&&", "||", "==", "!=", "<", "in", "1", "2.5", "1u", "0x1f",
                "'a'", "b'\\xff'", "\"", "'", "r'\\'", "'''", "null", "true", "has(", "has(e.i)",
                ".matches('(')", "timestamp('x')", "?", ":", ",", " ", "\n", "//", "é", "\\", "`",
                "1e999", "99999999999999999999", ".startsWith(", "e.s.contains(c.s)", "@",
            ]),
            0..12,
        ),
        noise in "\\PC{0,3}",
    ) {
        let _ = program(&(tokens.concat() + &noise));
    }
}

/// A row with these values of `e`; `c` is absent.
fn events(values: [Value; 8]) -> JoinedRow {
    JoinedRow([values.to_vec(), vec![Value::Null; FIELDS.len()]])
}

fn typical() -> JoinedRow {
    events([
        Value::Int64(i64::MIN),
        Value::Int64(0),
        Value::Double(9_007_199_254_740_992.0),
        Value::Null,
        Value::String("Grüße".into()),
        Value::Bool(true),
        Value::Bytes(Box::new([0xff, 0])),
        Value::Timestamp(Micros(1_500_000)),
    ])
}

#[test]
fn semantics_in_examples() {
    let row = typical();
    for (text, expected) in [
        // NULL and errors are one value, and && and || are Kleene's on either side.
        ("e.x > 1.0", None),
        ("!(e.x > 1.0)", None),
        ("e.x > 1.0 && false", Some(false)),
        ("false && e.x > 1.0", Some(false)),
        ("e.x > 1.0 || true", Some(true)),
        ("true || e.x > 1.0", Some(true)),
        ("e.x > 1.0 && true", None),
        ("(e.x > 1.0) == (e.x > 1.0)", None),
        ("e.x in []", None),
        ("e.i in []", Some(false)),
        ("has(c.i) || c.i != null || has(e.x)", Some(false)),
        ("null == e.x && e.i != null", Some(true)),
        // Overflow, division by zero, results that are not finite.
        ("e.i - 1 < 0", None),
        ("-e.i > 0", None),
        ("-(-e.i) == e.i", None),
        ("e.i / -1 > 0", None),
        ("e.i % -1 == 0", None),
        ("e.i / e.j > 0", None),
        ("e.i % e.j > 0", None),
        ("e.d / 0.0 > 1.0", None),
        ("e.d * 1e300 > 1.0", None),
        ("-7 / 2 == -3 && -7 % 2 == -1", Some(true)),
        // int64 against double as exact reals.
        ("9007199254740993 == e.d", Some(false)),
        ("9007199254740993 > e.d", Some(true)),
        ("e.d < 9007199254740993", Some(true)),
        ("9007199254740993 in [9007199254740992.0, 1.5]", Some(false)),
        ("e.d in [9007199254740993, 9007199254740992]", Some(true)),
        // −0.0 is 0.0.
        ("-(e.d - e.d) == 0.0 && 1.0 / (0.0 * -1.0) > 0.0", None),
        ("0.0 * -1.0 in [0.0] && -0.0 in [0]", Some(true)),
        // Text, bytes, instants.
        ("e.s.startsWith('Gr') && e.s.endsWith('ße') && e.s.contains('ü')", Some(true)),
        ("e.s.matches('^G.{3}e$')", Some(true)),
        ("e.s < 'H' && e.s > 'Gr' && e.s in ['Grüße']", Some(true)),
        ("e.y == b'\\xff\\x00' && e.y > b'\\xfe'", Some(true)),
        ("e.t > timestamp('1970-01-01T00:00:01Z')", Some(true)),
        ("e.t in [timestamp('1970-01-01T01:00:01.5+01:00')]", Some(true)),
        ("e.b && e.b != false && e.b > false", Some(true)),
    ] {
        let program = program(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(program.evaluate(&row), expected, "{text}");
        assert_eq!(program.matches(&row), expected == Some(true), "{text}");
    }
}

#[test]
fn programs_tell_what_they_read() {
    let program = program("c.i > 1 && (e.s == 'x' || c.i < e.i)").unwrap();
    let reads: Vec<(Source, usize)> = program.reads().iter().map(|f| (f.source, f.field)).collect();
    assert_eq!(reads, [(Source::Join(0), 0), (Source::Event, 4), (Source::Event, 0)]);
    assert!(program.reads_join(0) && !program.reads_join(1));
    assert!(is_shared_between_threads(&program));
}

fn is_shared_between_threads<T: Send + Sync + Clone + PartialEq + std::fmt::Debug>(_: &T) -> bool {
    true
}

#[test]
fn programs_are_equal_when_they_do_the_same() {
    let a = program("e.i > 1 && e.s.matches('a+')").unwrap();
    assert_eq!(a, program("(e.i>1)  &&\n e.s.matches(\"a+\")").unwrap());
    assert_ne!(a, program("e.i > 1 && e.s.matches('a')").unwrap());
    assert_ne!(a, program("c.i > 1 && e.s.matches('a+')").unwrap());
}
