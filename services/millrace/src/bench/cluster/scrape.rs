//! What a service tells on its admin port.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::BenchError;

/// No answer takes longer, and none is larger.
const WITHIN: Duration = Duration::from_secs(20);
const BYTES_MAX: u64 = 4 << 20;

/// The metrics of a process at one moment, in Prometheus' text format.
pub(super) struct Scrape(String);

impl Scrape {
    /// Scrapes an admin port, `HOST:PORT`.
    pub(super) async fn of(address: &str) -> Result<Self, BenchError> {
        let exchange = async {
            let mut stream = TcpStream::connect(address).await?;
            let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            // One request a connection: the server closes it.
            stream.take(BYTES_MAX).read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(WITHIN, exchange).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        let answer = answer.map_err(|source| BenchError::Usage {
            what: format!("the metrics at {address}"),
            source,
        })?;
        Ok(Self(answer))
    }

    /// The sum of the series of a name, of those with this label if one is stated; 0 without any.
    pub(super) fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let label = label.map(|(name, value)| format!("{name}=\"{value}\""));
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}');
            let has = label.as_ref().is_none_or(|label| labels.split(',').any(|one| one == label));
            (found == name && has).then(|| value.parse::<f64>().ok()).flatten()
        };
        self.0.lines().filter_map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_label() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP a_total A.\na_total{x=\"1\",y=\"z\"} 4\n\
                    a_total{x=\"2\",y=\"z\"} 5\nb_total 1.5\nb_total_more 7\n";
        let scrape = Scrape(text.to_owned());
        assert_eq!(scrape.sum("a_total", None), 9.0);
        assert_eq!(scrape.sum("a_total", Some(("x", "2"))), 5.0);
        assert_eq!(scrape.sum("b_total", None), 1.5);
        assert_eq!(scrape.sum("a", None), 0.0);
        assert_eq!(scrape.sum("b_total", Some(("x", "2"))), 0.0);
    }
}
