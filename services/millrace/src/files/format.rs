//! The format of a file, from its name or from `--format`.

use std::fmt;
use std::path::Path;

/// A format that rows are read from. Gzip is not one: it is recognised by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Format {
    /// RFC 4180 with a header row
    Csv,
    /// One JSON object a line
    #[value(alias = "jsonl")]
    Ndjson,
    /// Apache Parquet
    Parquet,
}

impl Format {
    /// The name used by `--format` and in default producer ids, which must never change.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }

    /// The format that a file's name states, a trailing `.gz` put aside.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_state_formats() {
        let of = |name: &str| Format::of_name(Path::new(name));
        assert_eq!(of("a/clicks.csv"), Some(Format::Csv));
        assert_eq!(of("clicks.CSV.gz"), Some(Format::Csv));
        assert_eq!(of("clicks.jsonl.gz"), Some(Format::Ndjson));
        assert_eq!(of("clicks.ndjson"), Some(Format::Ndjson));
        assert_eq!(of("clicks.parquet"), Some(Format::Parquet));
        assert_eq!(of("clicks"), None);
        assert_eq!(of("clicks.txt"), None);
        assert_eq!(of("csv.gz"), None);
    }
}
