//! Semantics §1.7 by hand.

use millrace_catalog::{BeyondRepair, Catalog, Field, Stream, StreamKind, TimeUnit};
use millrace_types::{FieldType, Micros, StreamId, Value};

use super::{Condition, Scope};
use crate::joined_row::JoinedRow;

fn stream(name: &str, fields: &[(&str, FieldType)]) -> Stream {
    let field = |(name, ty): &(&str, FieldType)| Field {
        name: (*name).to_owned(),
        ty: *ty,
        unit: TimeUnit::Micros,
    };
    Stream {
        id: StreamId(0),
        name: name.to_owned(),
        kind: StreamKind::Event,
        keys: vec![],
        at: 0,
        id_field: None,
        seq: None,
        revision: None,
        op: None,
        retracts: None,
        out_of_orderness_us: 0,
        repair_us: 0,
        beyond_repair: BeyondRepair::Rebuild,
        retention_us: None,
        forgets: false,
        fields: fields.iter().map(field).collect(),
    }
}

/// Whether the expression keeps a row with `e.i = 7`, `e.d = 2.5`, `e.s = "gift"`, `e.b = true`,
/// `e.n` NULL (int64), `e.y = b"k"`, `e.t` 1 s after the epoch, and an absent version of `p`.
fn keeps(text: &str) -> Result<bool, String> {
    use FieldType::{Bool, Bytes, Double, Int64, String, Timestamp};
    let fields = [
        ("i", Int64),
        ("d", Double),
        ("s", String),
        ("b", Bool),
        ("n", Int64),
        ("y", Bytes),
        ("t", Timestamp),
    ];
    let (events, profiles) = (stream("e", &fields), stream("p", &[("tier", Int64), ("ok", Bool)]));
    let row = JoinedRow {
        id: vec![],
        at: Micros(0),
        seq: 0,
        event: vec![
            Value::Int64(7),
            Value::Double(2.5),
            Value::String("gift".into()),
            Value::Bool(true),
            Value::Null,
            Value::Bytes(b"k".as_slice().into()),
            Value::Timestamp(Micros(1_000_000)),
        ],
        joined: vec![None],
    };
    let condition = Condition::parse(text, &Scope::new(&events, &[&profiles]));
    condition.map(|c| c.keeps(&row)).map_err(|e| e.problem)
}

/// Whether the catalog takes the expression over the same streams.
fn catalog_takes(text: &str) -> bool {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    let yaml = format!(
        "entities: {{user: int64}}
streams:
  e:
    kind: event
    keys: {{user: u}}
    at: t
    fields: {{u: int64, i: int64, d: double, s: string, b: bool, n: int64, y: bytes, t: timestamp}}
  p: {{kind: changelog, keys: {{user: u}}, at: t, fields: {{u: int64, t: timestamp, tier: int64, ok: bool}}}}
views:
  v: {{entity: user, events: e, join: [p], features: {{f: {{count: {{}}, where: \"{text}\"}}}}}}
"
    );
    Catalog::compile(&yaml, None).is_ok()
}

fn check(expected: bool, texts: &[&str]) {
    for text in texts {
        assert_eq!(keeps(text), Ok(expected), "{text}");
        assert!(catalog_takes(text), "the catalog refuses {text}");
    }
}

/// Neither the expression nor its negation keeps the row.
fn unknown(texts: &[&str]) {
    for text in texts {
        check(false, &[text, &format!("!({text})")]);
    }
}

#[test]
fn compares_and_binds_as_cel_does() {
    check(
        true,
        &[
            "e.i == 7",
            "e.i != 6 && e.i >= 7 && e.i <= 7 && e.i < 8 && e.i > 6",
            "e.i + 2 * 3 == 13 && (e.i + 2) * 3 == 27",
            "e.i - 3 - 2 == 2 && e.i -3 == 4 && e.i - -3 == 10",
            "-e.i == -7 && -7 / 2 == -3 && -7 % 2 == -1 && e.i / -2 == -3",
            "e.d * 2.0 == 5.0 && e.d / 2.0 == 1.25 && e.d == 25e-1",
            "false || e.b && true",
            "e.b == (e.i > 1) && false < true",
            "e.s in ['a', \"gift\"] && e.i in [1, 7] && !(e.i in []) && e.d in [2.5]",
            "e.s > 'Zebra' && e.s.startsWith('gi') && e.s.endsWith('ft') && e.s.contains('if')",
            "e.s.matches('^g.f') && e.s.matches('if') && !e.s.matches('^if')",
            "e.y == b'k' && e.y < b'l' && e.t == timestamp('1970-01-01T00:00:01Z')",
            "'it\\'s' == \"it's\"",
            "e.i > -9223372036854775808",
        ],
    );
}

#[test]
fn int_against_double_compares_exactly() {
    check(
        true,
        &[
            "e.i > 6.999 && e.i == 7.0 && 7.5 > e.i && e.i in [7.0]",
            "9007199254740993 > 9007199254740992.0 && 9007199254740993 != 9007199254740992.0",
            "9223372036854775807 < 9223372036854775808.0",
        ],
    );
}

#[test]
fn null_and_errors_are_a_third_value() {
    unknown(&[
        "e.n == 1",
        "e.n != 1",
        "e.n + 1 > 0",
        "-e.n < 0",
        "e.n in [1]",
        "p.tier < 3",
        "p.ok",
        "!p.ok",
        "e.i / 0 == 0",
        "e.i % 0 == 0",
        "e.d / 0.0 == 0.0",
        "e.d * 1.7e308 > 0.0",
        "9223372036854775807 + e.i > 0",
        "e.i * 9223372036854775807 > 0",
        "-9223372036854775808 / -1 > 0",
        "-9223372036854775808 % -1 == 0",
        "(e.n == 1) == (e.n == 1)",
    ]);
    check(true, &["e.n == null", "!has(e.n)", "has(e.i)", "e.i != null", "p.tier == null"]);
    check(false, &["e.n != null", "has(p.tier)", "e.i == null", "null != e.n"]);
}

#[test]
fn and_and_or_are_kleenes() {
    let (u, t, f) = ("p.ok", "e.b", "!e.b");
    check(false, &[&format!("{u} && {t}"), &format!("{u} || {f}"), &format!("{u} || {u}")]);
    unknown(&[&format!("{u} && {t}"), &format!("{f} || {u}"), &format!("{u} && {u}")]);
    check(true, &[&format!("{u} || {t}"), &format!("{t} || {u}"), &format!("!({u} && {f})")]);
    check(true, &[&format!("!({f} && {u})"), "e.i / 0 == 1 || e.i == 7"]);
}

#[test]
fn mistyped_and_unsupported_is_refused() {
    for text in [
        "e.i",
        "e.i == 'a'",
        "e.i + 1.0 == 8.0",
        "e.i + e.d > 1.0",
        "e.d % 2.0 == 0.0",
        "e.s + 'a' == 'b'",
        "e.i && e.b",
        "!e.i",
        "-e.s == 'a'",
        "e.i.startsWith('a')",
        "e.s.matches('(')",
        "e.s.matches(e.s)",
        "e.s.size() == 1",
        "e.i == null + 1",
        "e.i < null",
        "has(e.i + 1)",
        "e.unknown == 1",
        "x.i == 1",
        "e.i in 7",
        "e.i in ['a']",
        "e.b ? e.b : e.b",
        "e.i == 9223372036854775808",
        "e.d < 1e999",
        "null == null",
        "(e.b",
        "e.b e.b",
        "",
    ] {
        assert!(keeps(text).is_err(), "{text}");
        assert!(!catalog_takes(text), "the catalog takes {text}");
    }
}
