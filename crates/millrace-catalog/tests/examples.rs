//! The catalogs under `examples/` compile, and are what their comments say.

use millrace_catalog::{Catalog, Source, StreamKind, Window};

fn example(name: &str) -> Catalog {
    let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let yaml = std::fs::read_to_string(&path).expect("an example");
    Catalog::compile(&yaml, None).unwrap_or_else(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{path}:\n{}", errors.join("\n"))
    })
}

#[test]
fn clickprofile_is_the_standard_workload() {
    let catalog = example("clickprofile.yaml");
    assert_eq!(catalog.version, 1);
    let view = catalog.view("user_activity").unwrap();
    assert_eq!(view.features.len(), 10);
    let joined: Vec<&str> =
        view.features.iter().filter(|f| f.reads_join(0)).map(|f| f.name.as_str()).collect();
    assert_eq!(joined, ["gold_clicks_24h", "country", "tier", "age"]);
    let hour = view.feature("clicks_1h").unwrap();
    assert_eq!(hour.window, Window::Sliding { width_us: 3_600_000_000, hop_us: 60_000_000 });
}

#[test]
fn vcpkg_ports_compiles() {
    let catalog = example("vcpkg-ports.yaml");
    assert_eq!(catalog.streams[1].kind, StreamKind::Changelog);
    assert_eq!(catalog.streams[0].keys.len(), 2);
    assert_eq!(catalog.views.len(), 3);
}

#[test]
fn online_retail_compiles() {
    let catalog = example("online-retail.yaml");
    let lines = catalog.stream("lines").unwrap();
    assert!(!lines.keys[0].optional && lines.keys[1].optional);
    assert_eq!(lines.retracts, lines.field("cancels_line_id"));
    let spending = catalog.view("customer_spending").unwrap();
    let moved = spending.feature("moved_lines").unwrap().filter.as_ref().unwrap();
    let reads: Vec<Source> = moved.reads().iter().map(|f| f.source).collect();
    assert_eq!(reads, [Source::Event, Source::Join(0)]);
}

#[test]
fn the_catalog_of_the_design_compiles() {
    let yaml = r#"
entities: {user: int64, item: string}
streams:
  clicks:
    kind: event
    keys: {user: user_id, item: item_id}    # routed once per entity; the first is the primary one
    at: ts                                  # the field that is the event time
    id: event_id
    out_of_orderness: 5s
    repair: 24h
    fields: {event_id: string, user_id: int64, item_id: string, ts: timestamp, dwell_ms: int64, price: double, category: string}
  profiles:
    kind: changelog
    keys: {user: user_id}
    at: valid_from
    op: {field: op, end: [delete]}
    fields: {user_id: int64, valid_from: timestamp, op: string, country: string, tier: int64}
views:
  user_activity:
    entity: user
    events: clicks
    join: [profiles]
    features:
      clicks_1h:      {count: {}, window: 1h}
      dwell_24h:      {sum: dwell_ms, window: 24h}
      gold_clicks_7d: {count: {}, window: 7d, where: "profiles.tier >= 3"}
      spend_30d:      {sum: price, window: 30d, where: "clicks.category != 'gift'"}
      country:        {latest: profiles.country}
      last_items:     {last_n: item_id, n: 5, window: 7d}
"#;
    let catalog = Catalog::compile(yaml, None).expect("a good catalog");
    assert_eq!(catalog.views[0].features.len(), 6);
    assert_eq!(&*catalog.source, yaml);
}
