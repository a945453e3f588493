//! A share of a whole.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A share, from none to the whole, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Share(u32);

/// Not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a share is a number from 0 to 1 with at most six decimals, such as 0.001")]
pub struct ShareError;

impl Share {
    /// Millionths in the whole.
    pub const WHOLE: u64 = 1_000_000;

    /// So many millionths; `None` beyond the whole.
    #[must_use]
    pub const fn of_millionths(millionths: u32) -> Option<Self> {
        if millionths as u64 > Self::WHOLE { None } else { Some(Self(millionths)) }
    }

    /// So many millionths, the whole at most.
    pub(crate) const fn per_million(millionths: u32) -> Self {
        Self(if millionths as u64 > Self::WHOLE { Self::WHOLE as u32 } else { millionths })
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// True for a share of nothing.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 1 || decimals.len() > 6 {
            return Err(ShareError);
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| ShareError);
        let scale = 10u32.pow(6 - decimals.len() as u32);
        let millionths = number(whole)? * 1_000_000 + number(decimals)? * scale;
        Self::of_millionths(millionths).ok_or(ShareError)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let decimals = format!("{rest:06}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            decimals => write!(f, "{whole}.{decimals}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_back_and_nothing_else_is_one() {
        for (text, millionths) in [
            ("0", 0),
            ("1", 1_000_000),
            ("0.001", 1_000),
            ("0.000001", 1),
            ("0.5", 500_000),
            ("0.999999", 999_999),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.millionths(), share.to_string().as_str()), (millionths, text));
        }
        assert_eq!("1.0".parse(), Ok(Share(1_000_000)));
        for text in ["", ".", "1.", ".5", "2", "1.000001", "-0.1", "+1", "0.0000001", "1e-3", "x"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError), "{text}");
        }
        assert_eq!(Share::of_millionths(1_000_001), None);
    }
}
