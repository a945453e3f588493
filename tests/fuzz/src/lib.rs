//! Fuzz targets for every decoder that reads what comes from outside: the log and the stores, the
//! protocol and its frames, files, catalogs, and the texts of flags, cursors and settings.
//!
//! A target is a function of bytes. Whatever they are it must not panic, overflow or take memory out of
//! proportion, and what decodes must come back the same once encoded. `cargo xtask test` runs each of
//! them under libFuzzer for a while; the tests of this package run them on their seeds and on damaged
//! copies of these, without libFuzzer.

mod catalogs;
mod files;
mod frames;
mod history;
mod log;
mod protocol;
mod snapshot;
mod spine;
mod store;
mod text;

/// One decoder, or a few that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Valid inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Decodes; true when the bytes were taken for valid.
    pub run: fn(&[u8]) -> bool,
    /// True where a library that it calls may panic, and it makes an error of that.
    pub may_panic_inside: bool,
}

const fn target(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8]) -> bool) -> Target {
    Target { name, seeds, run, may_panic_inside: false }
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    target("chunk", log::seeds, log::chunk),
    target("head", snapshot::seeds, snapshot::head),
    target("row", store::seeds, store::row),
    target("journal", store::journal_seeds, store::journal),
    target("frames", frames::seeds, frames::frames),
    target("message", protocol::seeds, protocol::message),
    target("arrow", protocol::arrow_seeds, protocol::arrow),
    target("catalog", catalogs::seeds, catalogs::catalog),
    target("csv", files::csv_seeds, files::csv),
    target("ndjson", files::ndjson_seeds, files::ndjson),
    Target { may_panic_inside: true, ..target("parquet", files::parquet_seeds, files::parquet) },
    Target { may_panic_inside: true, ..target("spine", spine::seeds, spine::spine) },
    target("text", text::seeds, text::text),
];
