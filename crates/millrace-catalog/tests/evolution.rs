//! From one version to the next: numbers stay, what stored facts rest on stays, the rest may change.

use millrace_catalog::{Catalog, Change, diff};
use millrace_types::{FieldType, KindId, StreamId};

const FIRST: &str = "\
entities: {user: int64, item: string}
streams:
  clicks:
    kind: event
    keys: {user: user_id}
    at: ts
    id: event_id
    fields: {event_id: string, user_id: int64, ts: timestamp, price: double}
  profiles:
    kind: changelog
    keys: {user: user_id}
    at: valid_from
    op: {field: op, end: [delete]}
    fields: {user_id: int64, valid_from: timestamp, op: string, tier: int64}
views:
  activity:
    entity: user
    events: clicks
    join: [profiles]
    features:
      n: {count: {}, window: 1h}
      gold: {count: {}, where: \"profiles.tier >= 3\"}
      tier: {latest: profiles.tier}
";

fn first() -> Catalog {
    Catalog::compile(FIRST, None).expect("a good catalog")
}

fn next(yaml: &str) -> Result<Catalog, Vec<String>> {
    Catalog::compile(yaml, Some(&first()))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn numbers_are_kept_and_new_ones_appended() {
    let yaml = FIRST
        .replace("{user: int64, item: string}", "{shop: string, item: string, user: int64}")
        .replace("streams:\n", "streams:\n  visits:\n    kind: event\n    keys: {shop: s}\n    at: t\n    fields: {t: timestamp, s: string}\n")
        .replace("{event_id: string, user_id: int64,", "{colour: string, user_id: int64, event_id: string,");
    let old = first();
    let new = next(&yaml).unwrap();
    assert_eq!((old.version, new.version), (1, 2));
    let kinds: Vec<&str> = new.kinds.iter().map(|k| k.name.as_str()).collect();
    assert_eq!(kinds, ["user", "item", "shop"]);
    assert_eq!(new.kind_named("shop").unwrap().id, KindId(2));
    assert_eq!(new.stream("profiles").unwrap().id, StreamId(1));
    assert_eq!(new.stream("visits").unwrap().id, StreamId(2));
    assert_eq!(new.stream_by_id(StreamId(2)).unwrap().name, "visits");
    let fields: Vec<&str> =
        new.stream("clicks").unwrap().fields.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(fields, ["event_id", "user_id", "ts", "price", "colour"]);
    assert_eq!(new.views, old.views, "the same view over the same numbers");
    // The third version still knows the second's numbers, whatever the order of the file.
    let third = Catalog::compile(&yaml, Some(&new)).unwrap();
    assert_eq!((third.version, third.streams), (3, new.streams));
}

#[test]
fn the_empty_catalog_is_version_zero() {
    let catalog = Catalog::compile(FIRST, Some(&Catalog::empty())).unwrap();
    assert_eq!(catalog, first());
}

/// What to replace, by what, and the error.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "item: string}",
        "itm: string}",
        "1:1: removed: entities: the entity kind `item` of the version in force is missing (help: put it back: stored facts rest on it)",
    ),
    (
        "user: int64, item: string",
        "user: string, item: string",
        "1:18: changed: entities.user: the key of `user` changes from int64 to string (help: keys of stored facts never change; add an entity kind of another name)",
    ),
    (
        "kind: event",
        "kind: changelog",
        "4:11: changed: streams.clicks.kind: `kind` changes from event to changelog (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "keys: {user: user_id}\n    at: ts",
        "keys: {user: user_id, item: event_id}\n    at: ts",
        "5:5: changed: streams.clicks.keys: `keys` changes from {user: user_id} to {user: user_id, item: event_id} (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "keys: {user: user_id}\n    at: ts",
        "keys: {user: user_id, item: event_id}\n    optional_keys: [item]\n    at: ts",
        "5:5: changed: streams.clicks.keys: `keys` changes from {user: user_id} to {user: user_id, item: event_id (optional)} (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "at: ts\n    id: event_id\n    fields: {",
        "at: other\n    id: event_id\n    fields: {other: timestamp, ",
        "6:9: changed: streams.clicks.at: `at` changes from ts to other (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "    id: event_id\n",
        "",
        "3:3: changed: streams.clicks.id: `id` changes from event_id to none (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "    id: event_id\n",
        "    id: event_id\n    seq: user_id\n",
        "8:10: changed: streams.clicks.seq: `seq` changes from none to user_id (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "    id: event_id\n",
        "    id: event_id\n    retracts: event_id\n",
        "8:15: changed: streams.clicks.retracts: `retracts` changes from none to event_id (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "    op: {field: op, end: [delete]}\n",
        "    op: {field: op, end: [delete, drop]}\n",
        "13:9: changed: streams.profiles.op: `op` changes from {field: op, end: [delete]} to {field: op, end: [delete, drop]} (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "    op: {field: op, end: [delete]}\n",
        "",
        "9:3: changed: streams.profiles.op: `op` changes from {field: op, end: [delete]} to none (help: what stored facts were read by never changes; add a stream of another name)",
    ),
    (
        "tier: int64",
        "tier: double",
        "14:71: changed: streams.profiles.fields.tier: the type of `tier` changes from int64 to double (help: add a field of another name)",
    ),
    (
        "ts: timestamp,",
        "ts: timestamp(ms),",
        "8:52: changed: streams.clicks.fields.ts: the type of `ts` changes from timestamp to timestamp(ms) (help: add a field of another name)",
    ),
    (
        ", price: double",
        "",
        "8:13: removed: streams.clicks.fields: the field `price` of the version in force is missing (help: put it back: stored facts rest on it)",
    ),
];

#[test]
fn what_stored_facts_rest_on_is_kept() {
    for (from, to, expected) in REFUSED {
        assert!(FIRST.contains(from), "{from}");
        assert_eq!(next(&FIRST.replacen(from, to, 1)).unwrap_err(), [*expected], "{from} -> {to}");
    }
}

#[test]
fn removing_a_stream_says_so_and_nothing_else() {
    let start = FIRST.find("  profiles:\n").unwrap();
    let end = FIRST.find("views:\n").unwrap();
    let yaml = format!("{}{}", &FIRST[..start], &FIRST[end..]);
    assert_eq!(
        next(&yaml).unwrap_err(),
        [
            "2:1: removed: streams: the stream `profiles` of the version in force is missing (help: put it back: stored facts rest on it)"
        ]
    );
}

#[test]
fn views_features_and_settings_change_freely() {
    let yaml = FIRST
        .replace(
            "    id: event_id\n",
            "    id: event_id\n    repair: 2d\n    out_of_orderness: 5s\n",
        )
        .replace("price: double}", "price: double, colour: string}")
        .replace(
            "n: {count: {}, window: 1h}",
            "n: {count: {}, window: 2h}\n      spend: {sum: price}",
        )
        .replace("\"profiles.tier >= 3\"", "\"(profiles.tier  >=  3)\"")
        .replace("      tier: {latest: profiles.tier}\n", "")
        + "  sums:\n    entity: user\n    events: clicks\n    features: {all: {sum: price}}\n";
    let new = next(&yaml).unwrap();
    let lines = |old: &Catalog, new: &Catalog| -> Vec<String> {
        diff(old, new).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(&first(), &new),
        [
            "~ stream clicks: out_of_orderness: 0s -> 5s",
            "~ stream clicks: repair: 1d -> 2d",
            "+ field clicks.colour: string",
            "~ feature activity.n: {count: {}, window: 1h, hop: 1m} -> {count: {}, window: 2h, hop: 1m}",
            "+ feature activity.spend: {sum: price}",
            "- feature activity.tier",
            "+ view sums: entity user, events clicks; features: all"
        ]
    );
    assert_eq!(lines(&new, &new), [""; 0]);
    // The other way round nothing is refused, because a difference is only shown.
    assert!(lines(&new, &first()).contains(&"- view sums".to_owned()));
    assert!(lines(&Catalog::empty(), &first())[0].starts_with("+ entity user: int64"));
}

#[test]
fn a_difference_has_its_data() {
    let yaml = FIRST.replace("price: double}", "price: double, colour: string}");
    let added = Change::FieldAdded {
        stream: "clicks".to_owned(),
        field: "colour".to_owned(),
        ty: FieldType::String.name().to_owned(),
    };
    assert_eq!(diff(&first(), &next(&yaml).unwrap()), [added]);
    let other_streams = FIRST.replace("    join: [profiles]\n", "").replace(
        "      gold: {count: {}, where: \"profiles.tier >= 3\"}\n      tier: {latest: profiles.tier}\n",
        "",
    );
    let changes = diff(&first(), &next(&other_streams).unwrap());
    assert!(matches!(&changes[0], Change::ViewChanged { view, .. } if view == "activity"));
}

/// `retention` comes, changes and goes; windows fit it, and what may be gone stays known as such.
#[test]
fn retention_comes_and_goes() {
    let windowed = FIRST.replace(
        "      gold: {count: {}, where: \"profiles.tier >= 3\"}\n",
        "      gold: {count: {}, window: 7d, where: \"profiles.tier >= 3\"}\n",
    );
    let with = |yaml: &str, retention: &str| {
        yaml.replace(
            "    id: event_id\n",
            &format!("    id: event_id\n    retention: {retention}\n"),
        )
    };
    let refused = |yaml: String, previous: Option<&Catalog>| {
        let errors = Catalog::compile(&yaml, previous).expect_err("it is refused");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        refused(with(FIRST, "400d"), None),
        [
            "23:13: retention: views.activity.features.gold: it needs every fact of `clicks`, which does not keep all of them (help: give it a `window`, or leave `retention` out before facts are deleted)"
        ]
    );
    assert_eq!(
        refused(with(&windowed, "168h"), None),
        [
            "23:33: retention: views.activity.features.gold.window: with its hop the window reaches back 169h, and `clicks` has a retention of 7d (help: shorten the window or lengthen `retention`)"
        ]
    );

    let first = Catalog::compile(&windowed, None).expect("a good catalog");
    let second = Catalog::compile(&with(&windowed, "30d"), Some(&first)).expect("windows fit");
    let clicks = |catalog: &Catalog| catalog.stream("clicks").cloned().expect("it has clicks");
    assert_eq!(clicks(&first).retention_us, None);
    assert!(!clicks(&first).forgets);
    assert_eq!(clicks(&second).retention_us, Some(30 * 86_400_000_000));
    assert!(clicks(&second).forgets);
    let text = |old: &Catalog, new: &Catalog| {
        diff(old, new).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        text(&first, &second),
        ["~ stream clicks: retention: none -> 30d; facts that are older are deleted for good"]
    );
    let longer = Catalog::compile(&with(&windowed, "60d"), Some(&second)).expect("it may grow");
    assert_eq!(text(&second, &longer), ["~ stream clicks: retention: 30d -> 60d"]);

    // What is gone is gone: without the retention there are still no features over every fact.
    let off = Catalog::compile(&windowed, Some(&longer)).expect("it may go");
    assert!(clicks(&off).forgets);
    assert_eq!(clicks(&off).retention_us, None);
    assert_eq!(refused(FIRST.to_owned(), Some(&off)).len(), 1);
}
