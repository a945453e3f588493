//! `millrace erase`: an entity is erased for good, and what was scrubbed is told.

mod report;

use std::io::{self, Write};
use std::time::Duration;

use millrace_catalog::Catalog;
use millrace_proto::v1;

pub use report::EraseReport;

use super::get::keys;
use super::{Failure, session};
use crate::cli::{EraseArgs, Global};
use crate::exit::Exit;
use crate::output::Printer;

/// How often it is asked how far the slots are.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Erases an entity, waits until every slot is scrubbed, and prints the receipt.
///
/// # Errors
/// [`Failure::UnknownKind`], [`Failure::Key`], [`Failure::Client`], [`Failure::Answer`].
pub async fn run(args: &EraseArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let catalog: Catalog = session::catalog(&client).await?;
    let kind =
        catalog.kinds.iter().find(|k| k.name == args.kind).ok_or_else(|| Failure::UnknownKind {
            kind: args.kind.clone(),
            known: catalog.kinds.iter().map(|k| k.name.clone()).collect(),
        })?;
    let key = keys::parse(&args.key, kind)?;
    let request = v1::EraseEntityRequest { entity: args.kind.clone(), key: Some((&key).into()) };
    let answer = loop {
        let answer = client.erase_entity(request.clone()).await?;
        if answer.is_done || args.no_wait {
            break answer;
        }
        // Nobody tells when the slots are done; they are asked for.
        tokio::time::sleep(ASK_EVERY).await;
    };
    let report = EraseReport::new(&args.kind, key, &answer)?;
    printer.print(&report)?;
    if !report.done {
        let hint = "hint: slots are still being scrubbed; the same command again tells how far";
        writeln!(io::stderr().lock(), "{hint}")?;
    }
    Ok(Exit::Done)
}
