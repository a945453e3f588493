//! What became of the facts of a `millrace publish`.

use std::io::{self, Write};
use std::ops::AddAssign;

use millrace_types::VerdictCounts;
use serde::Serialize;

use crate::output::{Report, Table};

/// Exceptions listed at most.
pub const EXCEPTIONS_MAX: usize = 1_000;
/// Exceptions shown at most in a table.
const EXCEPTIONS_SHOWN: usize = 20;

/// The counts and exceptions of some facts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Facts sent, rejected ones included: the sum of the verdicts.
    pub sent: u64,
    /// New, and changed no row emitted before.
    pub accepted: u64,
    /// Changed rows emitted before, or will when their entity is rebuilt.
    pub repaired: u64,
    /// Known already.
    pub duplicate: u64,
    /// Held, behind the repair horizon.
    pub late: u64,
    /// Refused.
    pub rejected: u64,
    /// Rows retracted by the repaired facts.
    pub rows_repaired: u64,
    /// Of the repaired facts, those whose entity waits for a rebuild.
    pub queued: u64,
    /// How long it took.
    pub seconds: f64,
    /// REJECTED and LATE facts and conflicts, the first [`EXCEPTIONS_MAX`].
    pub exceptions: Vec<ExceptionLine>,
    /// Exceptions beyond those listed.
    pub exceptions_omitted: u64,
}

/// A fact that needs attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExceptionLine {
    /// Its stream.
    pub stream: String,
    /// Its file.
    pub file: String,
    /// Its line.
    pub line: u64,
    /// Its id; empty where it could not be read.
    pub id: String,
    /// REJECTED, LATE, or CONFLICT for a fact that was stored although another payload of the same
    /// id and revision is known.
    pub verdict: &'static str,
    /// Why it was REJECTED; otherwise `null`.
    pub reason: Option<&'static str>,
    /// The field to blame, where one is.
    pub field: Option<String>,
    /// What is wrong, with file, line, field and rule.
    pub message: String,
}

impl Summary {
    /// No facts.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            sent: 0,
            accepted: 0,
            repaired: 0,
            duplicate: 0,
            late: 0,
            rejected: 0,
            rows_repaired: 0,
            queued: 0,
            seconds: 0.0,
            exceptions: Vec::new(),
            exceptions_omitted: 0,
        }
    }

    /// Adds the verdicts of more facts.
    pub fn count(&mut self, counts: VerdictCounts) {
        self.sent += counts.total();
        self.accepted += counts.accepted;
        self.repaired += counts.repaired;
        self.duplicate += counts.duplicate;
        self.late += counts.late;
        self.rejected += counts.rejected;
        self.rows_repaired += counts.rows_repaired;
        self.queued += counts.queued;
    }

    /// Lists an exception while there is room.
    pub fn list(&mut self, exception: ExceptionLine) {
        if self.exceptions.len() < EXCEPTIONS_MAX {
            self.exceptions.push(exception);
        } else {
            self.exceptions_omitted += 1;
        }
    }

    /// True when facts were rejected or late: the command ends with exit code 3.
    #[must_use]
    pub fn refused_some(&self) -> bool {
        self.rejected + self.late > 0
    }
}

/// Adds another file's facts; the seconds are left to whoever measures them.
impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.repaired += other.repaired;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.rejected += other.rejected;
        self.rows_repaired += other.rows_repaired;
        self.queued += other.queued;
        self.exceptions_omitted += other.exceptions_omitted;
        other.exceptions.into_iter().for_each(|exception| self.list(exception));
    }
}

