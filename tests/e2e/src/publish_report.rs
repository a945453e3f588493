//! What `millrace publish -o json` reports.

use serde_json::Value;

use crate::{Finished, HarnessError};

/// The counts of the verdicts and the exceptions one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishReport {
    /// Facts sent.
    pub sent: u64,
    /// ACCEPTED.
    pub accepted: u64,
    /// REPAIRED.
    pub repaired: u64,
    /// DUPLICATE.
    pub duplicate: u64,
    /// LATE.
    pub late: u64,
    /// REJECTED.
    pub rejected: u64,
    /// Rows retracted by the repaired facts.
    pub rows_repaired: u64,
    /// REJECTED and LATE facts and conflicts: objects with stream, line, id, verdict, reason and
    /// message.
    pub exceptions: Vec<Value>,
}

impl PublishReport {
    /// Reads the report of a `publish` that ended with 0, or with 3 when facts were refused or late.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Answer`] when it ended otherwise, when a field is missing, when the verdicts
    /// do not add up to the facts sent, or when the exit code does not fit them.
    pub fn read(finished: &Finished) -> Result<Self, HarnessError> {
        let wrong = |problem: &str| HarnessError::Answer {
            what: finished.program.clone(),
            problem: problem.to_owned(),
            output: format!("--- stdout\n{}\n--- stderr\n{}", finished.stdout, finished.stderr),
        };
        if ![0, 3].contains(&finished.code) {
            return Err(wrong(&format!("exit code {}", finished.code)));
        }
        let json = finished.json()?;
        let count = |name: &str| {
            json[name].as_u64().ok_or_else(|| wrong(&format!("`{name}` is not a count")))
        };
        let report = Self {
            sent: count("sent")?,
            accepted: count("accepted")?,
            repaired: count("repaired")?,
            duplicate: count("duplicate")?,
            late: count("late")?,
            rejected: count("rejected")?,
            rows_repaired: count("rows_repaired")?,
            exceptions: json["exceptions"]
                .as_array()
                .cloned()
                .ok_or_else(|| wrong("`exceptions` is not a list"))?,
        };
        if !json["seconds"].is_number() {
            return Err(wrong("`seconds` is not a number"));
        }
        if report.verdicts() != report.sent {
            return Err(wrong("the verdicts do not add up to the facts sent"));
        }
        if (finished.code == 3) != (report.rejected + report.late > 0) {
            return Err(wrong("the exit code does not fit the verdicts"));
        }
        Ok(report)
    }

    /// The sum of the verdicts.
    #[must_use]
    pub fn verdicts(&self) -> u64 {
        self.accepted + self.repaired + self.duplicate + self.late + self.rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(code: i32, accepted: u64, rejected: u64) -> Finished {
        let stdout = serde_json::json!({
            "sent": 3, "accepted": accepted, "repaired": 1, "duplicate": 0, "late": 0,
            "rejected": rejected, "rows_repaired": 2, "seconds": 0.5, "exceptions": [],
        });
        Finished {
            program: "millrace publish".to_owned(),
            code,
            stdout: stdout.to_string(),
            stderr: String::new(),
        }
    }

    #[test]
    fn a_report_is_read_and_held_to_its_own_sum() {
        let report = PublishReport::read(&finished(0, 2, 0)).expect("in order");
        assert_eq!((report.sent, report.accepted, report.rows_repaired), (3, 2, 2));
        assert!(PublishReport::read(&finished(0, 1, 0)).is_err(), "does not add up");
        assert!(PublishReport::read(&finished(0, 1, 1)).is_err(), "should exit with 3");
        assert!(PublishReport::read(&finished(3, 2, 0)).is_err(), "should exit with 0");
        assert!(PublishReport::read(&finished(1, 2, 0)).is_err(), "failed");
    }
}
