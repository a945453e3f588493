//! Values of arguments that need more than a number or a text.

use std::str::FromStr;
use std::time::Duration;

use millrace_types::Micros;
use thiserror::Error;

use crate::files::Input;

/// Greatest length of a producer id, in bytes.
const PRODUCER_BYTES_MAX: usize = 256;

/// An instant of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadInstant {
    /// The service's clock.
    Now,
    /// The greatest event time seen.
    Latest,
    /// A fixed instant.
    At(Micros),
}

/// Not an instant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "an instant is RFC 3339 with an offset or Z such as 2026-03-01T12:00:00Z, integer \
     microseconds since 1970, now, or latest"
)]
pub struct InstantError;

impl FromStr for ReadInstant {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "now" => Ok(Self::Now),
            "latest" => Ok(Self::Latest),
            _ => fixed(text).map(Self::At).ok_or(InstantError),
        }
    }
}

fn fixed(text: &str) -> Option<Micros> {
    text.parse().map(Micros).or_else(|_| Micros::parse_rfc3339(text)).ok()
}

/// A fixed instant.
///
/// # Errors
/// What an instant looks like.
pub(super) fn instant(text: &str) -> Result<Micros, String> {
    fixed(text).ok_or_else(|| {
        "an instant is RFC 3339 with an offset or Z such as 2026-03-01T12:00:00Z, or integer \
         microseconds since 1970"
            .to_owned()
    })
}

/// What counts as known for a training set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingKnownAt {
    /// For each row, what was known by its instant.
    AtEvent,
    /// Everything confirmed.
    Latest,
    /// What was known at an instant.
    At(Micros),
}

/// Nothing that may count as known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "at-event uses for each row what was known by its instant, latest everything; or an instant: \
     RFC 3339 with an offset or Z, or integer microseconds since 1970"
)]
pub struct KnownAtError;

impl FromStr for TrainingKnownAt {
    type Err = KnownAtError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "at-event" => Ok(Self::AtEvent),
            "latest" => Ok(Self::Latest),
            _ => fixed(text).map(Self::At).ok_or(KnownAtError),
        }
    }
}

/// Where a `tail` begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailFrom {
    /// The beginning of the log.
    Start,
    /// What is confirmed now.
    Now,
    /// After the record with this cursor.
    Cursor(String),
}

impl FromStr for TailFrom {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "start" => Self::Start,
            "now" => Self::Now,
            cursor => Self::Cursor(cursor.to_owned()),
        })
    }
}

/// A file of facts of a stream, written `STREAM=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The stream.
    pub stream: String,
    /// Its file.
    pub input: Input,
}

/// Not `STREAM=FILE`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("name the stream and the file as STREAM=FILE, such as clicks=clicks.csv.gz")]
pub struct SourceError;

impl Source {
    /// Reads `STREAM=FILE`; `-` as the file is standard input.
    ///
    /// # Errors
    /// [`SourceError`] when one of the two is missing.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        match text.split_once('=') {
            Some((stream, file)) if !stream.is_empty() && !file.is_empty() => {
                Ok(Self { stream: stream.to_owned(), input: Input::from_argument(file) })
            }
            _ => Err(SourceError),
        }
    }
}

/// The field of a stream that says since when its rows were known, written `STREAM=FIELD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAtField {
    /// The stream.
    pub stream: String,
    /// The field.
    pub field: String,
}

/// Not `STREAM=FIELD`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("name the stream and the field as STREAM=FIELD, such as clicks=received_at")]
pub struct KnownAtFieldError;

impl KnownAtField {
    /// Reads `STREAM=FIELD`.
    ///
    /// # Errors
    /// [`KnownAtFieldError`] when one of the two is missing.
    pub fn parse(text: &str) -> Result<Self, KnownAtFieldError> {
        match text.split_once('=') {
            Some((stream, field)) if !stream.is_empty() && !field.is_empty() => {
                Ok(Self { stream: stream.to_owned(), field: field.to_owned() })
            }
            _ => Err(KnownAtFieldError),
        }
    }
}

/// Reads a time limit: a number with `ms`, `s`, `m` or `h`; without a unit seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("the unit is one of ms, s, m and h, as in 500ms or 60s".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "give a time such as 500ms or 60s".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("the time must be longer than 0 and not endless".to_owned()),
    }
}

/// Reads a number of slots.
pub(super) fn slots(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(n) if n.is_power_of_two() && n <= 65_536 => Ok(n),
        _ => Err("the number of slots is a power of two, at most 65536".to_owned()),
    }
}

/// Reads a producer id.
pub(super) fn producer(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a producer id is not empty".to_owned()),
        n if n > PRODUCER_BYTES_MAX => {
            Err(format!("a producer id has at most {PRODUCER_BYTES_MAX} bytes; this one has {n}"))
        }
        _ => Ok(text.to_owned()),
    }
}