impl Report for Summary {
    fn write_table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["verdict", "facts", ""]);
        let mut row = |verdict: &str, facts: u64, remark: String| {
            table.push(vec![verdict.to_owned(), facts.to_string(), remark]);
        };
        row("ACCEPTED", self.accepted, String::new());
        let queued = match self.queued {
            0 => String::new(),
            n => format!(", {n} wait for a rebuild"),
        };
        let rows = format!("{} rows changed{queued}", self.rows_repaired);
        row("REPAIRED", self.repaired, if self.repaired > 0 { rows } else { String::new() });
        row("DUPLICATE", self.duplicate, String::new());
        row("LATE", self.late, String::new());
        row("REJECTED", self.rejected, String::new());
        row("sent", self.sent, format!("in {:.1} s", self.seconds));
        table.write_framed(out, &[1])?;
        for exception in self.exceptions.iter().take(EXCEPTIONS_SHOWN) {
            let reason = exception.reason.map(|r| format!(" {r}")).unwrap_or_default();
            writeln!(out, "{}{reason}: {}", exception.verdict, exception.message)?;
        }
        let listed = self.exceptions.len().min(EXCEPTIONS_SHOWN) as u64;
        match self.exceptions.len() as u64 + self.exceptions_omitted - listed {
            0 => Ok(()),
            more => writeln!(out, "and {more} more; -o json lists the first {EXCEPTIONS_MAX}"),
        }
    }

    /// The counts alone, as one row.
    fn csv(&self) -> Table {
        let mut table = Table::new(&[
            "sent",
            "accepted",
            "repaired",
            "duplicate",
            "late",
            "rejected",
            "rows_repaired",
            "queued",
            "seconds",
        ]);
        let counts = [
            self.sent,
            self.accepted,
            self.repaired,
            self.duplicate,
            self.late,
            self.rejected,
            self.rows_repaired,
            self.queued,
        ];
        let mut row: Vec<String> = counts.iter().map(u64::to_string).collect();
        row.push(self.seconds.to_string());
        table.push(row);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(line: u64) -> ExceptionLine {
        ExceptionLine {
            stream: "clicks".into(),
            file: "clicks.csv".into(),
            line,
            id: "e7".into(),
            verdict: "REJECTED",
            reason: Some("BAD_ROW"),
            field: Some("price".into()),
            message: format!("clicks.csv:{line}: field price: \"abc\" is not a double"),
        }
    }

    fn summary() -> Summary {
        let mut summary = Summary::empty();
        summary.count(VerdictCounts {
            accepted: 7,
            repaired: 2,
            queued: 1,
            rejected: 1,
            rows_repaired: 5,
            ..VerdictCounts::default()
        });
        summary.list(exception(17));
        summary.seconds = 0.25;
        summary
    }

    #[test]
    fn json_is_what_scripts_hold_on_to() {
        assert_eq!(
            serde_json::to_string(&summary()).unwrap(),
            "{\"sent\":10,\"accepted\":7,\"repaired\":2,\"duplicate\":0,\"late\":0,\"rejected\":1,\
             \"rows_repaired\":5,\"queued\":1,\"seconds\":0.25,\"exceptions\":[{\"stream\":\"clicks\",\
             \"file\":\"clicks.csv\",\"line\":17,\"id\":\"e7\",\"verdict\":\"REJECTED\",\
             \"reason\":\"BAD_ROW\",\"field\":\"price\",\"message\":\"clicks.csv:17: field price: \
             \\\"abc\\\" is not a double\"}],\"exceptions_omitted\":0}"
        );
    }

    #[test]
    fn the_first_thousand_exceptions_are_listed_and_the_rest_counted() {
        let mut summary = summary();
        let mut other = Summary::empty();
        (0..1_005).for_each(|line| other.list(exception(line)));
        assert_eq!((other.exceptions.len(), other.exceptions_omitted), (1_000, 5));
        summary += other;
        assert_eq!((summary.exceptions.len(), summary.exceptions_omitted), (1_000, 6));
        assert_eq!(summary.exceptions[0].line, 17);
    }

    #[test]
    fn tables_show_counts_and_the_first_exceptions() {
        let mut text = Vec::new();
        summary().write_table(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("REPAIRED"), "{text}");
        assert!(text.contains("5 rows changed, 1 wait for a rebuild"), "{text}");
        assert!(
            text.ends_with(
                "REJECTED BAD_ROW: clicks.csv:17: field price: \"abc\" is not a double\n"
            ),
            "{text}"
        );
    }
}
