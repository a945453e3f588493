//! What the oracle answers for sampled entities and instants of a data set.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use millrace_catalog::{Catalog, View};
use millrace_e2e_tests::Cli;
use millrace_test_support::real_data::{DataSet, Loaded};
use millrace_test_support::{Oracle, ingest};
use millrace_types::{Entity, EntityKey, FeatureValue, KeyPart, KnownAt, Micros, Status, Value};

use crate::answer::{is_feature, is_feature_value};

/// Entities of each view: the most frequent ones, and some evenly spread over all.
const HOTTEST: usize = 6;
const SPREAD: usize = 30;

/// Instants of each view, evenly spread over its events; each is read at, and just after.
const INSTANTS: usize = 6;

/// The sampled reads of a data set with the oracle's answers.
pub(crate) struct Expected {
    views: Vec<ViewReads>,
    rows: u64,
    /// By stream, the column of its instants.
    at_columns: Vec<(String, String)>,
}

struct ViewReads {
    view: String,
    /// The kind of its entities.
    kind: String,
    features: Vec<String>,
    keys: Vec<String>,
    /// At each instant, for each key, its answer.
    answers: Vec<(Micros, Vec<Answer>)>,
    /// The same as known at each instant, where every fact was known when it happened.
    in_time: Vec<(Micros, Vec<Answer>)>,
}

/// The value and status of each feature.
type Answer = Vec<(FeatureValue, Status)>;

impl Expected {
    /// Feeds the whole data set to the oracle and asks it.
    pub(crate) fn compute(data: &DataSet, folder: &Path) -> Self {
        let loaded = data.load(folder).expect("the data set");
        assert_eq!(loaded.bad_rows, [], "every row is good");
        let catalog = &loaded.catalog;
        let samples: Vec<Sample<'_>> =
            catalog.views.iter().map(|view| Sample::of(&loaded, view)).collect();
        let wanted: HashSet<&Entity> = samples.iter().flat_map(|s| &s.entities).collect();

        let mut oracle = Oracle::new(catalog, &loaded.wheres).expect("conditions");
        let mut imported = oracle.clone();
        let mut rows = 0;
        for record in loaded.streams.iter().flatten() {
            rows += 1;
            for fact in ingest::facts(catalog, record, None).expect("every row is good") {
                if wanted.contains(&fact.entity) {
                    imported.insert(KnownAt(fact.body.at.0), fact.clone());
                    oracle.insert(KnownAt(0), fact);
                }
            }
        }
        let views = samples.iter().map(|sample| sample.reads(&oracle, &imported)).collect();
        let at_columns = catalog.streams.iter().map(|stream| {
            let at = stream.fields[stream.at].name.clone();
            (stream.name.clone(), at)
        });
        Self { views, rows, at_columns: at_columns.collect() }
    }

    /// The column of a stream's instants.
    pub(crate) fn at_column(&self, stream: &str) -> &str {
        let found = self.at_columns.iter().find(|(name, _)| name == stream);
        &found.expect("a stream of the catalog").1
    }

    /// How many rows there are in all files.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many features are compared.
    pub(crate) fn features(&self) -> usize {
        let of = |view: &ViewReads| view.keys.len() * view.answers.len() * view.features.len();
        self.views.iter().map(of).sum()
    }

    /// Reads everything as training sets, known at this moment, and describes each feature that differs.
    /// The spine of each view names its rows in an order of its own.
    pub(crate) fn training_differences(
        &self,
        cli: &Cli,
        folder: &Path,
        known_at: &str,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        for reads in &self.views {
            let answers = if known_at == "at-event" { &reads.in_time } else { &reads.answers };
            let mut rows: Vec<(usize, usize)> = (0..reads.keys.len())
                .flat_map(|key| (0..answers.len()).map(move |at| (key, at)))
                .collect();
            rows.sort_unstable_by_key(|(key, at)| (key * 7 + at * 13) % 31);
            let mut spine = format!("{},at,row\n", reads.kind);
            for (number, (key, at)) in rows.iter().enumerate() {
                let at = answers[*at].0.0;
                spine.push_str(&format!("\"{}\",{at},{number}\n", reads.keys[*key]));
            }
            let path = folder.join(format!("{}.spine.csv", reads.view));
            let out = folder.join(format!("{}.set.ndjson", reads.view));
            std::fs::write(&path, spine).expect("a file can be written");
            let spine = path.display().to_string();
            let file = out.display().to_string();
            let args = ["training", &reads.view, "--spine", &spine, "--known-at", known_at];
            let told = cli.json(args.into_iter().chain(["--out", file.as_str()]));
            assert_eq!(told.expect("a training set")["rows"], rows.len());
            let text = std::fs::read_to_string(&out).expect("the set");
            for (number, (line, (key, at))) in text.lines().zip(&rows).enumerate() {
                let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(row["row"], number.to_string(), "rows keep their order");
                let (at, expected) = &answers[*at];
                for (name, (value, _)) in reads.features.iter().zip(&expected[*key]) {
                    if !is_feature_value(&row[name], value) {
                        differences.push(format!(
                            "{}.{name} of {} at {at}: {} instead of {value:?}",
                            reads.view, reads.keys[*key], row[name],
                        ));
                    }
                }
            }
            assert_eq!(text.lines().count(), rows.len());
        }
        differences
    }

