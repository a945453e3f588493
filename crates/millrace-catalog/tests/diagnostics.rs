//! What catalogs are refused for: place, rule, words and way out of every error.

use millrace_catalog::Catalog;

fn errors(yaml: &str) -> Vec<String> {
    match Catalog::compile(yaml, None) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// A good catalog that the tests below break in one place each.
const GOOD: &str = "\
entities: {user: int64, item: string, pair: [int64, string]}
streams:
  clicks:
    kind: event
    keys: {user: user_id, item: item_id, pair: [user_id, item_id]}
    optional_keys: [item, pair]
    at: ts
    id: event_id
    seq: seq
    revision: rev
    op: {field: op, retract: [undo, void]}
    out_of_orderness: 5s
    repair: 2d
    beyond_repair: hold
    fields: {event_id: string, user_id: int64, item_id: string, ts: timestamp(ms), seq: int64, rev: int64, op: string, price: double, ok: bool, blob: bytes}
  profiles:
    kind: changelog
    keys: {user: user_id}
    at: valid_from
    op: {field: op, end: [delete], retract: [\"never\"]}
    fields: {user_id: int64, valid_from: timestamp, op: string, tier: int64, country: string}
  stock:
    kind: changelog
    keys: {item: item_id}
    at: at
    retracts: undoes
    fields: {item_id: string, at: timestamp(s), undoes: string, left: int64}
views:
  activity:
    entity: user
    events: clicks
    join: [profiles]
    features:
      f: {count: {}, window: 1h}
";

#[test]
fn the_good_catalog_is_good() {
    assert_eq!(errors(GOOD), [""; 0]);
}

#[test]
fn ten_errors_are_ten_diagnostics() {
    let yaml = "\
entities: {user: int64, item: strin}
streams:
  clicks:
    kind: evnt
    keys: {usr: user_id}
    at: tss
    out_of_orderness: 5
    fields: {user_id: int64, ts: datetime, user_id: string}
views:
  v:
    entity: user
    events: click
    features:
      a: {sum: dwell, window: 1w}
      b: {count: {}, windw: 1h}
";
    assert_eq!(
        errors(yaml),
        [
            "1:31: unknown-type: entities.item: `strin` is no type of a key; keys are `int64` or `string` (help: did you mean `string`?)",
            "4:11: value: streams.clicks.kind: `evnt` is no kind of stream (help: did you mean `event`?)",
            "5:12: unknown-entity: streams.clicks.keys.usr: there is no entity kind `usr` (help: did you mean `user`?)",
            "6:9: unknown-field: streams.clicks.at: the stream has no field `tss` (help: did you mean `ts`?)",
            "7:23: duration: streams.clicks.out_of_orderness: the duration `5` has no unit (help: did you mean `5s`?)",
            "8:34: unknown-type: streams.clicks.fields.ts: there is no type `datetime` (help: did you mean `timestamp`?)",
            "8:44: duplicate-key: streams.clicks.fields.user_id: stands here twice; first in line 8",
            "12:13: unknown-stream: views.v.events: there is no stream `click` (help: did you mean `clicks`?)",
            "14:31: duration: views.v.features.a.window: `1w` is not a duration (help: write a whole number and one of us, ms, s, m, h, d, as in 24h)",
            "15:22: unknown-key: views.v.features.b: `windw` has no meaning here (help: did you mean `window`?)",
        ]
    );
}

#[test]
fn floods_are_bounded() {
    let fields: Vec<String> = (0..60_000).map(|i| format!("f{i}: int64")).collect();
    let flood = GOOD.replace("price: double", &format!("price: double, {}", fields.join(", ")));
    assert_eq!(
        errors(&flood),
        ["15:13: limit: streams.clicks.fields: there are 60010 fields; at most 256 are allowed"]
    );
    let features: Vec<String> =
        (0..30_000).map(|i| format!("      g{i}: {{cuont: {{}}}}\n")).collect();
    let found = errors(&(GOOD.to_owned() + &features.concat()));
    assert_eq!(found.len(), 256);
    assert!(found[0].contains("there are 30001 features; at most 256 are allowed"));
}

/// The cases with the errors found now, in the form of the golden file.
fn rerun(golden: &str) -> String {
    let mut found = String::new();
    for line in golden.lines() {
        if line.starts_with("  ") {
            continue;
        }
        found.push_str(line);
        found.push('\n');
        let case = line.strip_prefix("> ").and_then(|case| case.split_once(" => "));
        if let Some((from, to)) = case {
            let from = from.replace("\\n", "\n");
            let to = if to == "(nothing)" { "" } else { to };
            assert!(GOOD.contains(&from), "not in the good catalog: {from}");
            for error in errors(&GOOD.replacen(&from, &to.replace("\\n", "\n"), 1)) {
                found.push_str("  ");
                found.push_str(&error);
                found.push('\n');
            }
        }
    }
    found
}

#[test]
fn every_refusal_is_as_written() {
    let golden = include_str!("diagnostics.txt");
    let found = rerun(golden);
    for (expected, found) in golden.lines().zip(found.lines()) {
        assert_eq!(found, expected, "see tests/diagnostics.txt");
    }
    assert_eq!(found, golden);
    assert!(golden.matches(" => ").count() > 80, "the table was read");
}
