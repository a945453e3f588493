//! Expressions that are refused, with the place, the rule and the way out.

use super::program;
use crate::limits::{WHERE_BYTES_MAX, WHERE_DEPTH_MAX};

/// An expression and its errors.
const REFUSED: &[(&str, &[&str])] = &[
    ("e.i = 1", &["5: where-syntax: unexpected '= ' (write `==` to compare)"]),
    ("e.i == 1 and e.b", &["10: where-syntax: unexpected 'and' (write `&&`)"]),
    ("e.i ==", &["7: where-syntax: the expression ends too early"]),
    ("e.i > 99999999999999999999", &["7: where-syntax: invalid int literal"]),
    ("e.d > 1e999", &["7: where-syntax: invalid double literal"]),
    ("", &["1: where-syntax: the expression ends too early"]),
    ("'abc", &["1: where-syntax: a text is not closed, or holds an unknown escape"]),
    ("e.é == 1", &["3: where-syntax: unexpected 'é'"]),
    (
        "i > 1",
        &["1: unknown-field: `i` alone is no field; write `stream.field` (did you mean `e.i`?)"],
    ),
    ("f.i > 1", &["1: unknown-stream: there is no stream `f` (the view reads `e` and `c`)"]),
    (
        "other.i > 1",
        &[
            "1: not-joined: the view does not join the stream `other` (add `other` to the view's `join`)",
        ],
    ),
    ("e.ii > 1", &["1: unknown-field: the stream `e` has no field `ii` (did you mean `i`?)"]),
    ("e.i.x > 1", &["1: where-unsupported: fields have no parts; write `stream.field`"]),
    ("e.i", &["1: where-type: a condition must be of type bool; this is int64"]),
    (
        "e.i > 'x'",
        &["5: where-type: int64 is compared with string (write a number without quotes)"],
    ),
    (
        "e.s > 1",
        &[
            "5: where-type: string is compared with int64 (put the literal in quotes to compare text)",
        ],
    ),
    (
        "e.t > '2026-01-01T00:00:00Z'",
        &[
            "5: where-type: timestamp is compared with string (write an instant as timestamp('2026-03-01T12:00:00Z'))",
        ],
    ),
    ("e.i + e.d > 1", &["5: where-type: `+` does not mix int64 and double"]),
    (
        "e.d * 2 > 1.0",
        &["5: where-type: `*` does not mix double and int64 (write 2.0, which is a double)"],
    ),
    (
        "e.s + e.s == 'x'",
        &["5: where-type: `+` takes two numbers of one type; these are string and string"],
    ),
    ("e.d % 2.0 > 1.0", &["5: where-type: `%` takes two int64; these are double"]),
    ("-e.s == 'x'", &["1: where-type: `-` takes a number; this is string"]),
    ("!e.i", &["2: where-type: a condition must be of type bool; this is int64"]),
    ("e.i && e.b", &["1: where-type: a condition must be of type bool; this is int64"]),
    (
        "--e.i > 1",
        &[
            "2: where-unsupported: two minus signs in a row are not supported (write one of them in parentheses, as in `-(-x)`)",
        ],
    ),
    (
        "e.i > 1u",
        &["7: where-unsupported: there are no unsigned integers (write the number without `u`)"],
    ),
    ("null == null", &["9: where-unsupported: only a field `stream.field` can stand here"]),
    ("e.i > null", &["5: where-unsupported: null is only compared by `==` and `!=`"]),
    ("e.i + 1 == null", &["5: where-unsupported: only a field `stream.field` can stand here"]),
    (
        "e.i == null + 1",
        &["8: where-unsupported: null is only compared with a field, by `==` or `!=`"],
    ),
    ("has(e.zz)", &["5: unknown-field: the stream `e` has no field `zz`"]),
    ("has(e)", &["5: where-syntax: invalid argument to has() macro"]),
    (
        "e.i in e.j",
        &["8: where-unsupported: `in` takes a list of literals (write `x in [1, 2, 3]`)"],
    ),
    ("e.i in [e.j]", &["9: where-unsupported: `in` takes a list of literals"]),
    (
        "e.i in [1, 'x', null]",
        &[
            "12: where-type: int64 is compared with string (write a number without quotes)",
            "17: where-unsupported: null is never in a list (write `f == null || f in […]`)",
        ],
    ),
    (
        "e.i in [1, 2u]",
        &["12: where-unsupported: there are no unsigned integers (write the number without `u`)"],
    ),
    (
        "e.b ? e.b : false",
        &["5: where-unsupported: `c ? a : b` is not supported (write `c && a || !c && b`)"],
    ),
    ("e.s[0] == 'x'", &["4: where-unsupported: `[…]` is not supported: there are no list fields"]),
    (
        "e.s.size() > 1",
        &[
            "1: where-unsupported: there is no function `size`; there are `has`, `startsWith`, `endsWith`, `contains`, `matches` and `timestamp`",
        ],
    ),
    (
        "e.s.startWith('x')",
        &[
            "1: where-unsupported: there is no function `startWith`; there are `has`, `startsWith`, `endsWith`, `contains`, `matches` and `timestamp` (did you mean `startsWith`?)",
        ],
    ),
    (
        "startsWith(e.s, 'x')",
        &[
            "1: where-unsupported: `startsWith` is a method of one text (write `stream.field.startsWith('…')`)",
        ],
    ),
    ("e.i.startsWith('x')", &["1: where-type: a text is wanted here; this is int64"]),
    ("e.s.contains(1)", &["14: where-type: a text is wanted here; this is int64"]),
    (
        "e.s.matches(e.s)",
        &["13: where-unsupported: the pattern of `matches` must be a literal text"],
    ),
    ("e.s.matches('(')", &["13: value: not a regular expression: unclosed group"]),
    (
        "e.s.matches('(\\\\w{50}){50}')",
        &["13: value: not a regular expression: it takes more than 262144 bytes when compiled"],
    ),
    (
        "timestamp(e.s) > e.t",
        &[
            "1: where-unsupported: `timestamp` takes one literal text (write timestamp('2026-03-01T12:00:00Z'))",
        ],
    ),
    (
        "timestamp('yesterday') > e.t",
        &[
            "1: value: \"yesterday\" is not an RFC 3339 instant with an offset or Z, such as 2026-03-01T12:00:00Z",
        ],
    ),
    (
        "[1, 2].exists(x, x > e.i)",
        &[
            "14: where-unsupported: `all`, `exists`, `map` and `filter` are not supported: there are no list fields",
        ],
    ),
    ("e.y == 'x'", &["5: where-type: bytes is compared with string (write bytes as b'…')"]),
    (
        "e.i == '1' && e.zz",
        &[
            "5: where-type: int64 is compared with string (write a number without quotes)",
            "15: unknown-field: the stream `e` has no field `zz`",
        ],
    ),
    (
        "int(e.d) > 1",
        &[
            "1: where-unsupported: there is no function `int`; there are `has`, `startsWith`, `endsWith`, `contains`, `matches` and `timestamp`",
        ],
    ),
    (".e.i > 1", &["2: unknown-stream: there is no stream `.e` (did you mean `e`?)"]),
    ("e.i > 1 c", &["9: where-syntax: unexpected 'c'"]),
    ("package > 1", &["1: where-syntax: reserved identifier: package"]),
    ("\n\n  e.zz > 1", &["5: unknown-field: the stream `e` has no field `zz`"]),
];

