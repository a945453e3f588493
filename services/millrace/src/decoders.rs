//! Decoders of arguments and settings, which are private otherwise, for the fuzz targets.

use millrace_catalog::Kind;
use millrace_types::EntityKey;

use crate::commands::get::keys;
use crate::serve::ServeKeys;

/// Reads an entity key as `get` takes it.
#[must_use]
pub fn entity_key(text: &str, kind: &Kind) -> Option<EntityKey> {
    keys::parse(text, kind).ok()
}

/// Reads the configuration file of a service; true when it was taken.
#[must_use]
pub fn settings(text: &str) -> bool {
    toml::from_str::<ServeKeys>(text).is_ok()
}
