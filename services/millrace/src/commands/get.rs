//! `millrace get`: the features of entities at an instant.

mod hint;
pub(crate) mod keys;
mod report;

use std::io::{self, Write};

use millrace_proto::convert::to_timestamp;
use millrace_proto::v1;
use millrace_types::EntityKey;

pub use keys::KeyArgumentError;
pub(super) use keys::parse as parse_key;
pub use report::{GetReport, GetRow, JsonCell, JsonVersion, JsonWindow};

use super::{Failure, session};
use crate::cli::{GetArgs, Global, ReadInstant};
use crate::exit::Exit;
use crate::output::Printer;

/// Reads features and prints them.
///
/// # Errors
/// [`Failure::UnknownView`], [`Failure::Key`], [`Failure::Client`].
pub async fn run(args: &GetArgs, global: &Global, printer: Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    let catalog = session::catalog(&client).await?;
    let view = catalog.view(&args.view).ok_or_else(|| Failure::UnknownView {
        view: args.view.clone(),
        known: catalog.views.iter().map(|v| v.name.clone()).collect(),
    })?;
    let kind = catalog.kind(view.entity).ok_or_else(|| {
        Failure::CatalogNotUnderstood(format!("view {} has an unknown entity", view.name))
    })?;
    let keys: Vec<EntityKey> =
        args.keys.iter().map(|key| keys::parse(key, kind)).collect::<Result<_, _>>()?;
    let answer = client.get_features(request(args, &keys)).await?;
    let report = GetReport::new(&args.view, keys, &answer)?;
    printer.print(&report)?;
    if let Some(hint) = hint::of(&report, view, args.at) {
        writeln!(io::stderr().lock(), "hint: {hint}")?;
    }
    Ok(Exit::Done)
}

fn request(args: &GetArgs, keys: &[EntityKey]) -> v1::GetFeaturesRequest {
    use v1::get_features_request::Instant;
    let known_at = match args.known_at {
        // Everything confirmed is what is known now, and no clock has to agree with the server's.
        None | Some(ReadInstant::Now | ReadInstant::Latest) => None,
        Some(ReadInstant::At(instant)) => Some(to_timestamp(instant)),
    };
    v1::GetFeaturesRequest {
        view: args.view.clone(),
        entities: keys.iter().map(Into::into).collect(),
        features: args.features.clone(),
        known_at,
        instant: Some(match args.at {
            ReadInstant::Now => Instant::Moment(v1::Moment::Now.into()),
            ReadInstant::Latest => Instant::Moment(v1::Moment::Latest.into()),
            ReadInstant::At(instant) => Instant::At(to_timestamp(instant)),
        }),
    }
}