#[test]
fn wrong_expressions_are_refused_with_the_reason() {
    for (text, expected) in REFUSED {
        assert_eq!(program(text).unwrap_err(), *expected, "{text}");
    }
}

#[test]
fn all_errors_of_an_expression_are_found() {
    let errors = program("e.ii > 1 && e.s > 2 && other.x == 1 || e.i + e.d > 1.0").unwrap_err();
    assert_eq!(
        errors,
        [
            "1: unknown-field: the stream `e` has no field `ii` (did you mean `i`?)",
            "17: where-type: string is compared with int64 (put the literal in quotes to compare text)",
            "24: not-joined: the view does not join the stream `other` (add `other` to the view's `join`)",
            "44: where-type: `+` does not mix int64 and double",
        ]
    );
}

#[test]
fn long_and_deep_expressions_are_refused() {
    let long = vec!["e.i > 1"; WHERE_BYTES_MAX / 8].join(" && ");
    assert!(program(&long).unwrap_err()[0].starts_with("1: limit: the expression takes"));
    let wide = vec!["e.i>1"; WHERE_BYTES_MAX / 8].join("&&");
    assert!(program(&wide).is_ok());
    let sum = vec!["e.i"; WHERE_DEPTH_MAX + 2].join("+") + "> 1";
    assert!(program(&sum).unwrap_err()[0].contains("limit: the expression nests deeper"));
    let parentheses = "(".repeat(1_000) + "e.b" + &")".repeat(1_000);
    assert_eq!(program(&parentheses).unwrap_err(), ["1: limit: the expression nests too deep"]);
}
