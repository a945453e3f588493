//! The connection of a command, and the catalog in force.

use millrace_catalog::Catalog;
use millrace_client::{Client, ClientOptions, Endpoints};

use super::Failure;
use crate::cli::Global;

/// A client for the addresses and limits of the command line. Connects when it first has to.
///
/// # Errors
/// [`Failure::Endpoint`] for an address that is none, [`Failure::Security`] for files that cannot be
/// used.
pub(super) fn client(global: &Global) -> Result<Client, Failure> {
    // A variable of the environment that is set to nothing is as good as unset.
    let stated = |endpoints: &[String]| -> Vec<String> {
        endpoints.iter().filter(|e| !e.is_empty()).cloned().collect()
    };
    let endpoints = Endpoints::single(&global.endpoint)
        .with_ingest(stated(&global.ingest_endpoint))
        .with_join(stated(&global.join_endpoint))
        .with_serving(stated(&global.serving_endpoint));
    let options = ClientOptions { call_timeout: global.timeout, ..ClientOptions::default() };
    Ok(Client::secure(&endpoints, options, &global.security.load()?)?)
}

/// The catalog in force; without streams and views before the first is applied.
///
/// # Errors
/// [`Failure::Client`], or [`Failure::CatalogNotUnderstood`] when it was made for a newer version.
pub(super) async fn catalog(client: &Client) -> Result<Catalog, Failure> {
    catalog_of(client, None).await
}

/// A version of the catalog, or the one in force.
///
/// # Errors
/// As [`catalog`].
pub(super) async fn catalog_of(client: &Client, version: Option<u32>) -> Result<Catalog, Failure> {
    let answer = client.get_catalog(version).await?;
    if answer.version == 0 {
        return Ok(Catalog::empty());
    }
    // Numbers of kinds and streams depend on older versions, and nothing here uses them across
    // catalogs.
    Catalog::compile(&answer.source, None).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        Failure::CatalogNotUnderstood(first)
    })
}
