//! What an admin port answers, read as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::HarnessError;

/// No answer takes longer.
const WITHIN: Duration = Duration::from_secs(20);

/// The metrics of a process at one moment.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// The type of each metric.
    pub types: BTreeMap<String, String>,
    /// Every series with its labels and value.
    pub series: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Asks for a path over HTTP/1 and gives status and body.
///
/// # Errors
///
/// [`HarnessError::Process`] when nobody answers, [`HarnessError::Answer`] for what is no HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), HarnessError> {
    let program = || format!("GET http://{address}{path}");
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
        stream.set_read_timeout(Some(WITHIN))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|cause| HarnessError::Process { program: program(), cause })?;
    let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    parts.ok_or_else(|| HarnessError::Answer {
        what: program(),
        problem: "no HTTP".to_owned(),
        output: answer,
    })
}

impl Scrape {
    /// Scrapes an admin port.
    ///
    /// # Errors
    ///
    /// As [`http_get`], and [`HarnessError::Answer`] for what is not in the text format.
    pub fn of(address: SocketAddr) -> Result<Self, HarnessError> {
        let (status, text) = http_get(address, "/metrics")?;
        let wrong = |problem: String| HarnessError::Answer {
            what: format!("the metrics of {address}"),
            problem,
            output: text.clone(),
        };
        if status != 200 {
            return Err(wrong(format!("status {status}")));
        }
        Self::parse(&text).map_err(|line| wrong(format!("not in the text format: {line}")))
    }

    /// Reads the text format; gives the line that is not of it.
    fn parse(text: &str) -> Result<Self, String> {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or(line)?;
                scrape.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').ok_or(line)?;
                let value = value.parse().map_err(|_| line.to_owned())?;
                let (name, labels) = match series.split_once('{') {
                    None => (series, BTreeMap::new()),
                    Some((name, labels)) => {
                        let labels = labels.strip_suffix('}').ok_or(line)?;
                        (name, parse_labels(labels).ok_or(line)?)
                    }
                };
                scrape.series.push((name.to_owned(), labels, value));
            }
        }
        Ok(scrape)
    }

    /// The sum of the series of a name that have these labels; 0 without any.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).sum()
    }

    /// The value of the one series of a name with these labels.
    ///
    /// # Panics
    ///
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let values: Vec<f64> = self.matching(name, labels).collect();
        assert_eq!(values.len(), 1, "series of {name} with {labels:?}");
        values[0]
    }

    /// The values a label of a metric has.
    #[must_use]
    pub fn values(&self, name: &str, label: &str) -> BTreeSet<String> {
        let of = |(found, labels, _): &(String, BTreeMap<String, String>, f64)| {
            (found == name).then(|| labels.get(label).cloned()).flatten()
        };
        self.series.iter().filter_map(of).collect()
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = f64> + 'a {
        let has = move |found: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| found.get(*name).is_some_and(|v| v == value))
        };
        let of = move |(found, with, _): &&(String, BTreeMap<String, String>, f64)| {
            found == name && has(with)
        };
        self.series.iter().filter(of).map(|(_, _, value)| *value)
    }
}

/// `a="x",b="y"`; values of these tests have no quotes or commas in them.
fn parse_labels(text: &str) -> Option<BTreeMap<String, String>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((name.to_owned(), value.to_owned()))
    };
    text.split(',').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\",y=\"z\"} 4\n\
                    a_total{x=\"2\",y=\"z\"} 5\nb 1.5e-3\n";
        let scrape = Scrape::parse(text).expect("it is of the format");
        assert_eq!(scrape.types["a_total"], "counter");
        assert_eq!(scrape.sum("a_total", &[("y", "z")]), 9.0);
        assert_eq!(scrape.one("a_total", &[("x", "2")]), 5.0);
        assert_eq!(scrape.one("b", &[]), 0.0015);
        assert_eq!(scrape.values("a_total", "x").len(), 2);
        assert!(Scrape::parse("a{x=1} 2").is_err());
    }
}
