//! A `matches` pattern, compiled once.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::limits::PATTERN_BYTES_MAX;

/// A compiled pattern; equal to another of the same text. A match anywhere in a string counts, as
/// in CEL.
#[derive(Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles `text`; the error says what is wrong in one line.
    pub(super) fn try_new(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .nest_limit(32)
            .build();
        match built {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(limit)) => {
                Err(format!("it takes more than {limit} bytes when compiled"))
            }
            Err(error) => {
                // The last line of the crate's drawing is the sentence.
                let text = error.to_string();
                let line = text.lines().last().unwrap_or_default();
                Err(line.trim_start_matches("error: ").to_owned())
            }
        }
    }

    #[inline]
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}
