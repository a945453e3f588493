//! Checking what fjall takes on trust: the manifest of a keyspace, which lists its tables and blob
//! files. fjall sums it when it is written and never looks at the sum; a flipped bit there ends in
//! a panic, or in tables that are taken for orphans and deleted.
//!
//! This reads format 3: `current` is `version u64 · xxh3 of the manifest u128 · 0`, little-endian;
//! the manifest is the file `v` and that version.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

/// What is wrong with a manifest, and in which file of the keyspace.
#[derive(Debug)]
pub(crate) enum ManifestError {
    /// Its bytes are not what was written, or it is not there.
    Damaged(String, &'static str),
    /// The operating system refused to read it.
    Io(String, io::Error),
}

/// Checks the manifest of the keyspace in this folder.
pub(crate) fn check(keyspace: &Path) -> Result<(), ManifestError> {
    let read = |file: &str| {
        fs::read(keyspace.join(file)).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                ManifestError::Damaged(file.to_owned(), "is missing")
            } else {
                ManifestError::Io(file.to_owned(), error)
            }
        })
    };
    let damaged = |file: String| ManifestError::Damaged(file, "does not match its checksum");
    let current = read("current")?;
    let Ok(current) = <[u8; 25]>::try_from(current) else {
        return Err(ManifestError::Damaged("current".to_owned(), "is cut off"));
    };
    let (Some((version, sum)), [.., 0]) = (current.split_first_chunk(), current) else {
        return Err(damaged("current".to_owned()));
    };
    let file = format!("v{}", u64::from_le_bytes(*version));
    let manifest = read(&file)?;
    if xxh3_128(&manifest).to_le_bytes() != sum[..16] {
        return Err(damaged(file));
    }
    Ok(())
}
