//! What the oracle answers for sampled entities and instants of a data set.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use millrace_catalog::{Catalog, Stream, View};
use millrace_e2e_tests::{Cli, DataSet, Table};
use millrace_test_support::{Oracle, RawRecord, Wheres, ingest};
use millrace_types::{
    Entity, EntityKey, FeatureValue, FieldType, KeyPart, KeyType, KnownAt, Micros, Sequence,
    Status, Value,
};

use super::answer::is_same;

/// Entities of each view: the most frequent ones and as many evenly spread over the others.
const HOTTEST: usize = 6;
const SPREAD: usize = 30;

/// Instants of each view, evenly spread over its events; each is read at, and just after.
const INSTANTS: usize = 6;

/// The sampled reads of a data set with the oracle's answers.
pub(crate) struct Expected {
    views: Vec<ViewReads>,
    rows: u64,
}

struct ViewReads {
    view: String,
    features: Vec<String>,
    keys: Vec<String>,
    /// At each instant, for each key, each feature's answer.
    answers: Vec<(Micros, Vec<Vec<(FeatureValue, Status)>>)>,
}

impl Expected {
    /// Feeds the whole data set to the oracle and asks it.
    pub(crate) fn compute(catalog: &Path, data: &DataSet, streams: &[(&str, &str)]) -> Self {
        let text = fs::read_to_string(catalog).expect("the example catalog");
        let catalog = Catalog::compile(&text, None).expect("the example catalog is in order");
        let wheres = Wheres::of_yaml(&text).expect("the example catalog is YAML");
        let tables: BTreeMap<&str, Table> = streams
            .iter()
            .map(|(stream, file)| (*stream, data.table(file).expect("a table")))
            .collect();
        let samples: Vec<Sample> =
            catalog.views.iter().map(|view| Sample::of(&catalog, view, &tables)).collect();
        let wanted: HashSet<&Entity> = samples.iter().flat_map(|s| &s.entities).collect();

        let mut oracle = Oracle::new(&catalog, &wheres).expect("conditions");
        let mut rows = 0;
        for (name, table) in &tables {
            let stream = catalog.stream(name).expect("a stream of the catalog");
            let reader = RecordReader::new(stream, table);
            for index in 0..table.rows.len() {
                rows += 1;
                let facts = ingest::facts(&catalog, &reader.record(index), None);
                for fact in facts.expect("every row of the data sets is good") {
                    if wanted.contains(&fact.entity) {
                        oracle.insert(KnownAt(0), fact);
                    }
                }
            }
        }
        let views = samples.iter().map(|sample| sample.reads(&oracle)).collect();
        Self { views, rows }
    }

    /// How many rows there are in all files.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many features are compared.
    pub(crate) fn reads(&self) -> usize {
        let of = |view: &ViewReads| view.keys.len() * view.answers.len() * view.features.len();
        self.views.iter().map(of).sum()
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
                        if !is_same(answer, value, *status) {
                            differences.push(format!(
                                "{} of {key} in {} at {at}: {answer} instead of {} {value:?}",
                                name,
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
    keys: Vec<String>,
    entities: Vec<Entity>,
    instants: Vec<Micros>,
}

impl<'a> Sample<'a> {
    fn of(catalog: &Catalog, view: &'a View, tables: &BTreeMap<&str, Table>) -> Self {
        let stream = catalog.stream_by_id(view.events).expect("a checked catalog");
        let table = &tables[stream.name.as_str()];
        let mapping = stream.key_for(view.entity).expect("a checked catalog");
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for key in table.column(&stream.fields[mapping.fields[0]].name) {
            *counts.entry(key).or_default() += 1;
        }
        counts.remove("");
        let mut hottest: Vec<_> = counts.iter().map(|(key, count)| (count, *key)).collect();
        hottest.sort_unstable();
        let hottest = hottest.iter().rev().take(HOTTEST).map(|(_, key)| *key);
        let step = (counts.len() / SPREAD).max(1);
        let spread = counts.keys().copied().step_by(step);
        // Some are both; nobody minds reading them twice.
        let keys: Vec<String> = hottest.chain(spread).map(str::to_owned).collect();
        let key_type = catalog.kind(view.entity).expect("a checked catalog").parts[0];
        let entity = |key: &String| Entity { kind: view.entity, key: plain_key(key, key_type) };
        let entities = keys.iter().map(entity).collect();

        let at = &stream.fields[stream.at].name;
        let mut times: Vec<Micros> =
            table.column(at).map(|text| Micros::parse_rfc3339(text).expect("an instant")).collect();
        times.sort_unstable();
        let last = times.len() - 1;
        let instants = (1..=INSTANTS)
            .map(|n| times[last * n / INSTANTS])
            .flat_map(|at| [at, at.plus(1)])
            .collect();
        Self { view, keys, entities, instants }
    }

    fn reads(&self, oracle: &Oracle) -> ViewReads {
        let mut answers: Vec<(Micros, Vec<_>)> =
            self.instants.iter().map(|at| (*at, Vec::new())).collect();
        for entity in &self.entities {
            let known = oracle.as_known(&self.view.name, entity, KnownAt::MAX);
            for (at, answers) in &mut answers {
                answers.push(known.read(*at));
            }
        }
        ViewReads {
            view: self.view.name.clone(),
            features: self.view.features.iter().map(|feature| feature.name.clone()).collect(),
            keys: self.keys.clone(),
            answers,
        }
    }
}

fn plain_key(key: &str, key_type: KeyType) -> EntityKey {
    let part = match key_type {
        KeyType::Int64 => KeyPart::Int64(key.parse().expect("an integer key")),
        KeyType::String => KeyPart::String(key),
    };
    EntityKey::try_new(&[part]).expect("a key of the data set")
}

/// Rows of a table as records, each cell of its field's type; an empty cell is NULL.
struct RecordReader<'a> {
    stream: &'a Stream,
    name: Arc<str>,
    names: Arc<[String]>,
    columns: Vec<usize>,
    table: &'a Table,
}

impl<'a> RecordReader<'a> {
    fn new(stream: &'a Stream, table: &'a Table) -> Self {
        let column = |name: &String| {
            let found = table.header.iter().position(|column| column == name);
            found.unwrap_or_else(|| panic!("no column {name}"))
        };
        let names: Arc<[String]> = stream.fields.iter().map(|field| field.name.clone()).collect();
        let columns = names.iter().map(column).collect();
        Self { stream, name: stream.name.as_str().into(), names, columns, table }
    }

    fn record(&self, index: usize) -> RawRecord {
        let row = &self.table.rows[index];
        let values = self
            .stream
            .fields
            .iter()
            .zip(&self.columns)
            .map(|(field, column)| value(&row[*column], field.ty))
            .collect();
        RawRecord {
            stream: Arc::clone(&self.name),
            producer: Arc::clone(&self.name),
            sequence: Sequence(index as u64),
            names: Arc::clone(&self.names),
            values,
        }
    }
}

fn value(cell: &str, ty: FieldType) -> Value {
    if cell.is_empty() {
        return Value::Null;
    }
    match ty {
        FieldType::Bool => Value::Bool(cell == "true"),
        FieldType::Int64 => Value::Int64(cell.parse().expect("an integer")),
        FieldType::Double => Value::Double(cell.parse().expect("a number")),
        FieldType::String => Value::String(cell.into()),
        FieldType::Bytes => unreachable!("no field of the data sets holds bytes"),
        FieldType::Timestamp => Value::Timestamp(Micros::parse_rfc3339(cell).expect("an instant")),
    }
}
