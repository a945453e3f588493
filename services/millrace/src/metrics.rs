//! Every metric that a process of Millrace may tell, by the part that counts it.

use millrace_telemetry::Metric;
use millrace_telemetry::metrics::BUILD_INFO;

/// A part, by the heading under which the operator's page lists its metrics, and those metrics.
pub type Part = (&'static str, &'static [Metric]);

/// Every part.
pub const PARTS: [Part; 7] = [
    ("Every process", &[BUILD_INFO]),
    ("Servers", &millrace_grpc::metrics::ALL),
    ("ingest", &millrace_ingest::metrics::ALL),
    ("Redis", &millrace_store_redis::metrics::ALL),
    ("join", &millrace_join::metrics::ALL),
    ("store-writer", &millrace_store_writer::metrics::ALL),
    ("feature-serving", &millrace_feature_serving::metrics::ALL),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use millrace_telemetry::metrics::Kind;

    use super::*;

    /// Prometheus' own rules, as `promtool check metrics` holds them.
    #[test]
    fn names_and_labels_keep_the_rules() {
        let mut names = BTreeSet::new();
        for metric in PARTS.iter().flat_map(|(_, metrics)| *metrics) {
            let name = metric.name;
            assert!(names.insert(name), "{name} is described twice");
            assert!(name.starts_with("millrace_"), "{name}");
            let word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            assert!(word(name), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            for unit in ["_ms", "_us", "_milliseconds", "_minutes", "_kib", "_mib"] {
                assert!(!name.contains(unit), "{name} is not in base units");
            }
            assert!(metric.labels.iter().all(|label| word(label)), "{name}");
            assert!(!metric.help.is_empty() && !metric.help.contains('|'), "{name}");
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted() && bounds.len() < 20, "{name}");
                assert!(!metric.labels.contains(&"le"), "{name}");
            }
        }
    }
}
