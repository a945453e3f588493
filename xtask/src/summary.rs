//! What is printed at the end: a table of the stages and the sum of the test runners' own lines.

use std::fmt::Write;
use std::time::Duration;

use crate::stage::Stage;

/// How a stage went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// A stage it needs failed.
    LeftOut,
}

/// The sum of every `test result:` line seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were not run because they are marked so, or filtered out.
    pub(crate) left_out: u64,
}

impl Totals {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered
    /// out; finished in 0.00s`; other lines are none of its business.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        let counts = counts.split_once(". ").map_or(counts, |(_, counts)| counts);
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" | "filtered out" => self.left_out += number,
                _ => {}
            }
        }
    }

    /// The sum in the form of the runner's own closing line, then in plain words.
    pub(crate) fn closing_lines(&self, took: Duration) -> String {
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        format!(
            "test result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered \
             out; finished in {:.2}s\n{} passed, {} failed",
            self.passed,
            self.failed,
            self.left_out,
            took.as_secs_f64(),
            self.passed,
            self.failed
        )
    }
}

/// The table of the stages.
pub(crate) fn table(rows: &[(Stage, Outcome, Duration)]) -> String {
    let mut text = String::new();
    for (stage, outcome, took) in rows {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::LeftOut => "left out: a stage it needs failed",
        };
        let seconds = took.as_secs_f64();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<8} {seconds:>7.1} s  {word}", stage.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_add_up() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 9.10s",
        ] {
            totals.add_line(line);
        }
        assert_eq!(totals, Totals { passed: 43, failed: 2, left_out: 6 });
        let closing = totals.closing_lines(Duration::from_millis(1500));
        assert!(closing.starts_with("test result: FAILED. 43 passed; 2 failed;"), "{closing}");
        assert!(closing.ends_with("\n43 passed, 2 failed"), "{closing}");
    }
}
