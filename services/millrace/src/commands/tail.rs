//! `millrace tail`: the joined rows of a view as a changelog, one JSON object a line.

mod lines;

use std::io::{self, Write};

use millrace_client::ClientError;
use millrace_proto::v1;

pub use lines::{LineError, Lines};

use super::{Failure, session};
use crate::cli::{Global, OutputFormat, TailArgs, TailFrom};
use crate::exit::Exit;

/// Prints changes as they come; ends with `--until-idle`, or when its output is closed.
///
/// # Errors
/// [`Failure::Usage`] for a format it does not have, [`Failure::Client`] when it cannot begin,
/// [`Failure::TailBroken`] with where to go on.
pub async fn run(args: &TailArgs, global: &Global) -> Result<Exit, Failure> {
    match global.output {
        None | Some(OutputFormat::Json | OutputFormat::Ndjson) => {}
        Some(OutputFormat::Table | OutputFormat::Csv) => {
            return Err(Failure::Usage {
                message: "tail prints one JSON object a line and nothing else".to_owned(),
                next: "leave -o out, or shape the lines with jq".to_owned(),
            });
        }
    }
    let client = session::client(global)?;
    let mut changes = client.subscribe(request(args)).await?;
    let mut lines = Lines::default();
    if let TailFrom::Cursor(cursor) = &args.from {
        lines.begin_at(cursor);
    }
    loop {
        let message = match changes.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Exit::Done),
            Err(source) if source.is_retryable() || is_away(&source) => {
                return Err(Failure::TailBroken { cursor: lines.cursor().to_owned(), source });
            }
            Err(error) => return Err(error.into()),
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let written = lines.write(message, &mut out);
        out.flush()?;
        written.map_err(|error| match error {
            LineError::Change(error) => Failure::Answer(error),
            LineError::Output(error) => Failure::Output(error),
        })?;
        if args.until_idle && lines.caught_up() {
            return Ok(Exit::Done);
        }
    }
}

/// Whether the service was tried for as long as a call may try, without an answer.
fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::NotReachable { .. })
}

fn request(args: &TailArgs) -> v1::SubscribeRequest {
    use v1::subscribe_request::From;
    v1::SubscribeRequest {
        view: args.view.clone(),
        until_idle: args.until_idle,
        from: Some(match &args.from {
            TailFrom::Start => From::Start(v1::SubscribeStart::Beginning.into()),
            TailFrom::Now => From::Start(v1::SubscribeStart::Now.into()),
            TailFrom::Cursor(cursor) => From::Cursor(cursor.clone()),
        }),
    }
}
