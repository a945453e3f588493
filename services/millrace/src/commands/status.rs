//! `millrace status`: whether Millrace serves, and how far it is.

mod nodes;
mod report;

pub use nodes::{JoinNodeReport, LeaseReport, UnownedReport, UnreachableReport};
pub use report::{SlotReport, StatusReport};

use super::{Failure, session};
use crate::cli::{Global, OutputFormat, StatusArgs};
use crate::exit::Exit;
use crate::output::Printer;

/// Prints the state.
///
/// # Errors
/// [`Failure::NotServing`] after it was printed, [`Failure::Client`].
pub async fn run(args: &StatusArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let include_slots = match printer.format() {
        OutputFormat::Table => args.slots,
        OutputFormat::Json | OutputFormat::Ndjson | OutputFormat::Csv => true,
    };
    let report = StatusReport::try_from(&client.status(include_slots).await?)?;
    printer.print(&report)?;
    if report.serving { Ok(Exit::Done) } else { Err(Failure::NotServing) }
}
