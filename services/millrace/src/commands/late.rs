//! `millrace late`: the LATE facts of a stream, listed and replayed.

mod report;

use std::io::{self, Write};

use millrace_proto::v1;
use millrace_types::VerdictCounts;

pub use report::{LateListReport, LateReplayReport, LateRow};

use super::{Failure, session};
use crate::cli::{Global, LateCommand, LateListArgs, LateReplayArgs};
use crate::exit::Exit;
use crate::output::Printer;

/// Facts asked for in one call.
const PAGE: u32 = 1_000;

/// Lists or replays LATE facts.
///
/// # Errors
/// [`Failure::Client`], [`Failure::Answer`].
pub async fn run(
    command: &LateCommand,
    global: &Global,
    printer: Printer,
) -> Result<Exit, Failure> {
    match command {
        LateCommand::List(args) => list(args, global, printer).await,
        LateCommand::Replay(args) => replay(args, global, printer).await,
    }
}

async fn list(args: &LateListArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let mut report = LateListReport::new(&args.stream);
    let mut cursor = args.cursor.clone().unwrap_or_default();
    loop {
        let left = args.limit - report.facts.len() as u32;
        let answer = client
            .list_late_facts(v1::ListLateFactsRequest {
                stream: args.stream.clone(),
                page_size: left.min(PAGE),
                cursor,
                pending_only: args.pending,
            })
            .await?;
        report.add(&answer)?;
        cursor = answer.next_cursor;
        if cursor.is_empty() || report.facts.len() as u32 >= args.limit {
            break;
        }
    }
    report.next_cursor = (!cursor.is_empty()).then_some(cursor);
    printer.print(&report)?;
    if let Some(cursor) = &report.next_cursor {
        writeln!(io::stderr().lock(), "hint: there may be more; go on with --cursor {cursor}")?;
    }
    Ok(Exit::Done)
}

async fn replay(args: &LateReplayArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let mut counts = VerdictCounts::default();
    let mut cursor = String::new();
    loop {
        let answer = client
            .replay_late_facts(v1::ReplayLateFactsRequest {
                stream: args.stream.clone(),
                page_size: PAGE,
                cursor,
            })
            .await?;
        counts += answer.counts.unwrap_or_default().into();
        cursor = answer.next_cursor;
        if cursor.is_empty() {
            break;
        }
    }
    printer.print(&LateReplayReport::new(&args.stream, counts))?;
    Ok(if counts.late > 0 { Exit::Refused } else { Exit::Done })
}