    /// Reads everything through the command line and describes each feature that differs.
    pub(crate) fn differences(&self, cli: &Cli) -> Vec<String> {
        let mut differences = Vec::new();
        for reads in &self.views {
            for (at, answers) in &reads.answers {
                let instant = at.0.to_string();
                let args = [reads.view.as_str(), "--at", instant.as_str()];
                let args = args.into_iter().chain(reads.keys.iter().map(String::as_str));
                let rows = cli.get(args).expect("read");
                assert_eq!(rows.len(), reads.keys.len(), "a row for each key");
                for ((key, expected), row) in reads.keys.iter().zip(answers).zip(&rows) {
                    for (name, (value, status)) in reads.features.iter().zip(expected) {
                        let answer = &row["features"][name];
                        if !is_feature(answer, value, *status) {
                            differences.push(format!(
                                "{}.{name} of {key} at {at}: {answer} instead of {} {value:?}",
                                reads.view,
                                status.name()
                            ));
                        }
                    }
                }
            }
        }
        differences
    }
}

/// The entities and instants of a view.
struct Sample<'a> {
    view: &'a View,
    kind: String,
    keys: Vec<String>,
    entities: Vec<Entity>,
    instants: Vec<Micros>,
}

impl<'a> Sample<'a> {
    fn of(loaded: &'a Loaded, view: &'a View) -> Self {
        let catalog: &Catalog = &loaded.catalog;
        let stream = catalog.stream_by_id(view.events).expect("a checked catalog");
        let key = stream.key_for(view.entity).expect("a checked catalog").fields[0];
        let events = loaded.streams.iter().flatten().filter(|r| *r.stream == *stream.name);

        let mut counts: BTreeMap<String, (usize, EntityKey)> = BTreeMap::new();
        let mut times = Vec::new();
        for record in events {
            if let Value::Timestamp(at) = &record.values[stream.at] {
                times.push(*at);
            }
            if let Some((text, key)) = plain_key(&record.values[key]) {
                counts.entry(text).or_insert((0, key)).0 += 1;
            }
        }
        let mut by_count: Vec<_> = counts.iter().map(|(text, (n, _))| (*n, text)).collect();
        by_count.sort_unstable();
        let hottest = by_count.iter().rev().take(HOTTEST).map(|(_, text)| *text);
        let spread = counts.keys().step_by((counts.len() / SPREAD).max(1));
        // Some are both; nobody minds reading them twice.
        let keys: Vec<String> = hottest.chain(spread).cloned().collect();
        let entity = |text: &String| Entity { kind: view.entity, key: counts[text].1.clone() };
        let entities = keys.iter().map(entity).collect();

        times.sort_unstable();
        let last = times.len() - 1;
        let instants = (1..=INSTANTS)
            .map(|n| times[last * n / INSTANTS])
            .flat_map(|at| [at, at.plus(1)])
            .collect();
        let kind = catalog.kind(view.entity).expect("a checked catalog").name.clone();
        Self { view, kind, keys, entities, instants }
    }

    fn reads(&self, oracle: &Oracle, imported: &Oracle) -> ViewReads {
        let mut answers: Vec<(Micros, Vec<Answer>)> =
            self.instants.iter().map(|at| (*at, Vec::new())).collect();
        let mut in_time = answers.clone();
        for entity in &self.entities {
            let known = oracle.as_known(&self.view.name, entity, KnownAt::MAX);
            for (at, answers) in &mut answers {
                answers.push(known.read(*at));
            }
            for (at, answers) in &mut in_time {
                answers.push(imported.read(&self.view.name, entity, *at, KnownAt(at.0)));
            }
        }
        ViewReads {
            view: self.view.name.clone(),
            kind: self.kind.clone(),
            features: self.view.features.iter().map(|feature| feature.name.clone()).collect(),
            keys: self.keys.clone(),
            answers,
            in_time,
        }
    }
}

/// The key as the command line takes it, and as the oracle does; `None` where there is none.
fn plain_key(value: &Value) -> Option<(String, EntityKey)> {
    let (text, part) = match value {
        Value::Int64(number) => (number.to_string(), KeyPart::Int64(*number)),
        Value::String(text) => (text.to_string(), KeyPart::String(text)),
        Value::Null | Value::Bool(_) | Value::Double(_) | Value::Bytes(_) | Value::Timestamp(_) => {
            return None;
        }
    };
    Some((text, EntityKey::try_new(&[part]).ok()?))
}
