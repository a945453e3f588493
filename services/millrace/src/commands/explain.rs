//! `millrace explain`: the facts behind a value, and those left out with the reason.

mod report;

use std::io::{self, Write};

use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;

pub use report::{ExplainReport, ExplainedRow, MetRow};

use super::get::parse_key;
use super::{Failure, session};
use crate::cli::{ExplainArgs, Global, ReadInstant};
use crate::exit::Exit;
use crate::output::Printer;

/// Explains a value and prints the explanation.
///
/// # Errors
/// [`Failure::UnknownView`], [`Failure::Key`], [`Failure::Client`], [`Failure::Answer`].
pub async fn run(args: &ExplainArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let catalog = session::catalog(&client).await?;
    let view = catalog.view(&args.view).ok_or_else(|| Failure::UnknownView {
        view: args.view.clone(),
        known: catalog.views.iter().map(|v| v.name.clone()).collect(),
    })?;
    let kind = catalog.kind(view.entity).ok_or_else(|| {
        Failure::CatalogNotUnderstood(format!("view {} has an unknown entity", view.name))
    })?;
    let key = parse_key(&args.entity, kind)?;
    let request = request(args, (&key).into());
    let report = ExplainReport::new(&args.view, key, &client.explain(request).await?)?;
    printer.print(&report)?;
    if report.is_cut() {
        writeln!(io::stderr().lock(), "hint: not every fact is listed; list more with --limit N")?;
    }
    Ok(Exit::Done)
}

fn request(args: &ExplainArgs, entity: v1::EntityKey) -> v1::ExplainRequest {
    use v1::explain_request::Instant;
    let known_at = match args.known_at {
        // As in `get`.
        None | Some(ReadInstant::Now | ReadInstant::Latest) => None,
        Some(ReadInstant::At(instant)) => Some(to_timestamp(instant)),
    };
    v1::ExplainRequest {
        view: args.view.clone(),
        entity: Some(entity),
        feature: args.feature.clone(),
        known_at,
        max_facts: args.limit,
        instant: Some(match args.at {
            ReadInstant::Now => Instant::Moment(v1::Moment::Now.into()),
            ReadInstant::Latest => Instant::Moment(v1::Moment::Latest.into()),
            ReadInstant::At(instant) => Instant::At(to_timestamp(instant)),
        }),
    }
}
