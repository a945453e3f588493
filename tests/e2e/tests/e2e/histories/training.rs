//! Training sets of a history against the oracle: as known latest, at an instant, and at each row.

use std::path::Path;

use millrace_catalog::View;
use millrace_e2e_tests::Cli;
use millrace_test_support::Oracle;
use millrace_test_support::generate::Read;
use millrace_types::{KeyPart, KnownAt};
use serde_json::{Map, Value as Json};

use crate::answer::is_feature_value;

/// As of when facts are known in a set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known {
    Latest,
    /// For each row at its own instant.
    AtEvent,
    At(KnownAt),
}

impl Known {
    /// As the command line takes it.
    fn text(self) -> String {
        match self {
            Self::Latest => "latest".to_owned(),
            Self::AtEvent => "at-event".to_owned(),
            Self::At(known_at) => known_at.0.to_string(),
        }
    }

    /// As of when the facts of a row are known.
    fn of(self, read: &Read) -> KnownAt {
        match self {
            Self::Latest => KnownAt::MAX,
            Self::AtEvent => KnownAt(read.at.0),
            Self::At(known_at) => known_at,
        }
    }
}

/// Reads these rows of a view as one training set.
pub(crate) fn compare(
    cli: &Cli,
    oracle: &Oracle,
    view: &View,
    (reads, known): (&[Read], Known),
    folder: &Path,
) -> Result<(), String> {
    let catalog = oracle.catalog();
    let kind = catalog.kind(view.entity).ok_or("a view without a kind")?;
    let stream = catalog.stream_by_id(view.events).ok_or("a view without events")?;
    let key = stream.key_for(view.entity).ok_or("events without a key")?;
    let names: Vec<String> = match key.fields.as_slice() {
        [_] => vec![kind.name.clone()],
        several => several.iter().map(|field| stream.fields[*field].name.clone()).collect(),
    };
    let mut spine = String::new();
    for read in reads {
        let mut row = Map::new();
        for (name, part) in names.iter().zip(read.entity.key.parts()) {
            let value = match part {
                KeyPart::Int64(number) => Json::from(number),
                KeyPart::String(text) => Json::from(text),
            };
            row.insert(name.clone(), value);
        }
        row.insert("at".to_owned(), Json::from(read.at.0));
        spine.push_str(&Json::Object(row).to_string());
        spine.push('\n');
    }
    let (path, out) = (folder.join("spine.ndjson"), folder.join("set.ndjson"));
    std::fs::write(&path, spine).map_err(|e| e.to_string())?;
    let (path, file) = (path.display().to_string(), out.display().to_string());
    let known_at = known.text();
    let args = ["training", &view.name, "--spine", &path, "--known-at", &known_at, "--out", &file];
    let told = cli.json(args).map_err(|e| format!("a set of {}, {known:?}: {e}", view.name))?;
    let text = std::fs::read_to_string(&out).map_err(|e| e.to_string())?;
    if told["rows"] != reads.len() || text.lines().count() != reads.len() {
        return Err(format!("{told} for {} rows of {}, {known:?}", reads.len(), view.name));
    }
    for (line, read) in text.lines().zip(reads) {
        let row: Json = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
        let expected = oracle.read(&view.name, &read.entity, read.at, known.of(read));
        for (feature, (value, _)) in view.features.iter().zip(&expected) {
            let answer = &row[&feature.name];
            if !is_feature_value(answer, value) {
                let name = &feature.name;
                return Err(format!(
                    "{name:?} of a training row by {read:?}, {known:?}, is {answer}, not {value:?}"
                ));
            }
        }
    }
    Ok(())
}
